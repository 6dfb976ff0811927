"""The disk: full, failing."""

from __future__ import annotations

from pathlib import Path

from tests.crash.disk import fill
from tests.runbooks.incident import Incident


def test_disk_full(incident_on_small_disk: Incident) -> None:
    """Not a byte is left of it; what is in the way is a file beside the data folder."""
    incident = incident_on_small_disk
    incident.service.start_ready()
    incident.post()
    fill(incident.home / "old-dump.sql", leave_bytes=0)
    incident.refused()
    incident.follow()


def test_failed_sync(incident: Incident, faults_library: Path) -> None:
    """Of the journal. The disk is mended by hand, and that alone changes nothing."""
    mend = incident.start_with_failing_syncs(faults_library, "journal.sqlite")
    incident.follow(before={"systemctl restart": mend})
