"""The worst part decides, and a part that is silent for too long is at fault."""

from __future__ import annotations

import pytest

from flowtally.model import PartHealth
from flowtally.observe.health import with_stale_beats, worst


def part(state: str, beat_ms: int = 0, hint: str = "") -> PartHealth:
    return PartHealth(state, state, beat_ms, detail="as it is", hint=hint, facts={"a": 1})


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
    assert with_stale_beats([part("warning")], now_ms=10_000, beat_ms_max=10_000) == [
        part("warning")
    ]


def test_a_clock_that_was_set_back_is_no_fault() -> None:
    assert with_stale_beats([part("ok", 99_000)], now_ms=1_000, beat_ms_max=10) == [
        part("ok", 99_000)
    ]


def test_a_late_beat_is_an_error_that_says_so() -> None:
    [found] = with_stale_beats([part("ok", hint="look there")], now_ms=61_000, beat_ms_max=10_000)
    assert (found.state, found.hint, found.facts) == ("error", "look there", {"a": 1})
    assert found.detail == "no sign of life for 61 s; as it is"
    [found] = with_stale_beats([part("ok")], now_ms=61_000, beat_ms_max=10_000)
    assert found.hint == "docs/guides/operating.md#a-part-is-stuck"
