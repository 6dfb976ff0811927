"""A folder that cannot be written and descriptors that run out: the right answer, nothing lost."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.accounts import assert_exact, assert_sound
from tests.crash.expected import Expected
from tests.crash.failing import BEFORE, writing
from tests.crash.service import READY_S_MAX, Service, wait_for

_SPARE_DESCRIPTORS = 4


def test_a_read_only_folder(service_on_small_disk: Service, seed: int) -> None:
    """The start is refused and the folder named; afterwards everything is there."""
    service = service_on_small_disk
    expected = Expected()
    service.start_ready()
    with writing(service, seed, expected) as writers:
        writers.stop(READY_S_MAX)
    service.kill()
    with _read_only(service.data.parent):
        service.start()
        assert service.wait_ended() not in (0, -9)
        assert str(service.data) in service.output()
        assert "Traceback" not in service.output()
    service.start_ready()
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def test_too_few_descriptors(service: Service, seed: int) -> None:
    """Idle clients use up every descriptor: the process lives, and when they go it goes on."""
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        used = len(os.listdir(f"/proc/{service.pid}/fd"))
        service.limit(resource.RLIMIT_NOFILE, used + _SPARE_DESCRIPTORS)
        with _idle_clients(service.port, 2 * _SPARE_DESCRIPTORS):
            wait_for(
                lambda: len(os.listdir(f"/proc/{service.pid}/fd")) >= used + _SPARE_DESCRIPTORS - 1,
                READY_S_MAX,
                "the descriptors are not used up",
            )
            attempts = writers.counts.acknowledged + writers.counts.unavailable
            writers.wait_until(
                lambda counts: counts.acknowledged + counts.unavailable >= attempts + BEFORE,
                READY_S_MAX,
            )
            assert service.is_alive(), service.output()
        service.unlimit(resource.RLIMIT_NOFILE)
        assert writers.wait_acknowledged(BEFORE, READY_S_MAX), (writers.counts, service.output())
        writers.stop(READY_S_MAX)
    service.wait_ready()
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@contextmanager
def _idle_clients(port: int, count: int) -> Iterator[None]:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    try:
        yield
    finally:
        for client in clients:
            client.close()
