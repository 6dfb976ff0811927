"""A folder that goes from one release to another, and back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.crash.accounts import assert_exact
from tests.releases.read_folders import ARCHIVES, unpack
from tests.runbooks.incident import Incident

_NEWER = 99
"""A format that no release has yet."""


def test_upgrade(incident: Incident) -> None:
    """The last release's own program wrote and left the folder. Going back is from a release to
    come, whose format the folder is given; what came since the copy is sent again."""
    written = unpack([*ARCHIVES][-1], "duckdb-stopped", incident.service.folder / "unpacked")
    written.folder.rename(incident.service.data)
    incident.service.set(clock_ahead_ms=written.clock_ahead_ms)
    incident.take_over(written.held)
    (incident.home / "flowtally.toml").write_text("retention_hours = 168\n")

    def use_the_new_one() -> None:
        incident.service.wait_ready()
        incident.post()
        assert_exact(incident.service, incident.expected)

    incident.follow(
        before={
            "curl -s http://127.0.0.1:8080/readyz": use_the_new_one,
            "flowtally verify --data newer": lambda: _make_newer(incident.home / "newer"),
        }
    )
    incident.resend()


def _make_newer(data: Path) -> None:
    with closing(sqlite3.connect(data / "journal.sqlite")) as connection:
        connection.execute(f"UPDATE state SET format = {_NEWER}")
        connection.commit()
