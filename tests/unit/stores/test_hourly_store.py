"""What is the hourly store's alone: when runs happen, what they say of themselves, what a start
refuses, and what verify finds.

The contract of a store is tested in `tests/conformance/`.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowtally.clock import ManualClock
from flowtally.errors import DamagedData, DataFolderError, FolderInUse, NotAccepting
from flowtally.ingest import journal_schema, journal_snapshot
from flowtally.ingest.journal_rows import read_ledger
from flowtally.model import PartHealth
from flowtally.steps import OnStep, ignore
from flowtally.stores.duckdb.store import DuckdbStore
from flowtally.stores.hourly import gathering
from flowtally.stores.hourly.aggregator import RETRY_S
from flowtally.stores.hourly.files import aggregate_folder, verify_folder
from flowtally.stores.hourly.store import HourlySettings, HourlyStore
from flowtally.stores.journal_keeper import KeepingPeriods
from flowtally.stores.memory import MemoryStore
from flowtally.stores.memory_taker import Snapshots
from tests.conformance.batches import HOUR_MS, batch_of, record, rows_as_they_are, rows_of
from tests.oracle import Oracle

Story = Callable[[HourlyStore], Awaitable[None]]
SMALL = HourlySettings(pending_bytes_max=600)


def tell(
    folder: Path,
    story: Story,
    clock: ManualClock | None = None,
    settings: HourlySettings = HourlySettings(),
    on_step: OnStep = ignore,
) -> None:
    """Tells a story to a store over the folder."""

    async def told() -> None:
        store = HourlyStore(folder, clock or ManualClock(), settings, on_step)
        await store.start()
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(told())


async def until(holds: Callable[[], bool]) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


def aggregator_of(store: HourlyStore) -> PartHealth:
    [part] = [part for part in store.health() if part.name == "aggregator"]
    return part


class Gate:
    """A step that a test can hold."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, name: str) -> None:
        if name == self.step:
            self.reached.set()
            assert self.open.wait(60)


def test_nothing_is_summed_before_its_time_and_then_all_of_it(tmp_path: Path) -> None:
    clock = ManualClock()

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record(), record(hour=2)])])
        assert await rows_as_they_are(store, 1) == []
        assert [await store.is_partial(hour) for hour in (1, 2, 3)] == [True, True, False]
        assert (await store.ledger()).total().pending.records == 2
        clock.advance_ms(HOUR_MS - 1)
        await store.write([batch_of([record()])])
        assert aggregator_of(store).facts["runs"] == 0
        clock.advance_ms(1)
        await until(lambda: aggregator_of(store).facts["runs"] == 1)
        assert await rows_as_they_are(store, 1) == [record(rx=2, tx=4)]
        assert not await store.is_partial(1)
        assert (await store.ledger()).total().pending.records == 0

    tell(tmp_path, story, clock)


def test_late_records_are_added_by_the_next_run(tmp_path: Path) -> None:
    clock = ManualClock()

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        await store.settle()
        first = await store.revision(1)
        clock.advance_ms(HOUR_MS // 2)
        await store.write([batch_of([record(), record(src="late")])])
        assert await rows_as_they_are(store, 1) == [record()]
        assert await store.is_partial(1)
        assert await store.revision(1) == (await store.sums(1)).revision == first
        clock.advance_ms(HOUR_MS // 2)
        await until(lambda: aggregator_of(store).facts["runs"] == 2)
        assert await rows_as_they_are(store, 1) == [record(rx=2, tx=4), record(src="late")]
        later = await store.revision(1)
        assert later.number > first.number
        assert later.changed_ms == clock.now_ms()

    tell(tmp_path, story, clock)


def test_a_run_begins_early_and_batches_are_refused_only_when_it_cannot_keep_up(
    tmp_path: Path,
) -> None:
    gate = Gate("aggregate.read")

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record(src=f"app-{number}") for number in range(30)])])
        await until(gate.reached.is_set)
        assert store.refusing() is None
        while store.refusing() is None:
            await store.write([batch_of([record(src=f"app-{number}") for number in range(30)])])
        assert "behind" in (store.refusing() or "")
        with pytest.raises(NotAccepting, match="behind"):
            await store.write([batch_of([record()])])
        gate.open.set()
        await until(lambda: store.refusing() is None)
        await store.write([batch_of([record(hour=2)])])
        assert await rows_of(store, 2) == [record(hour=2)]

    tell(tmp_path, story, settings=SMALL, on_step=gate)


def test_a_start_goes_on_with_what_waits_and_knows_its_hours(tmp_path: Path) -> None:
    clock = ManualClock()

    async def before(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        await store.settle()
        await store.write([batch_of([record(hour=2)])])

    async def after(store: HourlyStore) -> None:
        assert await store.is_partial(2)
        async with asyncio.timeout(60):
            while await store.is_partial(1):
                await asyncio.sleep(0.005)
        assert await store.is_partial(2)
        assert await rows_as_they_are(store, 2) == []
        assert aggregator_of(store).facts["pending_batches"] == 1
        await until(lambda: aggregator_of(store).facts["oldest_pending_age_ms"] == 60_000)
        clock.advance_ms(HOUR_MS - 60_000)
        await until(lambda: aggregator_of(store).facts["runs"] == 1)
        assert await rows_as_they_are(store, 2) == [record(hour=2)]

    tell(tmp_path, before, clock)
    clock.advance_ms(60_000)
    tell(tmp_path, after, clock)


def test_a_run_that_came_due_while_nothing_ran_is_done_at_once(tmp_path: Path) -> None:
    clock = ManualClock()

    async def before(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        await store.settle()
        await store.write([batch_of([record()])])

    async def after(store: HourlyStore) -> None:
        await until(lambda: aggregator_of(store).facts["runs"] == 1)
        assert await rows_as_they_are(store, 1) == [record(rx=2, tx=4)]

    tell(tmp_path, before, clock)
    clock.jump_ms(HOUR_MS)
    tell(tmp_path, after, clock)


def test_an_hour_is_rewritten_once_for_many_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowtally.limits.AGGREGATE_BYTES_MAX", 200)
    steps: list[str] = []
    oracle = Oracle()

    async def story(store: HourlyStore) -> None:
        for number in range(40):
            records = [record(src=f"app-{number % 7}", rx=number), record(hour=2)]
            oracle.post(records)
            await store.write([batch_of(records)])
        await store.settle()
        assert await rows_as_they_are(store, 1) == oracle.hour(1)
        assert await rows_as_they_are(store, 2) == oracle.hour(2)

    tell(tmp_path, story, on_step=steps.append)
    assert steps.count("aggregate.read") > 10
    assert steps.count("aggregate.written") == 1


def test_what_does_not_fit_into_memory_is_written_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowtally.limits.AGGREGATE_BYTES_MAX", 200)
    monkeypatch.setattr(gathering, "FLOWS_MAX", 20)
    steps: list[str] = []
    oracle = Oracle()

    async def story(store: HourlyStore) -> None:
        for number in range(40):
            records = [record(src=f"app-{number}-{part}", rx=number) for part in range(3)]
            oracle.post(records)
            await store.write([batch_of(records)])
        assert await rows_of(store, 1) == oracle.hour(1)
        assert (await store.ledger()).balances

    tell(tmp_path, story, on_step=steps.append)
    assert 1 < steps.count("aggregate.written") < steps.count("aggregate.read")


def test_the_log_does_not_grow_with_the_pieces_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them writes the hour anew: all together they would take many times its room."""
    monkeypatch.setattr("flowtally.limits.AGGREGATE_BYTES_MAX", 200)
    monkeypatch.setattr("flowtally.limits.WAL_CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(gathering, "FLOWS_MAX", 20)
    found: list[int] = []

    async def story(store: HourlyStore) -> None:
        for number in range(40):
            await store.write([batch_of([record(f"app-{number}-{part}") for part in range(30)])])
        monkeypatch.setattr(
            store.runner,
            "_on_step",
            lambda step: found.append(store.results.log_bytes()),
        )
        await store.settle()

    tell(tmp_path, story)
    assert len(found) > 40
    assert max(found) < 3 * 64 * 1024


def test_a_run_that_found_no_room_gives_back_what_it_took(tmp_path: Path) -> None:
    """Or its own log would be what keeps the next one from having room."""
    full = threading.Event()
    taken: list[int] = []

    def fail(name: str) -> None:
        if name == "aggregate.written" and full.is_set():
            full.clear()
            taken.append(log.stat().st_size)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    log = tmp_path / "results.sqlite-wal"

    async def story(store: HourlyStore) -> None:
        # What does not fit into it is written before the commit.
        store.results.writer.execute("PRAGMA cache_size = 10")
        await store.write([batch_of([record(f"app-{part}") for part in range(5_000)])])
        await store.write([batch_of([record(f"app-{part}", hour=2) for part in range(5_000)])])
        full.set()
        with pytest.raises(NotAccepting, match="full"):
            await store.settle()
        assert taken[0] > 20_000
        assert log.stat().st_size == 0
        await store.settle()
        assert len(await rows_of(store, 1)) == 5_000

    tell(tmp_path, story, on_step=fail)


def test_a_read_beside_a_run_is_of_before_it(tmp_path: Path) -> None:
    gate = Gate("aggregate.written")
    gate.open.set()

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        await store.settle()
        before = await store.revision(1)
        gate.open.clear()
        gate.reached.clear()
        await store.write([batch_of([record()])])
        running = asyncio.create_task(store.settle())
        await until(gate.reached.is_set)
        assert await rows_as_they_are(store, 1) == [record()]
        assert (await store.sums(1)).revision == await store.revision(1) == before
        assert await store.is_partial(1)
        ledger = await store.ledger()
        assert ledger.balances and ledger.total().pending.batches == 1
        gate.open.set()
        await running
        assert await rows_as_they_are(store, 1) == [record(rx=2, tx=4)]

    tell(tmp_path, story, on_step=gate)


def test_a_run_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    broken = threading.Event()

    def fail(name: str) -> None:
        if name == "aggregate.written" and broken.is_set():
            raise sqlite3.OperationalError("no such luck")

    async def story(store: HourlyStore) -> None:
        broken.set()
        await store.write([batch_of([record()])])
        with pytest.raises(NotAccepting, match="no such luck"):
            await store.settle()
        part = aggregator_of(store)
        assert (part.state, "no such luck" in part.last_error) == ("warning", True)
        assert part.hint
        assert store.refusing() is None
        await store.write([batch_of([record()])])
        assert await rows_as_they_are(store, 1) == []
        assert (await store.ledger()).balances
        broken.clear()
        assert await rows_of(store, 1) == [record(rx=2, tx=4)]
        assert aggregator_of(store).state == "ok"

    tell(tmp_path, story, on_step=fail)


def test_while_another_program_has_the_results_locked_reads_go_on(tmp_path: Path) -> None:
    """Not even a retry, which may wait for the lock as well, keeps them out."""

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        await store.settle()
        writer = store.results.writer
        with closing(sqlite3.connect(store.results.path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            writer.execute("PRAGMA busy_timeout = 10")
            await store.write([batch_of([record()])])
            for _ in range(2):
                with pytest.raises(NotAccepting, match="locked"):
                    await store.settle()
                assert store.results.writer is writer, "the results were closed meanwhile"
                assert await rows_as_they_are(store, 1) == [record()]
            assert aggregator_of(store).state == "warning"
            shell.execute("ROLLBACK")
        assert await rows_of(store, 1) == [record(rx=2, tx=4)]
        assert aggregator_of(store).state == "ok"

    tell(tmp_path, story)


def test_a_run_that_was_asked_for_and_failed_is_tried_again_by_itself(tmp_path: Path) -> None:
    """Long before the next one is due: whoever asked may not do so again."""
    broken = threading.Event()
    clock = ManualClock()

    def fail(name: str) -> None:
        if name == "aggregate.written" and broken.is_set():
            raise sqlite3.OperationalError("no such luck")

    async def story(store: HourlyStore) -> None:
        broken.set()
        await store.write([batch_of([record()])])
        with pytest.raises(NotAccepting, match="no such luck"):
            await store.settle()
        broken.clear()
        clock.advance_ms(int(RETRY_S * 1000))
        await until(lambda: aggregator_of(store).state == "ok")
        assert await rows_as_they_are(store, 1) == [record()]

    tell(tmp_path, story, clock, on_step=fail)


def test_a_batch_that_is_missing_at_the_end_is_told(tmp_path: Path) -> None:
    """Also to whoever waits for a run: nothing dies of it silently."""

    async def writes(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])

    tell(tmp_path, writes)
    with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
        journal.execute("DELETE FROM pending")
    journal.close()

    async def story(store: HourlyStore) -> None:
        async with asyncio.timeout(60):
            with pytest.raises(NotAccepting, match="is missing"):
                await store.settle()
        assert aggregator_of(store).state == "error"
        assert store.refusing() is not None

    tell(tmp_path, story)


def test_an_overdue_run_is_a_warning(tmp_path: Path) -> None:
    gate = Gate("aggregate.read")
    clock = ManualClock()

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        clock.advance_ms(HOUR_MS)
        await until(gate.reached.is_set)
        assert aggregator_of(store).state == "ok"
        clock.advance_ms(HOUR_MS // 10 + 1_000)
        part = aggregator_of(store)
        assert (part.state, "overdue" in part.detail, bool(part.hint)) == ("warning", True, True)
        gate.open.set()
        await store.settle()
        part = aggregator_of(store)
        assert (part.state, part.facts["last_run_ms"]) == ("ok", clock.now_ms())

    tell(tmp_path, story, clock, on_step=gate)


def test_a_damaged_part_is_told_and_nothing_more_is_taken(tmp_path: Path) -> None:
    async def write(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        await store.settle()

    async def story(store: HourlyStore) -> None:
        with pytest.raises(NotAccepting, match="cannot be read now"):
            await store.sums(1)
        await store.write([batch_of([record()])])
        with pytest.raises(NotAccepting, match="damaged"):
            await store.settle()
        assert aggregator_of(store).state == "error"
        assert "damaged" in (store.refusing() or "")

    tell(tmp_path, write)
    with sqlite3.connect(tmp_path / "results.sqlite") as other:
        other.execute("UPDATE parts SET sums = zeroblob(length(sums))")
    other.close()
    tell(tmp_path, story)
    report = verify_folder(tmp_path, ManualClock())
    assert any("results.sqlite is damaged" in fault for fault in report.faults)


def test_a_commit_in_the_middle_of_a_ledger_is_wholly_in_it_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        loop = asyncio.get_running_loop()

        def after_a_commit_and_a_run(reader: sqlite3.Connection) -> Any:
            for done in (store.write([batch_of([record()])]), store.settle()):
                asyncio.run_coroutine_threadsafe(done, loop).result()
            return read_ledger(reader)

        monkeypatch.setattr(journal_snapshot, "read_ledger", after_a_commit_and_a_run)
        ledger = await store.ledger()
        assert ledger.balances, ledger
        assert ledger.total().accepted.batches == ledger.total().pending.batches == 1

    tell(tmp_path, story)


def test_expired_space_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_schema, "_FREE_PAGES_KEPT", 10)
    clock = ManualClock()
    periods = KeepingPeriods(retention_ms=2 * HOUR_MS)

    async def story(store: HourlyStore) -> None:
        for hour in range(60):
            records = [
                record(f"{hour}-{number}" * 8, hour=hour, rx=number) for number in range(999)
            ]
            await store.write([batch_of(records)])
        await store.settle()
        full = (tmp_path / "results.sqlite").stat().st_size
        clock.advance_ms(4 * HOUR_MS)
        await store.keeper.tidy()
        await store.settle()
        assert await store.hours() == []
        assert (tmp_path / "results.sqlite").stat().st_size < full / 4

    tell(tmp_path, story, clock, replace(HourlySettings(), periods=periods))


def test_what_waited_longer_than_it_is_kept_is_summed_and_dropped(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = HourlySettings(KeepingPeriods(retention_ms=2 * HOUR_MS), aggregate_interval_s=1e6)

    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()])])
        clock.advance_ms(5 * HOUR_MS)
        await store.write([batch_of([record()])])
        await store.keeper.tidy()
        assert await rows_of(store, 1) == [record()]
        ledger = await store.ledger()
        assert ledger.balances and ledger.total().expired.records == 1

    tell(tmp_path, story, clock, settings)


# What a start refuses.


def _filled(folder: Path) -> None:
    async def story(store: HourlyStore) -> None:
        await store.write([batch_of([record()]), batch_of([record(hour=2)])])
        await store.settle()
        await store.keeper.tidy()

    tell(folder, story)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda one, two: (one / "results.sqlite").unlink(),
            "results.sqlite is missing",
            id="results-deleted",
        ),
        pytest.param(
            lambda one, two: (one / "journal.sqlite").unlink(),
            "journal.sqlite is missing",
            id="journal-deleted",
        ),
        pytest.param(
            lambda one, two: shutil.copy(two / "results.sqlite", one / "results.sqlite"),
            "belongs to another data folder",
            id="results-of-another-folder",
        ),
        pytest.param(
            lambda one, two: (one / "results.sqlite").write_bytes(b"noise " * 4_000),
            "results.sqlite is damaged",
            id="results-overwritten",
        ),
    ],
)
def test_a_folder_that_lost_something_is_refused_and_the_file_named(
    tmp_path: Path, damage: Callable[[Path, Path], None], message: str
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        _filled(folder)
    damage(one, two)
    with pytest.raises(DamagedData, match=message):
        asyncio.run(HourlyStore(one, ManualClock()).start())


def test_older_results_beside_a_newer_journal_are_refused(tmp_path: Path) -> None:
    data, old = tmp_path / "data", tmp_path / "old"
    _filled(data)
    shutil.copytree(data, old)
    _filled(data)
    for kept in old.glob("results.sqlite*"):
        shutil.copy(kept, data / kept.name)
    with pytest.raises(DamagedData, match=r"results\.sqlite has lost data: it ends at batch 2"):
        asyncio.run(HourlyStore(data, ManualClock()).start())


@pytest.mark.parametrize("owner", ["duckdb", "hourly", "memory"])
def test_another_store_s_folder_is_refused_and_its_store_named(tmp_path: Path, owner: str) -> None:
    def make(store: str) -> Any:
        clock = ManualClock()
        if store == "memory":
            return MemoryStore(clock, snapshots=Snapshots(tmp_path, 86_400))
        return (DuckdbStore if store == "duckdb" else HourlyStore)(tmp_path, clock)

    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    async def story() -> None:
        store = make(owner)
        await store.start()
        await store.close()
        before = names()
        for other in {"duckdb", "hourly", "memory"} - {owner}:
            with pytest.raises(DataFolderError, match=f"the data of the store {owner} "):
                await make(other).start()
        assert names() == before

    asyncio.run(story())


# Stopped folders.


def test_a_stopped_folder_is_aggregated_and_verified(tmp_path: Path) -> None:
    async def write(store: HourlyStore) -> None:
        await store.write([batch_of([record()]), batch_of([record()])])

    async def read(store: HourlyStore) -> None:
        assert await rows_as_they_are(store, 1) == [record(rx=2, tx=4)]
        for call in (verify_folder, aggregate_folder):
            with pytest.raises(FolderInUse):
                call(tmp_path, ManualClock())

    tell(tmp_path, write)
    pending = verify_folder(tmp_path, ManualClock())
    assert pending.ledger.balances and pending.ledger.total().pending.batches == 2
    assert aggregate_folder(tmp_path, ManualClock()) == 2
    assert aggregate_folder(tmp_path, ManualClock()) == 0
    summed = verify_folder(tmp_path, ManualClock())
    assert summed.ledger.balances and summed.ledger.total().summed.batches == 2
    assert (pending.faults, summed.faults) == ((), ())
    tell(tmp_path, read)


def test_a_folder_that_is_none_is_not_made(tmp_path: Path) -> None:
    for call in (verify_folder, aggregate_folder):
        with pytest.raises(DataFolderError, match="is not a data folder of the store hourly"):
            call(tmp_path / "nothing", ManualClock())
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE parts SET bytes_rx = '7' WHERE arrival_hour = -1", "not hold what is noted"),
        ("UPDATE parts SET bytes_rx = '7' WHERE arrival_hour = -1", "not the sum of its arrival"),
        ("DELETE FROM parts WHERE arrival_hour = -1", "the sum of its arrival hours is missing"),
    ],
)
def test_verify_finds_what_is_changed_beside_the_rows(
    tmp_path: Path, change: str, fault: str
) -> None:
    clock = ManualClock()

    async def story(store: HourlyStore) -> None:
        for _ in range(2):
            await store.write([batch_of([record()])])
            clock.advance_ms(HOUR_MS)
        await store.settle()

    tell(tmp_path, story, clock)
    assert verify_folder(tmp_path, clock).faults == ()
    with sqlite3.connect(tmp_path / "results.sqlite") as other:
        other.execute(change)
    other.close()
    assert any(fault in one for one in verify_folder(tmp_path, clock).faults)


def test_the_ledger_counts_what_is_served(tmp_path: Path) -> None:
    """A whole part too few in what is served does not balance."""
    clock = ManualClock()

    async def story(store: HourlyStore) -> None:
        for _ in range(2):
            await store.write([batch_of([record(), record(src="x")])])
            clock.advance_ms(HOUR_MS)
        await store.settle()

    async def exchange(store: HourlyStore) -> None:
        with store.results.transaction() as cursor:
            [(sums,)] = cursor.execute(
                "SELECT sums FROM parts WHERE arrival_hour >= 0 LIMIT 1"
            ).fetchall()
            cursor.execute("UPDATE parts SET sums = ? WHERE arrival_hour = -1", (sums,))
            cursor.execute("COMMIT")
        ledger = await store.ledger()
        assert not ledger.balances
        assert ledger.total().difference.records == 2

    tell(tmp_path, story, clock)
    tell(tmp_path, exchange, clock)
