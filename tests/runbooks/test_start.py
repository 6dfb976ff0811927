"""A service that does not start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.crash.service import Service, running
from tests.runbooks.incident import Incident


def test_will_not_start(incident: Incident) -> None:
    """Another process has its folder, and a setting is wrong; it is started on a folder that was
    filled before."""
    incident.service.start_ready()
    incident.post()
    incident.service.stop()
    settings = incident.home / "flowtally.toml"
    settings.write_text("retention_hour = 24\n")
    with _another(incident):
        incident.follow()


@contextmanager
def _another(incident: Incident) -> Iterator[Service]:
    with running(Service(incident.service.folder / "other", incident.service.data)) as other:
        other.start_ready()
        yield other
