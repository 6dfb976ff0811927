"""The room on the disk: a warning while there is time, then no more batches."""

from __future__ import annotations

import pytest

from flowtally import limits
from flowtally.clock import ManualClock
from flowtally.stores.disk_space import DiskSpace


@pytest.mark.parametrize(
    ("free_bytes", "state", "refuses"),
    [
        (limits.DISK_FREE_BYTES_WARNING, "ok", False),
        (limits.DISK_FREE_BYTES_WARNING - 1, "warning", False),
        (limits.DISK_FREE_BYTES_MIN, "warning", False),
        (limits.DISK_FREE_BYTES_MIN - 1, "error", True),
        (0, "error", True),
    ],
)
def test_it_warns_before_it_refuses(free_bytes: int, state: str, refuses: bool) -> None:
    disk = DiskSpace(lambda: free_bytes, ManualClock(), limits.DISK_FREE_BYTES_MIN)
    disk.look()
    [part] = disk.health()
    assert part.state == state
    assert part.hint == ("" if state == "ok" else "docs/runbooks/disk-full.md")
    assert (disk.refusing() is not None, disk.is_nearly_full) == (refuses, refuses)
    assert part.facts["free_bytes"] == free_bytes


def test_a_disk_of_another_machine_is_no_part() -> None:
    disk = DiskSpace(lambda: None, ManualClock(), 1)
    disk.look()
    assert disk.health() == ()
    assert disk.refusing() is None


def test_its_beat_is_the_last_look() -> None:
    clock = ManualClock()
    disk = DiskSpace(lambda: 1, clock, 0)
    clock.advance_ms(5_000)
    disk.look()
    clock.advance_ms(5_000)
    assert [part.beat_s for part in disk.health()] == [5.0]
