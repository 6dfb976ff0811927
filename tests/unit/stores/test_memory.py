"""What is the memory store's alone: its bounds, and that whoever comes next makes room.

The contract of a store is tested in `tests/conformance/`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from flowtally.clock import ManualClock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.model import MILLISECONDS_PER_HOUR, Batch, Receipt, Tally
from flowtally.stores.memory import MemoryStore

HOUR_MS = MILLISECONDS_PER_HOUR


def batch(name: str, flows: int = 1, keyed: bool = True) -> Batch:
    rows = {(f"{name}-{number}", "b", "v", 1): [1, 2, 1] for number in range(flows)}
    return Batch(name, keyed, name.encode(), Tally(rows), flows)


def tell(store: MemoryStore, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await store.start()
        await story()
        await store.close()

    asyncio.run(told())


def test_a_store_full_of_batch_ids_takes_batches_again_once_they_are_old() -> None:
    clock = ManualClock()
    store = MemoryStore(clock, batch_ids_keep_ms=24 * HOUR_MS, batch_ids_max=3)

    async def story() -> None:
        await store.write([batch("one")])
        clock.advance_ms(HOUR_MS)
        await store.write([batch("two"), batch("three")])
        with pytest.raises(NotAccepting, match="3 batch_ids are remembered"):
            await store.write([batch("four")])
        clock.advance_ms(23 * HOUR_MS)
        [full] = store.health()
        assert (full.state, full.facts["batch_ids"]) == ("error", 3)
        clock.advance_ms(1)
        [roomy] = store.health()
        assert (roomy.state, roomy.facts["batch_ids"]) == ("ok", 2)
        assert list(await store.write([batch("four")])) == [Receipt("four", 1, 1)]

    tell(store, story)


def test_what_needs_no_room_is_taken_by_a_store_full_of_batch_ids() -> None:
    """Who never got an answer must be able to learn that the batch was counted."""
    store = MemoryStore(ManualClock(), batch_ids_max=2)

    async def story() -> None:
        await store.write([batch("one"), batch("two")])
        assert store.refusing() is None
        assert list(await store.write([batch("one")])) == [Receipt("one", 1, 1, repeated=True)]
        other = msgspec.structs.replace(batch("one"), fingerprint=b"other")
        assert isinstance((await store.write([other]))[0], KeyReused)
        await store.write([batch("made-here", keyed=False)])
        with pytest.raises(NotAccepting, match="only repeats"):
            await store.write([batch("two"), batch("three")])
        ledger = await store.ledger()
        assert ledger.balances
        total = ledger.total()
        assert (total.accepted.batches, total.batches_repeated) == (3, 1)

    tell(store, story)


def test_batches_without_a_key_take_no_room_among_the_batch_ids() -> None:
    store = MemoryStore(ManualClock(), batch_ids_max=2)

    async def story() -> None:
        for _ in range(5):
            await store.write([batch("made-here", keyed=False)])
        assert store.refusing() is None

    tell(store, story)


def test_old_batch_ids_are_dropped_when_a_batch_arrives() -> None:
    clock = ManualClock()
    store = MemoryStore(clock, batch_ids_keep_ms=24 * HOUR_MS)

    async def story() -> None:
        await store.write([batch("one"), batch("two")])
        clock.advance_ms(24 * HOUR_MS + 1)
        await store.write([batch("three")])
        [part] = store.health()
        assert part.facts["batch_ids"] == 1

    tell(store, story)


def test_setting_the_machine_s_time_forgets_no_batch_id_and_keeps_none_too_long() -> None:
    clock = ManualClock()
    store = MemoryStore(clock, batch_ids_keep_ms=24 * HOUR_MS)

    def remembered() -> object:
        return store.health()[0].facts["batch_ids"]

    async def story() -> None:
        clock.jump_ms(1_000 * HOUR_MS)
        await store.write([batch("one")])
        clock.jump_ms(-1_000 * HOUR_MS)
        assert remembered() == 1
        clock.jump_ms(100 * HOUR_MS)
        assert remembered() == 1
        clock.advance_ms(24 * HOUR_MS + 1)
        assert remembered() == 0

    tell(store, story)


def test_a_store_full_of_flows_takes_batches_again_after_their_retention() -> None:
    clock = ManualClock()
    store = MemoryStore(clock, retention_ms=2 * HOUR_MS, flows_max=3)

    async def story() -> None:
        await store.write([batch("one", flows=3)])
        with pytest.raises(NotAccepting, match="holds 3 flows"):
            await store.write([batch("two")])
        clock.advance_ms(3 * HOUR_MS)
        assert store.refusing() is None
        await store.write([batch("two")])
        assert (await store.sums(1)).table.num_rows == 1
        assert (await store.ledger()).balances

    tell(store, story)


def test_a_batch_is_of_one_arrival_hour_though_time_goes_on() -> None:
    """The clock is about to begin a new hour, and goes on with each look at it."""

    class RunningClock(ManualClock):
        def now_ms(self) -> int:
            self.advance_ms(1)
            return super().now_ms()

    for before_ms in range(1, 8):
        store = MemoryStore(RunningClock(1_000 * HOUR_MS - before_ms))

        async def story(store: MemoryStore = store) -> None:
            await store.write([batch("one"), batch("two", flows=2)])
            ledger = await store.ledger()
            assert ledger.balances, ledger
            assert ledger.total().accepted.records == 3

        tell(store, story)


def test_it_says_that_nothing_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(ManualClock())

    async def story() -> None:
        [part] = store.health()
        assert part.detail.startswith("kept in memory only")

    with caplog.at_level(logging.WARNING, "flowtally"):
        tell(store, story)
    assert [entry.message for entry in caplog.records] == ["memory store started"]
