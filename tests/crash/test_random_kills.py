"""Killed at random, again and again, while eight writers send: lost 0, extra 0.

CRASH_KILLS says how often (50), CRASH_SECONDS how long at most (150): a slow machine does fewer
kills and prints how many. `make crash KILLS=1000` is the same attack without the limit.
"""

from __future__ import annotations

import os

import pytest

from tests.crash.campaign import attack
from tests.crash.service import Service

KILLS_MIN = 5


@pytest.mark.parametrize(("store", "share"), [("duckdb", 1.0), ("hourly", 0.3)])
def test_random_kills(service: Service, seed: int, store: str, share: float) -> None:
    service.set(store=store, aggregate_interval_s=0.05)
    kills = int(share * int(os.environ.get("CRASH_KILLS", "50")))
    seconds = share * float(os.environ.get("CRASH_SECONDS", "150"))
    outcome = attack(service, seed, kills, duration_s_max=seconds)
    print(outcome.table())
    assert outcome.kills >= min(kills, KILLS_MIN), "too few kills to prove anything"
    assert outcome.counts.acknowledged > 0
    assert outcome.reads > 0
