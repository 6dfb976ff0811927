"""The store that sums by the hour: writes go to the journal, reads to finished sums.

What was written is visible once a run has taken it in: `settle` has one done at once. Until then an
hour is served as it is, and `is_partial` says that more is known to come.

Which thread does what: commits and tidying run in the journal's thread, the results are written in
the aggregator's, reads run in a small pool. The event loop only waits.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import DamagedData, KeyReused, NotAccepting
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import Pending
from flowtally.ingest.journal_snapshot import copy_database, journal_snapshot
from flowtally.model import (
    Backup,
    BackupPoint,
    Batch,
    HourSummary,
    Ledger,
    PartHealth,
    Receipt,
    Revision,
    Sums,
)
from flowtally.ports import FlowStore
from flowtally.steps import OnStep, ignore
from flowtally.stores.folder import DataFolder
from flowtally.stores.hourly.aggregator import Aggregator, Schedule
from flowtally.stores.hourly.files import STORE, open_files
from flowtally.stores.hourly.reads import hours_of, ledger_from, revision_of, sums_of
from flowtally.stores.hourly.results import Results, state_of
from flowtally.stores.hourly.run import Runner
from flowtally.stores.journal_keeper import JournalKeeper, KeepingPeriods
from flowtally.stores.journal_pair import point_of
from flowtally.stores.staging import GoOn, require_room, staged

logger = logging.getLogger(__name__)

_READERS = 4
_EARLY_SHARE = 0.5
"""Of `pending_bytes_max`: from there on a run begins before its time, and has as much room again
until batches would be refused."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class HourlySettings:
    """What an operator may set; each is explained in docs/reference/settings.md."""

    periods: KeepingPeriods = KeepingPeriods()
    pending_bytes_max: int = limits.PENDING_BYTES_MAX
    aggregate_interval_s: float = 3_600.0


class HourlyStore(FlowStore):
    """See the module, and `FlowStore` for the contract."""

    visible_on_return = False

    def __init__(
        self,
        path: Path,
        clock: Clock,
        settings: HourlySettings = HourlySettings(),
        on_step: OnStep = ignore,
    ) -> None:
        self.folder = DataFolder(path, STORE)
        self.journal = Journal(self.folder.journal, clock, on_step)
        self.results = Results(self.folder.results)
        self.runner = Runner(self.journal, self.results, clock, on_step)
        self.keeper = JournalKeeper(
            self.journal, self.folder, clock, settings.periods, self._oldest_arrival_hour
        )
        self.aggregator = Aggregator(
            self.runner,
            self.journal,
            self.results,
            self.folder,
            clock,
            Schedule(settings.aggregate_interval_s, int(settings.pending_bytes_max * _EARLY_SHARE)),
        )
        self._clock = clock
        self._pending_bytes_max = settings.pending_bytes_max
        self._readers: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._open)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="flowtally-reader")
        self.keeper.start()

    def announce(self, url: str) -> None:
        self.folder.sign(url)

    async def close(self) -> None:
        await self.keeper.close()
        readers, self._readers = self._readers, None
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        self.folder.open()
        try:
            open_files(self.folder, self.journal, self.results)
            self.aggregator.start()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self.aggregator.close()
        self.results.close()
        self.journal.close()
        self.folder.close()

    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        reason = self.refusing()
        if reason is not None:
            raise NotAccepting(reason, retry_after_s=5)
        return await self.keeper.commit(batches, self._note_committed)

    def _note_committed(self, hours: Iterable[int], entry: Pending) -> None:
        self.runner.awaited.note(hours, entry.sequence)

    def refusing(self) -> str | None:
        reason = self.keeper.refusing() or self.aggregator.damage
        if reason is None and self.journal.pending_bytes > self._pending_bytes_max:
            reason = "the store is behind: too much is journalled and not yet aggregated"
        return reason

    def count_refused(self, batches: int = 1) -> None:
        self.journal.count_refused(batches)

    async def settle(self) -> None:
        await self.aggregator.wait_applied(self.journal.last_sequence)

    def instance(self) -> str | None:
        return self.journal.folder_id or None

    async def is_partial(self, hour: int) -> bool:
        return self.runner.awaited.holds(hour)

    async def revision(self, hour: int) -> Revision:
        known = self.runner.revisions.get(hour)
        if known is not None:
            return known
        found, as_of = await self._read(
            lambda reader: (revision_of(reader, hour), state_of(reader).applied)
        )
        if found.number:
            self.runner.revisions.touch([hour], found, as_of)
        return found

    async def sums(self, hour: int) -> Sums:
        return await self._read(lambda reader: sums_of(reader, hour))

    async def hours(self) -> Sequence[HourSummary]:
        return await self._read(hours_of)

    def counting_disturbs(self) -> str | None:
        return self.keeper.counting_disturbs()

    async def ledger(self) -> Ledger:
        return await self._in_reader(self._ledger)

    def _ledger(self) -> Ledger:
        # Both moments begin while nothing moves from the one file to the other; what takes long
        # comes after that, and nobody waits for it.
        with ExitStack() as both:
            with self.runner.standing_still:
                moment = both.enter_context(journal_snapshot(self.journal.path))
                reader = both.enter_context(self.results.reading())
            return ledger_from(reader, moment)

    def backed_up(self) -> AbstractAsyncContextManager[Backup]:
        return staged(self.folder.staging, self._copy)

    def _copy(self, staging: Path, go_on: GoOn) -> BackupPoint:
        paths = (self.journal.path, self.results.path)
        logs = self.journal.log_bytes() + self.results.log_bytes()
        require_room(staging, logs + sum(path.stat().st_size for path in paths))
        with ExitStack() as held:
            with self.keeper.log_left(), ExitStack() as journal_held:
                with self.runner.standing_still:
                    moment = journal_held.enter_context(journal_snapshot(self.journal.path))
                    reader = held.enter_context(self.results.reading())
                point = point_of(moment, STORE, self._clock.now_ms())
                moment.copy_to(staging / self.journal.path.name, go_on)
            copy_database(reader, staging / self.results.path.name, go_on)
            return point

    async def _read(self, query: Callable[[sqlite3.Connection], Answer]) -> Answer:
        def read() -> Answer:
            with self.results.reading() as reader:
                return query(reader)

        return await self._in_reader(read)

    async def _in_reader(self, work: Callable[[], Answer]) -> Answer:
        if self._readers is None:
            raise NotAccepting("the store is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        except (DamagedData, sqlite3.Error) as error:
            logger.error("read failed", exc_info=error)
            raise NotAccepting("the store cannot be read now", retry_after_s=5) from error

    async def _oldest_arrival_hour(self) -> int | None:
        """Of what is summed, and of what waits: that is summed before an expiry drops it."""
        return await self._in_reader(self._find_oldest)

    def _find_oldest(self) -> int | None:
        with self.results.reading() as reader:
            [(summed,)] = reader.execute(
                "SELECT MIN(arrival_hour) FROM parts WHERE arrival_hour >= 0"
            ).fetchall()
        waiting = self.journal.pending(self.runner.applied, tally_bytes_max=1)
        held = [summed, *(entry.arrival_hour for entry in waiting)]
        return min((hour for hour in held if hour is not None), default=None)

    def health(self) -> Sequence[PartHealth]:
        journal, tidying, *disk = self.keeper.health()
        return (journal, self.aggregator.health(), tidying, *disk)
