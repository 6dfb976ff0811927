"""The memory store: as full as it may be."""

from __future__ import annotations

from tests.runbooks.incident import Incident


def test_memory_store_full(incident: Incident) -> None:
    """It may hold a few flows; whoever follows the page lets it hold more."""
    settings = incident.home / "flowtally.toml"
    settings.write_text('store = "memory"\nsnapshot_interval_s = 1\nmemory_flows_max = 30\n')
    incident.service.set(settings_file=str(settings))
    incident.service.start_ready()
    incident.refused()
    incident.follow()
