"""The disk is full, or takes no larger files: no acknowledgement, no crash, and it mends itself."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.crash.accounts import assert_nothing_extra, assert_sound
from tests.crash.disk import fill
from tests.crash.expected import Expected
from tests.crash.failing import assert_resumes, suffers, wait_refused, writing
from tests.crash.service import Service

_MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("store", "parts"), [("duckdb", ("journal", "applier")), ("sql", ("database",))]
)
def test_a_full_disk(
    service_on_small_disk: Service, seed: int, store: str, parts: tuple[str, ...]
) -> None:
    """Not a byte is left: commits that are begun fail, and are rolled back.

    What one file gives back the other may take, so either may be the one that fails.
    """
    service = service_on_small_disk
    service.set(store=store, disk_free_bytes_min=0)
    ballast = service.data.parent / "ballast"
    expected = suffers(service, seed, lambda: fill(ballast, leave_bytes=0), ballast.unlink, *parts)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def test_a_full_disk_and_a_run_that_is_due(service_on_small_disk: Service, seed: int) -> None:
    """Neither file of the hourly store can grow; what is refused is not counted, and what is
    acknowledged all the same, in the room that is left, is."""
    service = service_on_small_disk
    service.set(disk_free_bytes_min=0, store="hourly", aggregate_interval_s=0.05)
    ballast = service.data.parent / "ballast"
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        fill(ballast, leave_bytes=0)
        wait_refused(writers)
        assert_nothing_extra(service, expected)
        ballast.unlink()
        assert_resumes(service, writers, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


@pytest.mark.parametrize("store", ["duckdb", "hourly", "sql"])
def test_a_nearly_full_disk(service_on_small_disk: Service, seed: int, store: str) -> None:
    """Some MiB are left: enough for the commits under way, too few to begin another."""
    service = service_on_small_disk
    service.set(store=store, aggregate_interval_s=0.05)
    ballast = service.data.parent / "ballast"
    expected = suffers(
        service, seed, lambda: fill(ballast, leave_bytes=24 * _MIB), ballast.unlink, "disk"
    )
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


@pytest.mark.parametrize("store", ["duckdb", "sql"])
def test_killed_while_the_disk_is_full(
    service_on_small_disk: Service, seed: int, store: str
) -> None:
    """A start on a full disk serves or ends with the reason, and nothing is lost afterwards."""
    service = service_on_small_disk
    service.set(store=store)
    ballast = service.data.parent / "ballast"
    # A commit may find out before the disk is looked at.
    parts = ("disk", "journal", "database")
    expected = suffers(service, seed, lambda: fill(ballast, leave_bytes=0), ballast.unlink, *parts)
    fill(ballast, leave_bytes=0)
    service.kill()
    service.start()
    service.wait_refusing()
    service.kill()
    ballast.unlink()
    service.start_ready()
    service.stop()
    assert_sound(service.data, expected)


@pytest.mark.parametrize(("store", "part"), [("duckdb", "journal"), ("sql", "database")])
def test_a_limit_on_the_size_of_files(service: Service, seed: int, store: str, part: str) -> None:
    """What a quota does: the file system has room, the file may not grow."""
    service.set(store=store)
    expected = suffers(
        service,
        seed,
        lambda: service.limit(resource.RLIMIT_FSIZE, _largest_bytes(service.data) // 2),
        lambda: service.unlimit(resource.RLIMIT_FSIZE),
        part,
    )
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def _largest_bytes(data: Path) -> int:
    return max(path.stat().st_size for path in data.iterdir())
