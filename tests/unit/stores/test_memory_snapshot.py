"""The memory store's snapshot: what comes back, what is refused, and who has the folder."""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import duckdb
import pyarrow.parquet as pq
import pytest

from flowtally.clock import ManualClock
from flowtally.errors import DamagedData, DataFolderError, FolderInUse
from flowtally.model import Batch, Receipt, Tally
from flowtally.stores import memory_snapshot, memory_taker
from flowtally.stores.folder import owner_of
from flowtally.stores.memory import MemoryStore
from flowtally.stores.memory_snapshot import REVISIONS_LEAP, verify_snapshot
from flowtally.stores.memory_taker import Snapshots
from tests.conformance.batches import HOSTILE_NAMES, HOUR_MS, batch_of, record, rows_of
from tests.oracle import Oracle

Story = Callable[[MemoryStore], Awaitable[None]]


def make(folder: Path, clock: ManualClock, interval_s: float = 86_400) -> MemoryStore:
    return MemoryStore(clock, snapshots=Snapshots(folder, interval_s))


def tell(folder: Path, clock: ManualClock, story: Story) -> None:
    async def told() -> None:
        store = make(folder, clock)
        await store.start()
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(told())


def filled(folder: Path) -> Path:
    """A folder with some of everything in it; returns its snapshot."""

    async def story(store: MemoryStore) -> None:
        records = [record(name, hour=hour) for name in HOSTILE_NAMES for hour in (1, 2)]
        await store.write([batch_of(records, "key"), batch_of(records)])

    tell(folder, ManualClock(), story)
    return folder / "memory.parquet"


def test_everything_comes_back(tmp_path: Path) -> None:
    clock = ManualClock()
    wide = Tally({("a", "b", "v", 3): [2**120, 2**64, 100_000]})
    records = [record(name, hour=hour) for name in HOSTILE_NAMES for hour in (1, 2)]
    said: list[object] = []

    async def everything(store: MemoryStore) -> list[object]:
        ledger = await store.ledger()
        assert ledger.balances
        rows = [await rows_of(store, hour) for hour in (1, 2, 3)]
        revisions = [await store.revision(hour) for hour in (1, 2, 3, 4)]
        return [ledger, rows, revisions, await store.hours(), store.instance()]

    async def before(store: MemoryStore) -> None:
        await store.write([batch_of(records, "key"), Batch("wide", True, b"f", wide, 100_000)])
        clock.advance_ms(HOUR_MS)
        await store.write([batch_of(records, "key"), batch_of([record()], "late")])
        store.count_refused(3)
        said.extend(await everything(store))

    async def after(store: MemoryStore) -> None:
        assert await everything(store) == said
        clock.advance_ms(23 * HOUR_MS)
        first, late = batch_of(records, "key"), batch_of([record()], "late")
        again = await store.write([first, late])
        assert [one.repeated for one in again if isinstance(one, Receipt)] == [True, True]
        clock.advance_ms(1)
        again = await store.write([first, late])
        assert [one.repeated for one in again if isinstance(one, Receipt)] == [False, True]

    tell(tmp_path, clock, before)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["lock", "memory.parquet"]
    tell(tmp_path, clock, after)


def test_a_kill_leaves_the_snapshot_and_later_revisions(tmp_path: Path) -> None:
    clock = ManualClock()

    async def story() -> None:
        store = make(tmp_path, clock)
        await store.start()
        await store.write([batch_of([record()], "one")])
        await store.take_snapshot()
        before = await store.revision(1)
        await store.write([batch_of([record(hour=2)], "two")])
        lost = await store.revision(2)
        # As a kill does: nothing is written any more, and the lock is let go of.
        store._snapshots.folder.close()  # type: ignore[union-attr]
        after = make(tmp_path, clock)
        await after.start()
        assert await rows_of(after, 1) == [record()]
        assert await rows_of(after, 2) == []
        assert (await after.revision(1)).number == before.number + REVISIONS_LEAP
        assert (await after.revision(2)).number > lost.number
        again = await after.write([batch_of([record()], "one"), batch_of([record(hour=2)], "two")])
        assert [one.repeated for one in again if isinstance(one, Receipt)] == [True, False]
        assert after.instance() == store.instance()
        await after.close()

    asyncio.run(story())


def test_revisions_pass_those_of_a_process_that_left_no_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        seen = [0]
        for _ in range(3):
            store = make(tmp_path, ManualClock())
            await store.start()
            assert await store.hours() == []
            await store.write([batch_of([record()])])
            seen.append((await store.revision(1)).number)
            store._snapshots.folder.close()  # type: ignore[union-attr]
        assert seen == sorted(set(seen))

    asyncio.run(story())


def test_a_start_that_fails_forgets_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up, or the process is killed, while it notes that it runs from now on."""

    def full(file: IO[bytes]) -> None:
        file.flush()
        file.truncate(0)
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story() -> None:
        seen = []
        for _ in range(3):
            store = make(tmp_path, ManualClock())
            await store.start()
            await store.write([batch_of([record()])])
            seen.append((await store.revision(1)).number)
            store._snapshots.folder.close()  # type: ignore[union-attr]
            with monkeypatch.context() as patched, pytest.raises(DataFolderError, match="space"):
                patched.setattr(memory_snapshot, "_sync", full)
                await make(tmp_path, ManualClock()).start()
        assert seen == sorted(set(seen))

    asyncio.run(story())


def test_it_is_taken_at_its_interval(tmp_path: Path) -> None:
    async def story() -> None:
        store = make(tmp_path, ManualClock(), interval_s=0.01)
        await store.start()
        await store.write([batch_of([record()])])
        async with asyncio.timeout(60):
            while store.health()[1].facts["sequence"] != 1:
                await asyncio.sleep(0.01)
        snapshot = tmp_path / "memory.parquet"
        assert memory_snapshot.read_snapshot(snapshot) is not None
        written = snapshot.stat().st_ino
        await asyncio.sleep(0.05)
        assert snapshot.stat().st_ino == written, "written again, though nothing has changed"
        store.count_refused()
        async with asyncio.timeout(60):
            while snapshot.stat().st_ino == written:
                await asyncio.sleep(0.01)
        await store.close()

    asyncio.run(story())


def test_what_is_written_while_it_is_taken_is_not_in_it(tmp_path: Path) -> None:
    async def story(store: MemoryStore) -> None:
        await store.write([batch_of([record()], "one")])
        captured = store.captured()
        await store.write([batch_of([record(), record("new")], "two"), batch_of([record()], "one")])
        store.count_refused()
        [(_, _, rows)] = captured.pieces
        assert rows == {("a", "b", "v", 1): (1, 2, 1)}
        assert list(captured.known) == ["one"]
        [arrival] = captured.arrivals.values()
        assert (arrival.accepted.batches, arrival.batches_repeated, arrival.batches_refused) == (
            1,
            0,
            0,
        )
        assert await rows_of(store, 1) == [record(rx=2, tx=4), record("new")]

    tell(tmp_path, ManualClock(), story)


def test_more_rows_than_fit_into_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowtally.stores.memory_columns._ROWS_AT_ONCE", 3)
    monkeypatch.setattr("flowtally.stores.memory_columns._ROWS_IN_GROUP", 6)
    records = [record(str(number), rx=number << 40) for number in range(50)]
    oracle = Oracle()
    oracle.post(records)

    async def before(store: MemoryStore) -> None:
        await store.write([batch_of([one], one["src_app"]) for one in records])

    async def after(store: MemoryStore) -> None:
        assert await rows_of(store, 1) == oracle.hour(1)
        answers = await store.write([batch_of([one], one["src_app"]) for one in records])
        assert all(isinstance(one, Receipt) and one.repeated for one in answers)

    tell(tmp_path, ManualClock(), before)
    tell(tmp_path, ManualClock(), after)


def test_many_hours_of_few_flows_are_as_few_groups(tmp_path: Path) -> None:
    """A group for every hundred of them took minutes to write."""
    rows = {("a", "b", "v", hour): [hour, 2, 1] for hour in range(1_000)}

    async def before(store: MemoryStore) -> None:
        await store.write([Batch("wide", True, b"f", Tally(rows), len(rows))])

    async def after(store: MemoryStore) -> None:
        for hour in (0, 1, 999):
            assert await rows_of(store, hour) == [record(hour=hour, rx=hour)]

    tell(tmp_path, ManualClock(), before)
    found = pq.read_metadata(tmp_path / "memory.parquet")
    assert found.num_row_groups == 3, "one of each kind"
    tell(tmp_path, ManualClock(), after)


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    snapshot = filled(tmp_path)
    whole = snapshot.read_bytes()
    draw = random.Random(7)
    number_at = whole.index(b"flowtally-state") + len(b"flowtally-state")
    for at in {0, 5, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(150))}:
        changed = bytearray(whole)
        changed[at] ^= draw.randrange(1, 256)
        snapshot.write_bytes(changed)
        with pytest.raises(DamagedData, match=r"memory\.parquet"):
            memory_snapshot.read_snapshot(snapshot)
    # No format has the number 0, of which one changed bit makes the first one.
    snapshot.write_bytes(whole[:number_at] + b"\0" + whole[number_at + 1 :])
    with pytest.raises(DamagedData, match=r"memory\.parquet"):
        memory_snapshot.read_snapshot(snapshot)
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        snapshot.write_bytes(whole[:size])
        with pytest.raises(DamagedData, match=r"memory\.parquet"):
            memory_snapshot.read_snapshot(snapshot)


def test_a_damaged_one_is_named_refused_and_left_as_it_is(tmp_path: Path) -> None:
    snapshot = filled(tmp_path)
    damaged = snapshot.read_bytes()[:-3]
    snapshot.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(DamagedData, match="nothing of it was loaded"):
            asyncio.run(make(tmp_path, ManualClock()).start())
    with pytest.raises(DamagedData):
        verify_snapshot(tmp_path)
    assert snapshot.read_bytes() == damaged


def test_a_newer_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(memory_snapshot, "FORMAT", 2)
        filled(tmp_path)
    with pytest.raises(DamagedData, match=r"of format 2, and flowtally .* reads up to format"):
        asyncio.run(make(tmp_path, ManualClock()).start())


def test_a_folder_belongs_to_one_process_and_one_store(tmp_path: Path) -> None:
    async def story(store: MemoryStore) -> None:
        store.announce("http://127.0.0.1:1")
        with pytest.raises(
            FolderInUse, match=r"process \d+, which serves on http://127\.0\.0\.1:1"
        ):
            await make(tmp_path / "own", ManualClock()).start()
        with pytest.raises(FolderInUse):
            verify_snapshot(tmp_path / "own")

    tell(tmp_path / "own", ManualClock(), story)
    other = tmp_path / "other"
    other.mkdir()
    (other / "journal.sqlite").touch()
    with pytest.raises(DataFolderError, match="the data of the store duckdb or hourly"):
        asyncio.run(make(other, ManualClock()).start())
    assert owner_of(other) is None


def test_a_stopped_folder_is_verified(tmp_path: Path) -> None:
    filled(tmp_path)
    assert owner_of(tmp_path) == "memory"
    ledger = verify_snapshot(tmp_path)
    assert ledger.balances
    assert ledger.total().summed.records == 4 * len(HOSTILE_NAMES)


def test_one_that_cannot_be_written_leaves_the_last_and_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        store = make(tmp_path, ManualClock())
        await store.start()
        await store.write([batch_of([record()])])
        await store.take_snapshot()
        beside = tmp_path / "memory.parquet.new"
        (beside / "in-the-way").mkdir(parents=True)
        with pytest.raises(DataFolderError, match="could not be written"):
            await store.take_snapshot()
        _, part = store.health()
        assert (part.state, part.facts["sequence"]) == ("warning", 1)
        await store.write([batch_of([record()])])
        with pytest.raises(DataFolderError):
            await store.close()
        await store.close()

    asyncio.run(story())
    found = memory_snapshot.read_snapshot(tmp_path / "memory.parquet")
    assert found is not None
    assert found.sequence == 1


def test_one_that_failed_is_tried_again_long_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_taker, "RETRY_S", 0.01)
    beside = tmp_path / "memory.parquet.new"
    tried: list[str] = []

    async def story() -> None:
        settings = Snapshots(tmp_path, 0.01)
        store = MemoryStore(ManualClock(), snapshots=settings, on_step=tried.append)
        await store.start()
        (beside / "in-the-way").mkdir(parents=True)
        await store.write([batch_of([record()])])
        async with asyncio.timeout(60):
            while store.health()[1].state != "warning":
                await asyncio.sleep(0.01)
            assert store._snapshots is not None
            store._snapshots.settings = replace(settings, interval_s=86_400)
            # One of these may have been on its way; after that the next is due in a day.
            tried.clear()
            while tried.count("snapshot.captured") < 3:
                await asyncio.sleep(0.01)
            shutil.rmtree(beside)
            while store.health()[1].facts["sequence"] != 1:
                await asyncio.sleep(0.01)
        assert store.health()[1].state == "ok"
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd")])
def test_whatever_goes_wrong_is_told_and_tried_again(tmp_path: Path, error: Exception) -> None:
    failing = True

    def on_step(name: str) -> None:
        if failing:
            raise error

    async def reached(store: MemoryStore, state: str) -> None:
        async with asyncio.timeout(60):
            while store.health()[1].state != state:
                await asyncio.sleep(0.01)

    async def story() -> None:
        nonlocal failing
        store = MemoryStore(ManualClock(), snapshots=Snapshots(tmp_path, 0.01), on_step=on_step)
        await store.start()
        await store.write([batch_of([record()])])
        await reached(store, "warning")
        assert store.health()[1].last_error.endswith(str(error) or "MemoryError")
        failing = False
        await reached(store, "ok")
        await store.close()

    asyncio.run(story())
    assert verify_snapshot(tmp_path).total().summed.records == 1


def test_other_readers_can_read_it(tmp_path: Path) -> None:
    snapshot = filled(tmp_path)
    kinds = duckdb.sql(f"select kind, count(*) from '{snapshot}' group by all order by all")
    assert kinds.fetchall() == [
        ("batch_id", 1),
        ("hour", 2),
        ("sums", 2 * len(HOSTILE_NAMES)),
    ]
