"""Killed at every named step of the work: each is a safe place to die.

The process kills itself at a drawn occurrence of the step, so that it dies there and nowhere else.
"""

from __future__ import annotations

import random

import pytest

from flowtally.steps import STEPS
from tests.crash.accounts import assert_exact, assert_sound
from tests.crash.calls import get
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.crash.writers import Writers

_WRITERS = 4
_DAY_MS = 24 * 3_600_000
_KILLED = -9
_INTERVAL_S = 0.05


_STORES = (
    ("duckdb", ("commit.", "apply.", "discard.", "compact.", "checkpoint.")),
    ("hourly", ("aggregate.", "discard.")),
)
"""What commits is the same in both."""


def test_every_step_is_died_at() -> None:
    """Those of the memory store's snapshots have tests of their own."""
    named = [*(prefix for _, prefixes in _STORES for prefix in prefixes), "expire.", "snapshot."]
    assert [step for step in STEPS if not step.startswith(tuple(named))] == []


@pytest.mark.parametrize(
    ("store", "step"),
    [(store, step) for store, prefixes in _STORES for step in STEPS if step.startswith(prefixes)],
)
def test_dies_at(service: Service, seed: int, store: str, step: str) -> None:
    """Two deaths at the step, then life goes on, and every sum is exact."""
    service.set(store=store, aggregate_interval_s=_INTERVAL_S)
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
    assert_sound(service.data, expected)


@pytest.mark.parametrize("store", ["duckdb", "hourly"])
@pytest.mark.parametrize("step", [step for step in STEPS if step.startswith("expire.")])
def test_dies_at_expiry(service: Service, seed: int, store: str, step: str) -> None:
    """What is old is gone once and wholly, what is new stays, and the ledger knows both."""
    service.set(store=store, aggregate_interval_s=_INTERVAL_S)
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
    assert_sound(service.data)


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
