"""Which arrival hour is compacted when: a row must not be rewritten often for the sake of a few."""

from __future__ import annotations

from collections import Counter

import pytest

from flowtally.stores.duckdb.compaction import ROWS_MIN, RowCounts

THIS_HOUR = 100


@pytest.mark.parametrize(
    ("recent", "base", "hour", "quiet", "due"),
    [
        pytest.param(ROWS_MIN - 1, 0, THIS_HOUR, False, False, id="few"),
        pytest.param(ROWS_MIN, 0, THIS_HOUR, False, True, id="many"),
        pytest.param(ROWS_MIN, 4 * ROWS_MIN + 4, THIS_HOUR, False, False, id="many beside more"),
        pytest.param(2, 0, THIS_HOUR, True, True, id="few in quiet"),
        pytest.param(1, 1_000_000, THIS_HOUR, True, False, id="one beside many in quiet"),
        pytest.param(50_000, 1_000_000, THIS_HOUR, True, True, id="a part in quiet"),
        pytest.param(1, 1_000_000, THIS_HOUR - 1, True, True, id="an hour that is over"),
        pytest.param(0, 1_000_000, THIS_HOUR - 1, True, False, id="nothing"),
    ],
)
def test_due(recent: int, base: int, hour: int, quiet: bool, due: bool) -> None:
    counts = RowCounts(Counter({hour: recent}), Counter({hour: base}))
    assert counts.due(quiet, THIS_HOUR) == (hour if due else None)


def test_an_hour_that_grows_steadily_is_rewritten_a_number_of_times_that_grows_slowly() -> None:
    """A hundred rows a minute for a day, with a quiet time in each minute."""
    counts = RowCounts()
    rewritten = 0
    for _ in range(24 * 60):
        counts.recent[THIS_HOUR] += 100
        if counts.due(True, THIS_HOUR) is not None:
            counts.base[THIS_HOUR] += counts.recent.pop(THIS_HOUR)
            rewritten += counts.base[THIS_HOUR]
    assert rewritten < 25 * 24 * 60 * 100
