"""Token buckets: bursts, the long run, and a table that has an end."""

from __future__ import annotations

import pytest

from flowtally import limits
from flowtally.api.rate_limit import RateLimit
from flowtally.clock import ManualClock


def test_a_burst_is_granted_and_then_the_rate() -> None:
    clock = ManualClock()
    limit = RateLimit(10, 5, clock)
    taken = [limit.take("a") for _ in range(7)]
    assert [one.granted for one in taken] == [True] * 5 + [False] * 2
    assert [one.remaining for one in taken] == [4, 3, 2, 1, 0, 0, 0]
    assert taken[-1].retry_after_s == 1
    clock.advance_ms(100)
    assert limit.take("a").granted
    assert not limit.take("a").granted
    # Others are counted by themselves.
    assert limit.take("b").remaining == 4
    clock.advance_ms(10_000)
    assert [limit.take("a").granted for _ in range(6)] == [True] * 5 + [False]


def test_in_the_long_run_no_more_come_through_than_may() -> None:
    clock = ManualClock()
    limit = RateLimit(3, 10, clock)
    granted = 0
    for _ in range(60_000):
        clock.advance_ms(1)
        granted += limit.take("a").granted
    assert 60 * 3 + 10 - 1 <= granted <= 60 * 3 + 10


@pytest.mark.parametrize(
    ("requests_per_s", "burst", "after_s"), [(0.5, 1, 2), (0.1, 2, 10), (1000, 1, 1)]
)
def test_who_is_refused_comes_through_after_the_time_that_he_was_told(
    requests_per_s: float, burst: int, after_s: int
) -> None:
    clock = ManualClock()
    limit = RateLimit(requests_per_s, burst, clock)
    while (taken := limit.take("a")).granted:
        pass
    assert taken.retry_after_s == after_s
    clock.advance_ms(after_s * 1000)
    assert limit.take("a").granted


def test_what_the_client_is_told() -> None:
    clock = ManualClock()
    limit = RateLimit(10, 50, clock)
    assert limit.lines(limit.take("a")) == (
        b'ratelimit-policy: "requests";q=50;w=5\r\nratelimit: "requests";r=49;t=1\r\n'
    )
    for _ in range(60):
        taken = limit.take("a")
    assert limit.lines(taken).endswith(b'ratelimit: "requests";r=0;t=5\r\n')


def test_the_table_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATE_CLIENTS_MAX", 100)
    clock = ManualClock()
    limit = RateLimit(1, 2, clock)
    known = "known"
    limit.take(known)
    for number in range(10_000):
        limit.take(str(number))
    assert len(limit._full_at_s) <= 101
    # Whoever is remembered keeps his count, and the others share one.
    assert limit.take(known).granted and not limit.take(known).granted
    assert not limit.take("new").granted
    clock.advance_ms(60_000)
    assert limit.take("new").remaining == 1
    assert len(limit._full_at_s) == 1


def test_addresses_take_no_place_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a stranger has, who proves himself keeps the rate that is his."""
    monkeypatch.setattr(limits, "RATE_CLIENTS_MAX", 100)
    limit = RateLimit(0.1, 3, ManualClock())
    for number in range(1_000):
        limit.take(str(number))
    assert not limit.take("stranger").granted
    for token in (b"1", b"2"):
        assert [limit.take(token).granted for _ in range(4)] == [True] * 3 + [False]


def test_tokens_that_are_no_longer_used_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATE_CLIENTS_MAX", 100)
    clock = ManualClock()
    limit = RateLimit(1, 2, clock)
    for number in range(1_000):
        limit.take(b"%d" % number)
    clock.advance_ms(60_000)
    limit.take(b"new")
    assert len(limit._full_at_s) == 1
