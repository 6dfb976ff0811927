"""The contract of `flowtally.ports`, as tests that every store runs. A store joins by a subclass
that names its subject; see `test_memory.py`. The laws of summing are in `laws.py`.

Expectations come from `tests/oracle.py`, never from the store.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowtally.clock import ManualClock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.model import Batch, Receipt, Tally
from flowtally.ports import FlowStore
from tests.conformance.batches import (
    HOSTILE_NAMES,
    HOUR_MS,
    LAST_HOUR,
    batch_of,
    record,
    rows_of,
)
from tests.conformance.subjects import Periods, Subject
from tests.oracle import Oracle


class StoreContract:
    """Subclass, and name the subject."""

    subject: Subject

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

        self.subject.run(tmp_path, story)

    def test_an_empty_batch_is_a_batch(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            assert list(await store.write([batch_of([], "key")])) == [Receipt("key", 0, 0)]
            assert list(await store.write([batch_of([], "key")])) == [
                Receipt("key", 0, 0, repeated=True)
            ]
            await store.settle()
            assert await store.hours() == []
            assert (await store.ledger()).total().accepted.batches == 1

        self.subject.run(tmp_path, story)

    def test_a_repeat_changes_nothing(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            batch = batch_of([record()], "key")
            within = await store.write([batch, batch])
            assert [answer.repeated for answer in within if isinstance(answer, Receipt)] == [
                False,
                True,
            ]
            await store.settle()
            before = await store.revision(1)
            assert list(await store.write([batch])) == [Receipt("key", 1, 1, repeated=True)]
            await store.settle()
            assert await store.revision(1) == before
            assert await rows_of(store, 1) == [record()]

        self.subject.run(tmp_path, story)

    def test_a_reused_key_is_told_and_only_that_batch(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            first, other = batch_of([record()], "key"), batch_of([record(rx=9)], "key")
            answers = await store.write([first, other, batch_of([record(src="x")], "new")])
            assert [type(answer) for answer in answers] == [Receipt, KeyReused, Receipt]
            assert await rows_of(store, 1) == [record(), record(src="x")]
            assert (await store.ledger()).total().batches_refused == 1

        self.subject.run(tmp_path, story)

    def test_batches_without_a_key_count_each_time(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record()]), batch_of([record()])])
            assert await rows_of(store, 1) == [record(rx=2, tx=4)]

        self.subject.run(tmp_path, story)

    def test_sums_pass_every_machine_integer(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            tally = Tally({("a", "b", "v", 1): [2**70, 2**64, 100_000]})
            for _ in range(3):
                await store.write([Batch("x", False, b"f", tally, 100_000)])
            await store.settle()
            assert await rows_of(store, 1) == [record(rx=3 * 2**70, tx=3 * 2**64)]
            [hour] = await store.hours()
            assert (hour.bytes_rx, hour.records) == (3 * 2**70, 300_000)
            assert (await store.ledger()).balances

        self.subject.run(tmp_path, story)

    def test_names_are_compared_byte_by_byte_and_never_run_together(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            records = [
                record(src, dest) for src in HOSTILE_NAMES for dest in ("c", "b|c", "\uffff", "😀")
            ]
            await store.write([batch_of(records, "key")])
            oracle = Oracle()
            oracle.post(records)
            assert await rows_of(store, 1) == oracle.hour(1)

        self.subject.run(tmp_path, story)

    def test_revisions_grow_with_their_hour_only(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            assert (await store.revision(1)).number == 0
            await store.write([batch_of([record()])])
            await store.settle()
            first = await store.revision(1)
            assert first.number > 0
            assert first.changed_ms == clock.now_ms()
            clock.advance_ms(5)
            await store.write([batch_of([record(hour=2)])])
            await store.settle()
            assert await store.revision(1) == first
            assert (await store.sums(1)).revision == first
            second = await store.revision(2)
            assert second.changed_ms == clock.now_ms()
            await store.write([batch_of([record()])])
            await store.settle()
            assert (await store.revision(1)).number > first.number

        self.subject.run(tmp_path, story)

    def test_hours_are_listed_with_their_totals(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            records = [record(hour=LAST_HOUR), record(), record(), record(src="x", hour=0)]
            await store.write([batch_of(records)])
            await store.settle()
            found = await store.hours()
            assert [(one.hour, one.flows, one.records, one.bytes_tx) for one in found] == [
                (0, 1, 1, 2),
                (1, 1, 2, 4),
                (LAST_HOUR, 1, 1, 2),
            ]
            assert [one.revision for one in found] == [
                await store.revision(one.hour) for one in found
            ]

        self.subject.run(tmp_path, story)

    def test_hours_are_counted_anew_as_they_change(self, tmp_path: Path) -> None:
        """Each look beside the last one: some hours are new, some changed, some as they were."""

        async def story(store: FlowStore, clock: ManualClock) -> None:
            wanted: dict[int, int] = {}
            for changed in ([1], [2, 3], [2], [], [1, 4], [3]):
                await store.write([batch_of([record(hour=hour) for hour in changed])])
                for hour in changed:
                    wanted[hour] = wanted.get(hour, 0) + 1
                await store.settle()
                found = await store.hours()
                assert [(one.hour, one.records) for one in found] == sorted(wanted.items())
                assert [one.revision for one in found] == [
                    await store.revision(one.hour) for one in found
                ]

        self.subject.run(tmp_path, story)

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

        self.subject.run(tmp_path, story)

    def test_retention_counts_from_arrival(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            await store.write([batch_of([record(hour=LAST_HOUR), record(hour=5)], "old")])
            await store.settle()
            before = await store.revision(5)
            assert [one.records for one in await store.hours()] == [1, 1]
            clock.advance_ms(2 * HOUR_MS)
            await store.write([batch_of([record(hour=5)], "young")])
            clock.advance_ms(2 * HOUR_MS)
            await self.subject.expire(store)
            assert await rows_of(store, 5) == [record(hour=5)]
            assert await rows_of(store, LAST_HOUR) == []
            assert [(one.hour, one.records) for one in await store.hours()] == [(5, 1)]
            assert (await store.revision(5)).number > before.number
            assert (await store.revision(LAST_HOUR)).number > before.number
            ledger = await store.ledger()
            assert ledger.balances
            assert ledger.total().expired.records == 2

        self.subject.run(tmp_path, story, periods=Periods(retention_ms=3 * HOUR_MS))

    def test_a_batch_id_is_remembered_for_its_time_and_then_forgotten(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            batch = batch_of([record()], "key")
            await store.write([batch])
            clock.advance_ms(30 * HOUR_MS)
            await self.subject.expire(store)
            assert list(await store.write([batch])) == [Receipt("key", 1, 1, repeated=True)]
            clock.advance_ms(1)
            await self.subject.expire(store)
            assert list(await store.write([batch])) == [Receipt("key", 1, 1)]
            assert await rows_of(store, 1) == [record(rx=2, tx=4)]

        self.subject.run(tmp_path, story, periods=Periods(batch_ids_keep_ms=30 * HOUR_MS))

    def test_a_clock_that_is_set_ahead_forgets_nothing(self, tmp_path: Path) -> None:
        async def story(store: FlowStore, clock: ManualClock) -> None:
            batch = batch_of([record()], "key")
            await store.write([batch])
            clock.jump_ms(365 * 24 * HOUR_MS)
            await self.subject.expire(store)
            assert list(await store.write([batch])) == [Receipt("key", 1, 1, repeated=True)]
            await store.write([batch_of([record()], "ahead")])
            clock.jump_ms(-365 * 24 * HOUR_MS)
            await self.subject.expire(store)
            for key in ("key", "ahead"):
                answers = list(await store.write([batch_of([record()], key)]))
                assert answers == [Receipt(key, 1, 1, repeated=True)]
            assert await rows_of(store, 1) == [record(rx=2, tx=4)]
            assert (await store.ledger()).balances

        self.subject.run(tmp_path, story)

    def test_readers_see_whole_batches_and_no_falling_total(self, tmp_path: Path) -> None:
        """Every batch adds one record to each of two flows in each of two hours."""

        async def story(store: FlowStore, clock: ManualClock) -> None:
            written = 0
            done = asyncio.Event()

            async def write() -> None:
                nonlocal written
                parts = [record(name, hour=hour) for name in ("one", "two") for hour in (1, 2)]
                for index in range(20):
                    group = [batch_of(parts, f"{index}-{part}") for part in range(1 + index % 3)]
                    await store.write(group + group[:1])
                    written += len(group)
                    # A store may answer at once; the readers get their turn all the same.
                    await asyncio.sleep(0)
                done.set()

            async def read_sums() -> None:
                seen = 0
                while not done.is_set():
                    acknowledged = written
                    rows = [row["bytes_rx"] for row in await rows_of(store, 1)] or [0, 0]
                    assert rows[0] == rows[1], "half a batch"
                    assert rows[0] >= max(seen, acknowledged), "a falling total"
                    seen = rows[0]
                    await asyncio.sleep(0)

            async def read_hours() -> None:
                seen = 0
                while not done.is_set():
                    acknowledged = written
                    await store.settle()
                    counts = [one.records for one in await store.hours()] or [0, 0]
                    assert counts[0] == counts[1], "half a batch"
                    assert counts[0] >= 2 * max(seen, acknowledged), "a falling total"
                    seen = counts[0] // 2
                    assert (await store.ledger()).balances
                    await asyncio.sleep(0)

            await asyncio.gather(write(), read_sums(), read_sums(), read_hours())
            wanted = [record("one", rx=written, tx=2 * written)]
            wanted += [record("two", rx=written, tx=2 * written)]
            assert await rows_of(store, 1) == wanted
            assert (await store.ledger()).total().accepted.batches == written

        self.subject.run(tmp_path, story)

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

        self.subject.run(tmp_path, story)

    def test_everything_survives_a_restart(self, tmp_path: Path) -> None:
        if not self.subject.survives_restart:
            pytest.skip("this store promises to keep nothing")
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

        self.subject.run(tmp_path, before, clock=clock)
        clock.advance_ms(23 * HOUR_MS)
        self.subject.run(tmp_path, after, clock=clock)
