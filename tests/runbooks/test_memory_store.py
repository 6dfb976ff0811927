"""The memory store: as full as it may be, and without room for its snapshots."""

from __future__ import annotations

from tests.crash.disk import fill
from tests.crash.service import READY_S_MAX, wait_for
from tests.runbooks.incident import Incident


def test_memory_store_full(incident: Incident) -> None:
    """It may hold a few flows; whoever follows the page lets it hold more."""
    settings = incident.home / "flowtally.toml"
    settings.write_text('store = "memory"\nsnapshot_interval_s = 1\nmemory_flows_max = 30\n')
    incident.service.set(settings_file=str(settings))
    incident.service.start_ready()
    incident.refused()
    incident.follow()


def test_snapshot_failed(incident_on_small_disk: Incident) -> None:
    """Another file has taken all of the disk. When the page has been followed, even a kill loses
    nothing of what was acknowledged meanwhile."""
    incident = incident_on_small_disk
    service = incident.service
    service.set(store="memory", snapshot_interval_s=0.5)
    service.start_ready()
    incident.post()
    wait_for((service.data / "memory.parquet").exists, READY_S_MAX, "no snapshot is taken")
    fill(incident.home / "old-dump.sql", leave_bytes=0)
    incident.post()
    incident.follow()
    service.kill()
    service.start_ready()
