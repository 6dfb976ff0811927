"""The largest of the last seconds, held against a list of all that was noted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowtally.ingest.recent_max import RecentMax

_SPAN_S = 5


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 9.0)), max_size=60))
def test_it_is_the_largest_of_its_span(steps: list[tuple[float, float]]) -> None:
    """A value is in it for the span, to the second."""
    recent, noted, now_s = RecentMax(_SPAN_S), list[tuple[float, float]](), 0.0
    for later_s, value in steps:
        now_s += later_s
        recent.note(now_s, value)
        noted.append((now_s, value))
        found = recent.at(now_s)
        assert found >= max(one for at_s, one in noted if at_s > now_s - _SPAN_S + 1)
        assert found <= max(one for at_s, one in noted if at_s > now_s - _SPAN_S - 1)


def test_nothing_is_the_largest_of_nothing() -> None:
    recent = RecentMax(_SPAN_S)
    assert recent.at(7.0) == 0.0
    recent.note(7.0, 3.0)
    assert (recent.at(11.9), recent.at(12.0)) == (3.0, 0.0)
