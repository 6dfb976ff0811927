"""The clock of a running service."""

from __future__ import annotations

from tests.runbooks.incident import Incident


def test_clock_jumped(incident: Incident) -> None:
    """Two hours ahead; somebody sets it right."""
    service = incident.service
    service.start_ready()
    incident.post()
    service.trouble(clock_ahead_ms=7_200_000)
    incident.post()
    incident.follow(before={"curl": service.trouble})
