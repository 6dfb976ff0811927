"""The worst part decides, and a part that is silent for too long is at fault."""

from __future__ import annotations

from typing import Any

import pytest

from flowtally.clock import ManualClock
from flowtally.model import PartHealth
from flowtally.observe.health import Health, with_stale_beats, worst


def part(state: str, beat_s: float = 0, hint: str = "", **other: Any) -> PartHealth:
    return PartHealth(state, state, beat_s, detail="as it is", hint=hint, facts={"a": 1}, **other)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "ok"),
        (["ok"], "ok"),
        (["ok", "warning", "ok"], "warning"),
        (["warning", "error", "ok"], "error"),
    ],
)
def test_worst(states: list[str], expected: str) -> None:
    assert worst(part(state) for state in states) == expected


def test_a_beat_in_time_is_left_alone() -> None:
    assert with_stale_beats([part("warning")], now_s=8.0) == [part("warning")]


def test_a_late_beat_is_an_error_that_says_so() -> None:
    [found] = with_stale_beats([part("ok", hint="look there")], now_s=61.0)
    assert (found.state, found.hint, found.facts) == ("error", "look there", {"a": 1})
    assert found.detail == "no sign of life for 61 s; as it is"
    assert found.is_stuck
    [found] = with_stale_beats([part("ok")], now_s=61.0)
    assert found.hint == "docs/runbooks/part-stuck.md"


def test_what_is_known_to_take_longer_may() -> None:
    compacting = part("ok", beat_age_s_max=60.0)
    assert with_stale_beats([compacting], now_s=60.0) == [compacting]
    [found] = with_stale_beats([compacting], now_s=60.1)
    assert found.is_stuck


@pytest.mark.parametrize(
    ("needed", "beat_s", "told"),
    [(True, 0.0, "the ok is stuck: no sign of life for 11 s; as it is"), (True, 5.0, None)]
    + [(False, 0.0, None)],
)
def test_only_a_stuck_part_that_is_needed_keeps_batches_out(
    needed: bool, beat_s: float, told: str | None
) -> None:
    clock = ManualClock()
    health = Health(clock, [lambda: [part("ok", beat_s, needed_to_accept=needed)]])
    clock.advance_ms(11_000)
    assert health.refusing() == told


def test_a_clock_that_is_set_makes_nothing_stuck() -> None:
    clock = ManualClock()
    health = Health(clock, [lambda: [part("ok")]])
    clock.jump_ms(365 * 24 * 3_600_000)
    assert [found.state for found in health.parts()] == ["ok"]
