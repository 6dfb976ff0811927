"""Killed at every named step of the work: each is a safe place to die."""

from __future__ import annotations

import pytest

from flowtally.steps import STEPS
from tests.crash.deaths import dies_at, dies_at_expiry
from tests.crash.service import Service

_INTERVAL_S = 0.05
_STORES = (
    ("duckdb", ("commit.", "apply.", "discard.", "compact.", "checkpoint.")),
    ("hourly", ("aggregate.", "discard.")),
)
"""What commits is the same in both."""


def test_every_step_is_died_at() -> None:
    """Those of the memory store's snapshots and of the sql store have tests of their own."""
    named = [
        *(prefix for _, prefixes in _STORES for prefix in prefixes),
        "expire.",
        "snapshot.",
        "sql.",
    ]
    assert [step for step in STEPS if not step.startswith(tuple(named))] == []


@pytest.mark.parametrize(
    ("store", "step"),
    [(store, step) for store, prefixes in _STORES for step in STEPS if step.startswith(prefixes)],
)
def test_dies_at(service: Service, seed: int, store: str, step: str) -> None:
    service.set(store=store, aggregate_interval_s=_INTERVAL_S)
    dies_at(service, seed, step)


@pytest.mark.parametrize("store", ["duckdb", "hourly"])
@pytest.mark.parametrize("step", [step for step in STEPS if step.startswith("expire.")])
def test_dies_at_expiry(service: Service, seed: int, store: str, step: str) -> None:
    service.set(store=store, aggregate_interval_s=_INTERVAL_S)
    dies_at_expiry(service, seed, step)
