"""Which arrival hour is compacted when: a row must not be rewritten often for the sake of a few.
And that no reader sees a compaction half done."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

from flowtally.clock import SystemClock
from flowtally.model import Batch, Tally
from flowtally.steps import ignore
from flowtally.stores.duckdb.compaction import ROWS_MIN, RowCounts, compact
from flowtally.stores.duckdb.store import DuckdbStore

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


@pytest.mark.parametrize("flows", [10_000, 150_000])
def test_reads_beside_compactions_see_each_batch_once(tmp_path: Path, flows: int) -> None:
    """Each batch adds one byte to every flow, so an answer has one number of them in all its rows.
    Of more rows than a row group has, DuckDB up to 2.0.0 showed the old and the new ones together
    to whoever began to read while they were committed (docs/decisions/0015-duckdb-2-0-1.md)."""
    rounds = 8
    rows = {(f"app-{number}", "b", "v", 1): [1, 0, 1] for number in range(flows)}
    tally = Tally(rows)

    async def story() -> None:
        store = DuckdbStore(tmp_path, SystemClock())
        await store.start()
        written = 0
        reads = 0

        def compact_all() -> None:
            counts = store.applier.counts
            for arrival_hour in [*counts.recent]:
                compact(store.database.writer, arrival_hour, counts, ignore)

        async def write() -> None:
            nonlocal written
            for number in range(rounds):
                await store.write([Batch(str(number), True, b"", tally, flows)])
                written = number + 1
                await store.applier.wait_applied(store.journal.last_sequence, 60)
                await store.applier.run_between(compact_all)

        async def read() -> None:
            nonlocal reads
            while written < rounds or not reads:
                before = written
                table = (await store.sums(1)).table
                if not before and not table.num_rows:
                    continue
                found = pc.unique(table["bytes_rx"]).to_pylist()
                assert table.num_rows == flows
                assert len(found) == 1, f"{found}, with {before} batches written"
                assert before <= found[0] <= written
                reads += 1

        try:
            await asyncio.gather(write(), *(read() for _ in range(3)))
            assert reads >= rounds
        finally:
            await store.close()

    asyncio.run(story())
