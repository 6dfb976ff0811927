"""Files and numbers in them that are not what they were: a backup takes their place."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

from flowtally.stores.sql.tables import tallies
from tests.runbooks.incident import Incident


def _backed_up(incident: Incident) -> None:
    """A stopped folder, with a backup of it from before its last batches."""
    incident.service.start_ready()
    incident.post()
    url = f"http://127.0.0.1:{incident.service.port}"
    command = [sys.executable, "-m", "flowtally.cli.main", "backup", "backup", "--url", url]
    subprocess.run(command, cwd=incident.home, check=True, capture_output=True)
    incident.post()
    assert incident.service.stop() == 0


def test_damaged_file(incident: Incident) -> None:
    """Some bytes of DuckDB's file are others."""
    _backed_up(incident)
    with (incident.service.data / "sums.duckdb").open("r+b") as file:
        file.seek(4_096)
        file.write(b"oops")
    incident.follow()
    incident.resend()


def test_imbalance(incident: Incident) -> None:
    """Somebody has changed a number in a file."""
    incident.service.set(store="sql")
    incident.environment["FLOWTALLY_STORE"] = "sql"
    _backed_up(incident)
    with closing(sqlite3.connect(incident.service.data / "flows.sqlite")) as connection:
        connection.execute(f"UPDATE {tallies.name} SET records = records + 3")
        connection.commit()
    incident.service.start_ready()
    incident.follow()
    incident.resend()


def test_restore(incident: Incident) -> None:
    """By choice, as for a rehearsal."""
    _backed_up(incident)
    incident.service.start_ready()
    incident.follow()
    incident.resend()
