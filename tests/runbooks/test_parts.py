"""Parts of a running service: stuck, failed, and a clock that was set."""

from __future__ import annotations

from pathlib import Path

from tests.crash.service import READY_S_MAX
from tests.crash.test_health import posting
from tests.runbooks.incident import Incident


def test_clock_jumped(incident: Incident) -> None:
    """Two hours ahead; somebody sets it right."""
    service = incident.service
    service.start_ready()
    incident.post()
    service.trouble(clock_ahead_ms=7_200_000)
    incident.post()
    incident.follow(before={"curl": service.trouble})


def test_part_stuck(incident: Incident) -> None:
    """A thread that goes no further in the middle of a commit: its batch was answered to nobody,
    and nothing of it is there after the kill."""
    service = incident.service
    service.start_ready()
    incident.post()
    service.trouble(block_at="commit.written")
    sender = posting(service)
    incident.follow(before={"systemctl start": service.kill})
    sender.join(READY_S_MAX)


def test_store_failed(incident: Incident, faults_library: Path) -> None:
    """Syncs of DuckDB's file fail until the disk is mended; then the same process goes on."""
    mend = incident.start_with_failing_syncs(faults_library, "sums.duckdb")
    incident.follow(before={"df": mend})
