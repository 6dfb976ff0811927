"""The contract of `flowtally.ports`, as tests that every store runs. A store joins by a subclass
that says how it is made; see `test_memory.py`.

Expectations come from `tests/oracle.py`, never from the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.clock import ManualClock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.model import Batch, Receipt, Tally
from flowtally.ports import FlowStore
from tests.oracle import Oracle

HOUR_MS = 3_600_000
LARGEST = 2**53 - 1
HOSTILE_NAMES = (
    "a|b", "a", "b|c", "|", '"', "\\", "a,b", "<img onerror>", "../..", "=1+1", "é", "e\u0301",
    "😀", "\uffff", "\U0010ffff", "z", "Z", " a", "a ", "x" * 256,
)  # fmt: skip

Record = dict[str, Any]


def record(
    src: str = "a", dest: str = "b", vpc: str = "v", hour: int = 1, rx: int = 1, tx: int = 2
) -> Record:
    return {
        "src_app": src,
        "dest_app": dest,
        "vpc_id": vpc,
        "hour": hour,
        "bytes_rx": rx,
        "bytes_tx": tx,
    }


def batch_of(records: list[Record], key: str | None = None) -> Batch:
    tally = Tally()
    for one in records:
        flow = (one["src_app"], one["dest_app"], one["vpc_id"], one["hour"])
        tally.add(flow, one["bytes_rx"], one["bytes_tx"])
    fingerprint = hashlib.sha256(json.dumps(records).encode()).digest()[:16]
    return Batch(key or "made-here", key is not None, fingerprint, tally, len(records))


async def rows_of(store: FlowStore, hour: int) -> list[Record]:
    table = (await store.sums(hour)).table
    return [
        {**row, "bytes_rx": int(row["bytes_rx"]), "bytes_tx": int(row["bytes_tx"])}
        for row in table.to_pylist()
    ]


records_strategy = st.lists(
    st.builds(
        record,
        src=st.sampled_from(HOSTILE_NAMES),
        dest=st.sampled_from(("b", "c")),
        vpc=st.sampled_from(("v", "a|b")),
        hour=st.sampled_from((0, 1, 2**31 - 1)),
        rx=st.sampled_from((0, 1, LARGEST)),
        tx=st.integers(0, LARGEST),
    ),
    max_size=12,
)


class StoreContract(ABC):
    """Subclass, and say how the store is made."""

    survives_restart: bool

    @abstractmethod
    def make_store(self, folder: Path, clock: ManualClock, retention_ms: int) -> FlowStore:
        """A store over a folder, not yet started."""

    def run(
        self,
        folder: Path,
        story: Callable[[FlowStore, ManualClock], Awaitable[None]],
        retention_ms: int = 168 * HOUR_MS,
        clock: ManualClock | None = None,
    ) -> None:
        """Starts a store, tells it a story, and closes it."""
        clock = clock or ManualClock()

        async def told() -> None:
            store = self.make_store(folder, clock, retention_ms)
            await store.start()
            try:
                await story(store, clock)
            finally:
                await store.close()

        asyncio.run(told())

    def test_a_written_batch_is_read_back(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            records = [record(), record(rx=5), record(src="c"), record(hour=2)]
            answers = await store.write([batch_of(records, "key")])
            assert list(answers) == [Receipt("key", 4, 3)]
            oracle = Oracle()
            oracle.post(records)
            assert await rows_of(store, 1) == oracle.hour(1)
            assert await rows_of(store, 2) == oracle.hour(2)
            assert await rows_of(store, 3) == []

        self.run(tmp_path, story)

    def test_an_empty_batch_is_a_batch(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            assert list(await store.write([batch_of([], "key")])) == [Receipt("key", 0, 0)]
            assert list(await store.write([batch_of([], "key")])) == [
                Receipt("key", 0, 0, repeated=True)
            ]
            assert await store.hours() == []
            assert (await store.ledger()).total().accepted.batches == 1

        self.run(tmp_path, story)

    def test_a_repeat_changes_nothing(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            batch = batch_of([record()], "key")
            within = await store.write([batch, batch])
            assert [answer.repeated for answer in within if isinstance(answer, Receipt)] == [
                False,
                True,
            ]
            before = await store.revision(1)
            assert list(await store.write([batch])) == [Receipt("key", 1, 1, repeated=True)]
            assert await store.revision(1) == before
            assert await rows_of(store, 1) == [record()]

        self.run(tmp_path, story)

    def test_a_reused_key_is_told_and_only_that_batch(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            first, other = batch_of([record()], "key"), batch_of([record(rx=9)], "key")
            answers = await store.write([first, other, batch_of([record(src="x")], "new")])
            assert [type(answer) for answer in answers] == [Receipt, KeyReused, Receipt]
            assert await rows_of(store, 1) == [record(), record(src="x")]
            assert (await store.ledger()).total().batches_refused == 1

        self.run(tmp_path, story)

    def test_batches_without_a_key_count_each_time(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record()]), batch_of([record()])])
            assert await rows_of(store, 1) == [record(rx=2, tx=4)]

        self.run(tmp_path, story)

    def test_sums_pass_every_machine_integer(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            tally = Tally({("a", "b", "v", 1): [2**70, 2**64, 100_000]})
            for _ in range(3):
                await store.write([Batch("x", False, b"f", tally, 100_000)])
            assert await rows_of(store, 1) == [record(rx=3 * 2**70, tx=3 * 2**64)]
            [hour] = await store.hours()
            assert (hour.bytes_rx, hour.records) == (3 * 2**70, 300_000)
            assert (await store.ledger()).balances

        self.run(tmp_path, story)

    def test_names_are_compared_byte_by_byte_and_never_run_together(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            records = [
                record(src, dest) for src in HOSTILE_NAMES for dest in ("c", "b|c", "\uffff", "😀")
            ]
            await store.write([batch_of(records, "key")])
            oracle = Oracle()
            oracle.post(records)
            assert await rows_of(store, 1) == oracle.hour(1)

        self.run(tmp_path, story)

    def test_revisions_grow_with_their_hour_only(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            assert (await store.revision(1)).number == 0
            await store.write([batch_of([record()])])
            first = await store.revision(1)
            assert first.number > 0
            assert first.changed_ms == clock.now_ms()
            clock.advance_ms(5)
            await store.write([batch_of([record(hour=2)])])
            assert await store.revision(1) == first
            assert (await store.sums(1)).revision == first
            second = await store.revision(2)
            assert second.changed_ms == clock.now_ms()
            await store.write([batch_of([record()])])
            assert (await store.revision(1)).number > first.number

        self.run(tmp_path, story)

    def test_hours_are_listed_with_their_totals(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            records = [record(hour=2**31 - 1), record(), record(), record(src="x", hour=0)]
            await store.write([batch_of(records)])
            found = await store.hours()
            assert [(one.hour, one.flows, one.records, one.bytes_tx) for one in found] == [
                (0, 1, 1, 2),
                (1, 1, 2, 4),
                (2**31 - 1, 1, 1, 2),
            ]
            assert [one.revision for one in found] == [
                await store.revision(one.hour) for one in found
            ]

        self.run(tmp_path, story)

    def test_the_ledger_balances_and_counts_what_stands_beside_it(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record(), record(src="x")], "one")])
            clock.advance_ms(HOUR_MS)
            await store.write([batch_of([record()], "two"), batch_of([record()], "two")])
            store.count_refused(3)
            await store.write([batch_of([record(hour=7)], "three")])
            ledger = await store.ledger()
            assert ledger.balances
            assert [line.accepted.records for line in ledger.lines] == [2, 2]
            total = ledger.total()
            assert (total.accepted.batches, total.accepted.bytes_tx) == (3, 8)
            assert (total.batches_repeated, total.batches_refused) == (1, 3)

        self.run(tmp_path, story)

    def test_retention_counts_from_arrival(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record(hour=2**31 - 1), record(hour=5)], "old")])
            before = await store.revision(5)
            clock.advance_ms(2 * HOUR_MS)
            await store.write([batch_of([record(hour=5)], "young")])
            clock.advance_ms(2 * HOUR_MS)
            await self.expire(store)
            assert await rows_of(store, 5) == [record(hour=5)]
            assert await rows_of(store, 2**31 - 1) == []
            assert (await store.revision(5)).number > before.number
            assert (await store.revision(2**31 - 1)).number > before.number
            ledger = await store.ledger()
            assert ledger.balances
            assert ledger.total().expired.records == 2

        self.run(tmp_path, story, retention_ms=3 * HOUR_MS)

    async def expire(self, store: FlowStore) -> None:
        """Brings a store that expires in the background to do so now; others do by themselves."""
        await store.hours()

    def test_readers_see_whole_batches_and_no_falling_total(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            done = asyncio.Event()

            async def write() -> None:
                for _ in range(25):
                    await store.write([batch_of([record("one"), record("two")])])
                done.set()

            async def read() -> None:
                seen = 0
                while not done.is_set():
                    sums = [row["bytes_rx"] for row in await rows_of(store, 1)]
                    assert len(sums) in (0, 2)
                    assert len(set(sums)) <= 1
                    assert sum(sums) >= seen
                    seen = sum(sums)
                    await asyncio.sleep(0)

            await asyncio.gather(write(), read(), read())
            assert await rows_of(store, 1) == [
                record("one", rx=25, tx=50),
                record("two", rx=25, tx=50),
            ]

        self.run(tmp_path, story)

    def test_closing_twice_is_harmless_and_a_closed_store_refuses(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record()], "key")])
            await store.close()
            await store.close()
            assert store.refusing() is not None
            with pytest.raises(NotAccepting):
                await store.write([batch_of([record()], "other")])
            with pytest.raises(NotAccepting):
                await store.sums(1)

        self.run(tmp_path, story)

    def test_everything_survives_a_restart(self, tmp_path: Path) -> None:
        if not self.survives_restart:
            pytest.skip("the memory store promises to keep nothing")
        clock = ManualClock()

        async def before(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record(), record(hour=2)], "key")])

        async def after(store: FlowStore, clock: ManualClock) -> None:
            assert await rows_of(store, 1) == [record()]
            assert (await store.revision(2)).number == 1
            assert list(await store.write([batch_of([record(), record(hour=2)], "key")])) == [
                Receipt("key", 2, 2, repeated=True)
            ]
            assert isinstance((await store.write([batch_of([], "key")]))[0], KeyReused)
            assert (await store.ledger()).balances

        self.run(tmp_path, before, clock=clock)
        clock.advance_ms(23 * HOUR_MS)
        self.run(tmp_path, after, clock=clock)

    @given(records=records_strategy, cuts=st.lists(st.integers(0, 12), max_size=4), data=st.data())
    def test_law_any_split_and_order_gives_equal_sums(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        records: list[Record],
        cuts: list[int],
        data: st.DataObject,
    ) -> None:
        """And a batch that is sent twice counts once."""
        oracle = Oracle()
        oracle.post(records)
        edges = sorted({0, *cuts, len(records)})
        parts = [records[start:end] for start, end in pairwise(edges)]
        keyed = [batch_of(part, f"part-{index}") for index, part in enumerate(parts)]
        order = data.draw(st.permutations(keyed))
        again = data.draw(st.lists(st.sampled_from(keyed), max_size=3)) if keyed else []

        async def story(store: FlowStore, clock: ManualClock) -> None:
            for batch in order:
                await store.write([batch])
            if again:
                await store.write(again)
            for hour in (0, 1, 2**31 - 1):
                assert await rows_of(store, hour) == oracle.hour(hour)
            assert (await store.ledger()).balances

        self.run(tmp_path_factory.mktemp("law"), story)
