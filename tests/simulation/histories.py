"""Random histories of one store: what may happen to it, in any order, and what must then hold.

Each rule does one thing to the store and to `Expected`. Time moves only by a rule, and what is due
by it is done at once, so every answer is known exactly. A failing history is shrunk and printed as
the calls that lead to it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from flowtally.clock import ManualClock
from flowtally.errors import KeyReused
from flowtally.model import Batch, Receipt
from flowtally.ports import FlowStore
from flowtally.steps import OnStep, ignore
from flowtally.stores.duckdb.store import DuckdbSettings, DuckdbStore
from flowtally.stores.hourly.store import HourlySettings, HourlyStore
from flowtally.stores.journal_keeper import KeepingPeriods
from flowtally.stores.memory import MemoryStore
from flowtally.stores.sql.store import SqlSettings, SqlStore
from tests.conformance.batches import (
    HOUR_MS,
    HOURS,
    Record,
    batch_of,
    records_strategy,
    rows_as_they_are,
    rows_of,
)
from tests.conformance.subjects import (
    Duckdb,
    Hourly,
    MemoryWithSnapshots,
    Periods,
    Sql,
    SqlOnSqlite,
    Subject,
)
from tests.simulation.expected import Expected, Posted

PERIODS = Periods(retention_ms=48 * HOUR_MS, batch_ids_keep_ms=24 * HOUR_MS)
INTERVALS_MS = (40_000, HOUR_MS, 20 * HOUR_MS, 49 * HOUR_MS)
"""Quiet enough to compact, another arrival hour, batch_ids forgotten after two, rows expired."""
DUCKDB_STEPS = (
    "apply.read",
    "apply.written",
    "apply.committed",
    "compact.written",
    "compact.committed",
    "checkpoint.done",
    "expire.written",
    "expire.committed",
)
SQL_STEPS = (
    "commit.begun",
    "sql.copied",
    "commit.written",
    "commit.synced",
    "expire.journalled",
    "expire.written",
    "expire.committed",
)
HOURLY_STEPS = (
    "aggregate.read",
    "aggregate.written",
    "aggregate.committed",
    "expire.written",
    "expire.committed",
)
"""Those during which nobody else writes what the thread that they occur in writes, and so can
copy."""

Answer = TypeVar("Answer")
Sent = tuple[list[Record], str | None, bool]

hours_strategy = st.sampled_from((*HOURS, 7))
sent_strategy = st.tuples(
    records_strategy, st.sampled_from((None, "key-1", "key-2", "key-3")), st.booleans()
)
"""Records, a key, and whether to send under it what came under it before."""
group_strategy = st.lists(sent_strategy, min_size=1, max_size=4)


class Histories(RuleBasedStateMachine):
    """What may happen to any store."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        super().__init__()
        self.subject = subject
        self.clock = ManualClock()
        self.expected = Expected(PERIODS)
        self.seen: dict[int, dict[int, list[Record]]] = {}
        """The sums that each hour was seen with, by revision."""
        self.loop = asyncio.Runner()
        self.folder = folder
        self.store = self.open_store()

    def open_store(self) -> FlowStore:
        """Starts a store over the folder."""
        store = self.subject.make_store(self.folder, self.clock, PERIODS)
        self.run(store.start())
        return store

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run(work)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()

    @rule(group=group_strategy)
    def write(self, group: list[Sent]) -> None:
        posted = self._posted(group)
        batches = [batch_of(one.records, one.key) for one in posted]
        assert self.run(_answers(self.store, batches)) == [
            self.expected.post(one, self.clock.now_ms()) for one in posted
        ]

    @rule(group=group_strategy, hour=hours_strategy)
    def read_while_writing(self, group: list[Sent], hour: int) -> None:
        """Each read is of the sums before the group, after it, or after some of its batches."""
        posted = self._posted(group)
        batches = [batch_of(one.records, one.key) for one in posted]
        whole = [self.expected.oracle().hour(hour)]
        wanted = []
        for one in posted:
            wanted.append(self.expected.post(one, self.clock.now_ms()))
            whole.append(self.expected.oracle().hour(hour))

        async def story() -> None:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(_answers(self.store, batches))
                reads = [tasks.create_task(rows_of(self.store, hour)) for _ in range(3)]
            assert writing.result() == wanted
            for rows in reads:
                assert rows.result() in whole
            assert await rows_of(self.store, hour) == whole[-1]

        self.run(story())

    @rule(hour=hours_strategy)
    def read(self, hour: int) -> None:
        """Exact; and one revision of an hour has one answer, and never comes back."""
        rows = self.run(rows_of(self.store, hour))
        assert rows == self.expected.oracle().hour(hour)
        revision = self.run(self.store.revision(hour))
        seen = self.seen.setdefault(hour, {})
        assert revision.number >= max(seen, default=0)
        assert seen.setdefault(revision.number, rows) == rows

    @rule()
    def list_hours(self) -> None:
        self.run(self.store.settle())
        self.expected.assert_hours(self.run(self.store.hours()))

    @rule()
    def read_ledger(self) -> None:
        self.expected.assert_ledger(self.run(self.store.ledger()))

    @rule(interval_ms=st.sampled_from(INTERVALS_MS))
    def let_time_pass(self, interval_ms: int) -> None:
        self.clock.advance_ms(interval_ms)
        self.expire()

    def expire(self) -> None:
        """Brings the store to do what is due."""
        self.run(self.subject.expire(self.store))
        self.expected.expire(self.clock.now_ms())

    def read_all(self) -> None:
        """Everything that can be read is exact."""
        for hour in HOURS:
            self.read(hour)
        self.list_hours()
        self.read_ledger()

    def _posted(self, group: list[Sent]) -> list[Posted]:
        known = self.expected.known()
        return [
            Posted(known.get(key, records) if again and key else records, key)
            for records, key, again in group
        ]


class DurableHistories(Histories):
    """What may happen to a store on disk besides."""

    steps: tuple[str, ...]
    files: tuple[str, ...]
    """What the folder holds, in the order in which it may be copied."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.lives = 0
        self.in_flight = 0
        self.root = folder
        self.copy_at: str | None = None
        super().__init__(subject, folder / "0")

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.store = self.open_store()
        self.read_all()

    @rule(
        drawn=st.data(),
        interval_ms=st.sampled_from((0, *INTERVALS_MS)),
        records=records_strategy,
    )
    def die(self, drawn: st.DataObject, interval_ms: int, records: list[Record]) -> None:
        """The process is killed at a named step, or between two of them; what it does later in
        here nobody sees. The batch that was in flight then is sent again under its key."""
        self.in_flight += 1
        batch = batch_of(records, f"in-flight-{self.in_flight}")
        self.copy_at = drawn.draw(st.sampled_from((None, *self.steps)))
        self.clock.advance_ms(interval_ms)
        self.run(self._live_on(batch))
        self.run(self.store.close())
        shutil.rmtree(self.folder)
        self.folder = self._next_folder()
        self.lives += 1
        self.store = self.open_store()
        self.expire()
        [answer] = self.run(self.store.write([batch]))
        assert isinstance(answer, Receipt)
        posted = Posted(records, batch.batch_id)
        wanted = self.expected.post(posted, self.clock.now_ms())
        if answer.repeated:
            wanted = self.expected.post(posted, self.clock.now_ms())
        assert answer == wanted
        self.read_all()

    async def _live_on(self, batch: Any) -> None:
        """Passes through as many steps as there is work for, until a copy is taken."""
        await self.subject.expire(self.store)
        await self.store.write([batch])
        await rows_of(self.store, 1)
        await self.copy_between()

    async def copy_between(self) -> None:
        """Copies the folder while nothing is on its way."""
        self._copy_now()

    def on_step(self, name: str) -> None:
        if name == self.copy_at:
            self._copy_now()

    def _copy_now(self) -> None:
        """The journal may be written meanwhile: its log only
        grows, and what is cut off of it was answered to nobody."""
        self.copy_at = None
        target = self._next_folder()
        if target.exists():
            return
        target.mkdir()
        for name in self.files:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, target / name)

    def _next_folder(self) -> Path:
        return self.root / str(self.lives + 1)


class DuckdbHistories(DurableHistories):
    """Of the journal with DuckDB behind it."""

    steps = DUCKDB_STEPS
    files = ("sums.duckdb", "sums.duckdb.wal", "journal.sqlite", "journal.sqlite-wal")

    def __init__(self, folder: Path) -> None:
        super().__init__(Duckdb(), folder)

    def open_store(self) -> DuckdbStore:
        periods = KeepingPeriods(PERIODS.retention_ms, PERIODS.batch_ids_keep_ms)
        settings = DuckdbSettings(periods)
        store = DuckdbStore(self.folder, self.clock, settings, self.on_step)
        self.run(store.start())
        return store

    async def copy_between(self) -> None:
        assert isinstance(self.store, DuckdbStore)
        await self.store.applier.run_between(self._copy_now)


class HourlyHistories(DurableHistories):
    """Of the store that sums by the hour; what is written is also looked at before it is summed."""

    steps = HOURLY_STEPS
    files = ("results.sqlite", "results.sqlite-wal", "journal.sqlite", "journal.sqlite-wal")

    def __init__(self, folder: Path) -> None:
        super().__init__(Hourly(), folder)

    def open_store(self) -> HourlyStore:
        settings = HourlySettings(KeepingPeriods(PERIODS.retention_ms, PERIODS.batch_ids_keep_ms))
        store = HourlyStore(self.folder, self.clock, settings, self.on_step)
        self.run(store.start())
        return store

    @rule(group=group_strategy)
    def look_before_the_run(self, group: list[Sent]) -> None:
        """Reads are of before, and those of hours that wait say so; then the run changes both."""
        self.run(self.store.settle())
        before = self.expected.oracle()
        self.write(group)
        after = self.expected.oracle()
        posted = self._posted(group)
        touched = {one["hour"] for batch in posted for one in batch.records}
        for hour in (*HOURS, 7):
            assert self.run(rows_as_they_are(self.store, hour)) == before.hour(hour)
            partial = self.run(self.store.is_partial(hour))
            assert partial or after.hour(hour) == before.hour(hour)
            assert hour in touched or not partial
        self.run(self.store.settle())
        for hour in (*HOURS, 7):
            assert not self.run(self.store.is_partial(hour))
            assert self.run(rows_as_they_are(self.store, hour)) == after.hour(hour)


class SqliteHistories(DurableHistories):
    """Of the sql store: whoever is at a step has the lock, so nobody else writes the file."""

    steps = SQL_STEPS
    files = ("flows.sqlite", "flows.sqlite-wal")

    def __init__(self, folder: Path) -> None:
        super().__init__(SqlOnSqlite(), folder)

    def open_store(self) -> SqlStore:
        return _open_sql(self, self.on_step)


class SharedHistories(Histories):
    """What may happen to one of several stores on the same tables: another one takes over."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        super().__init__(subject, folder)
        self.other = self.open_store()

    def open_store(self) -> SqlStore:
        return _open_sql(self, ignore)

    @rule()
    def change(self) -> None:
        self.store, self.other = self.other, self.store
        self.read_all()

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.store = self.open_store()
        self.read_all()

    @rule(group=group_strategy)
    def write_through_both(self, group: list[Sent]) -> None:
        """At once: of each key's batch one counts, whichever comes first."""
        posted = [
            Posted(one.records, f"both-{self.twice}-{index}")
            for index, one in enumerate(self._posted(group))
        ]
        self.twice += 1
        batches = [batch_of(one.records, one.key) for one in posted]

        async def story() -> None:
            found = await asyncio.gather(
                _answers(self.store, batches), _answers(self.other, batches)
            )
            for one, answers in zip(posted, zip(*found, strict=True), strict=True):
                wanted = [self.expected.post(one, self.clock.now_ms()) for _ in range(2)]
                assert sorted(map(repr, answers)) == sorted(map(repr, wanted))

        self.run(story())

    twice = 0

    def teardown(self) -> None:
        self.run(self.other.close())
        super().teardown()


def _open_sql(history: Histories, on_step: OnStep) -> SqlStore:
    assert isinstance(history.subject, Sql)
    settings = SqlSettings(PERIODS.retention_ms, PERIODS.batch_ids_keep_ms)
    url = history.subject.url_of(history.folder)
    store = SqlStore(url, history.folder, history.clock, settings, on_step)
    history.run(store.start())
    return store


class SnapshotHistories(Histories):
    """What may happen to a store that keeps snapshots besides: it comes back as it was when it was
    closed, or as it was at its last snapshot."""

    def __init__(self, folder: Path) -> None:
        super().__init__(MemoryWithSnapshots(), folder)
        self.at_snapshot = Expected(PERIODS)

    @rule()
    def take_snapshot(self) -> None:
        assert isinstance(self.store, MemoryStore)
        self.run(self.store.take_snapshot())
        self.at_snapshot = deepcopy(self.expected)

    @rule()
    def restart(self) -> None:
        revisions = self._revisions()
        self.run(self.store.close())
        self.store = self.open_store()
        assert self._revisions() == revisions
        self.at_snapshot = deepcopy(self.expected)
        self.read_all()

    @rule()
    def die(self) -> None:
        """What the folder holds now is all that is left; every revision is a new one."""
        revisions = self._revisions()
        left = self.folder.with_name(self.folder.name + "-")
        shutil.copytree(self.folder, left)
        self.run(self.store.close())
        self.folder = left
        self.store = self.open_store()
        self.expected = deepcopy(self.at_snapshot)
        self.expire()
        later = self._revisions()
        assert all(later[hour] > was for hour, was in revisions.items())
        self.read_all()

    def _revisions(self) -> dict[int, int]:
        return {hour: self.run(self.store.revision(hour)).number for hour in (*HOURS, 7)}


async def _answers(store: FlowStore, batches: Sequence[Batch]) -> list[Receipt | type[KeyReused]]:
    """What it says to each batch, as far as that can be foretold."""
    answers = await store.write(batches)
    return [one if isinstance(one, Receipt) else type(one) for one in answers]
