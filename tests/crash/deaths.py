"""The stories of a death at a named step, told of any store on disk.

The process kills itself at a drawn occurrence of the step, so that it dies there and nowhere else.
"""

from __future__ import annotations

import random

from tests.crash.accounts import assert_exact, assert_service_sound
from tests.crash.calls import get
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.crash.writers import Writers

_WRITERS = 4
_DAY_MS = 24 * 3_600_000
_KILLED = -9


def dies_at(service: Service, seed: int, step: str) -> None:
    """Two deaths at the step, then life goes on, and every sum is exact."""
    draw = random.Random(seed)
    expected = Expected()
    writers = Writers(service.port, seed, expected, _WRITERS)
    writers.start()
    try:
        for _ in range(2):
            service.set(die_at=step, die_at_count=draw.randint(1, 3))
            service.start()
            _wait_killed(service, writers)
        service.set(die_at=None)
        service.start_ready()
        assert writers.wait_acknowledged(20, READY_S_MAX)
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_service_sound(service, expected)


def dies_at_expiry(service: Service, seed: int, step: str) -> None:
    """What is old is gone once and wholly, what is new stays, and the ledger knows both."""
    service.start_ready()
    old = Expected()
    _write(service, seed, old)
    service.kill()
    service.set(clock_ahead_ms=8 * _DAY_MS, die_at=step)
    service.start()
    assert service.wait_ended() == _KILLED, service.output()
    service.set(die_at=None)
    service.start_ready()
    wait_for(
        lambda: get(service.port, "/v1/hours").json()["hours"] == [], READY_S_MAX, "not expired"
    )
    new = Expected()
    _write(service, seed + 1, new)
    assert_exact(service, new, expired=old)
    assert service.stop() == 0, service.output()
    assert_service_sound(service)


def _wait_killed(service: Service, writers: Writers) -> None:
    wait_for(
        lambda: not service.is_alive() or bool(writers.counts.failures),
        READY_S_MAX,
        f"the step is not reached; {writers.counts}",
        service.output,
    )
    assert not writers.counts.failures, "\n".join(writers.counts.failures)
    assert service.wait_ended() == _KILLED, service.output()


def _write(service: Service, seed: int, expected: Expected) -> None:
    writers = Writers(service.port, seed, expected, _WRITERS)
    writers.start()
    try:
        assert writers.wait_acknowledged(20, READY_S_MAX)
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
