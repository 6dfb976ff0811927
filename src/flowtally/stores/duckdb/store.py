"""The default store: writes go to the journal, reads to DuckDB, the applier stands between.

Which thread does what: commits and tidying run in the journal's (`JournalKeeper`), DuckDB is
written in the applier's, reads run in a small pool. The event loop only waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import (
    DamagedData,
    KeyReused,
    NotAccepting,
)
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import Pending
from flowtally.ingest.journal_snapshot import JournalSnapshot, journal_snapshot
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
from flowtally.stores.duckdb.applier import Applier
from flowtally.stores.duckdb.database import Database, applied_of, refuse_newer
from flowtally.stores.duckdb.reads import Snapshot, ledger_now, snapshot
from flowtally.stores.folder import DataFolder
from flowtally.stores.journal_keeper import JournalKeeper, KeepingPeriods
from flowtally.stores.journal_pair import open_both, point_of
from flowtally.stores.revisions import Revisions
from flowtally.stores.staging import GoOn, copy_file, require_room, staged

logger = logging.getLogger(__name__)

_READERS = 4
_READ_ATTEMPTS = 25
_READ_RETRY_S = 0.2
"""Together 5 s: the applier opens the database anew after a failure, and its log is read then."""
_UNREADABLE = "the store cannot be read now"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class DuckdbSettings:
    """What an operator may set; each is explained in docs/reference/settings.md."""

    periods: KeepingPeriods = KeepingPeriods()
    pending_bytes_max: int = limits.PENDING_BYTES_MAX
    memory_bytes_max: int | None = None


class DuckdbStore(FlowStore):
    """See the module, and `FlowStore` for the contract."""

    visible_on_return = True

    def __init__(
        self,
        path: Path,
        clock: Clock,
        settings: DuckdbSettings = DuckdbSettings(),
        on_step: OnStep = ignore,
    ) -> None:
        self.folder = DataFolder(path)
        self.journal = Journal(self.folder.journal, clock, on_step)
        self.database = Database(self.folder, settings.memory_bytes_max)
        self.revisions = Revisions(limits.HOUR_REVISIONS_MAX)
        self.applier = Applier(
            self.journal, self.database, self.folder, self.revisions, clock, on_step
        )
        self.keeper = JournalKeeper(
            self.journal,
            self.folder,
            clock,
            settings.periods,
            oldest=lambda: self.applier.run_between(self.applier.counts.oldest),
        )
        self._clock = clock
        self._pending_bytes_max = settings.pending_bytes_max
        self._readers: ThreadPoolExecutor | None = None
        self._adding_pending = threading.Lock()
        self._counted: dict[int, HourSummary] = {}
        """The hours as they were counted last: good for as long as their revisions stand."""

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
            open_files(self.folder, self.journal, self.database)
            self.applier.start()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self.applier.close()
        self.database.close()
        self.journal.close()
        self.folder.close()

    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        reason = self.refusing()
        if reason is not None:
            raise NotAccepting(reason, retry_after_s=5)
        return await self.keeper.commit(batches, self._note_committed)

    def _note_committed(self, hours: Iterable[int], entry: Pending) -> None:
        self.revisions.touch(hours, Revision(entry.sequence, entry.arrived_ms), entry.sequence)

    def refusing(self) -> str | None:
        reason = self.keeper.refusing() or self.applier.failure
        if reason is None and self.journal.pending_bytes > self._pending_bytes_max:
            reason = "the store is behind: too much is journalled and not yet summed"
        return reason

    def count_refused(self, batches: int = 1) -> None:
        self.journal.count_refused(batches)

    def instance(self) -> str | None:
        return self.journal.folder_id or None

    async def revision(self, hour: int) -> Revision:
        known = self.revisions.get(hour)
        if known is not None:
            return known
        found, as_of = await self._read(lambda now: (now.revision(hour), now.applied))
        if found.number:
            self.revisions.touch([hour], found, as_of)
        return found

    async def sums(self, hour: int) -> Sums:
        return await self._read(lambda now: now.sums(hour))

    async def hours(self) -> Sequence[HourSummary]:
        found = await self._read(lambda now: now.hours(self._counted))
        if len(found) <= limits.HOUR_REVISIONS_MAX:
            self._counted = found
        return list(found.values())

    def counting_disturbs(self) -> str | None:
        return self.keeper.counting_disturbs()

    async def ledger(self) -> Ledger:
        return await self._patiently(lambda: self.applier.run_between(self._ledger))

    def _ledger(self) -> Ledger:
        return ledger_now(self.journal.path, self.database, self.applier.applied)

    def backed_up(self) -> AbstractAsyncContextManager[Backup]:
        return staged(self.folder.staging, self._copy)

    def _copy(self, staging: Path, go_on: GoOn) -> BackupPoint:
        """Both files as of one moment: the one at which DuckDB's file by itself is whole and the
        journal still has what is not in it. Nothing is held up but checkpoints, for as long as
        DuckDB's file is copied, and the emptying of the journal's log, while that is."""
        paths = (self.journal.path, self.folder.sums)
        logs = self.journal.log_bytes() + self.database.log_bytes()
        require_room(staging, logs + sum(path.stat().st_size for path in paths))
        with ExitStack() as held, ExitStack() as log_left:
            log_left.enter_context(self.keeper.log_left())

            def hold() -> tuple[JournalSnapshot, int]:
                size_bytes = self.database.hold()
                held.callback(self.database.release)
                return held.enter_context(journal_snapshot(self.journal.path)), size_bytes

            moment, size_bytes = self.applier.submit(hold).result()
            if self.applier.failure is not None:
                raise NotAccepting(self.applier.failure, retry_after_s=5)
            assert moment.discarded_through <= self.applier.applied
            point = point_of(moment, "duckdb", self._clock.now_ms())
            moment.copy_to(staging / self.journal.path.name, go_on)
            log_left.close()
            copy_file(self.folder.sums, staging / self.folder.sums.name, size_bytes, go_on)
            return point

    async def _read(self, query: Callable[[Snapshot], Answer]) -> Answer:
        """Answers from DuckDB once it has all that was acknowledged before; where that takes too
        long, from DuckDB and the journal's pending tallies together."""
        readers = self._readers
        if readers is None:
            raise NotAccepting("the store is closed")
        acknowledged = self.journal.last_sequence
        caught_up = await self.applier.wait_applied(acknowledged, limits.READ_BARRIER_S)

        def read() -> Answer:
            if caught_up:
                with snapshot(self.database, []) as now:
                    return query(now)
            # One at a time: what is pending can be large, and here it is in memory.
            with self._adding_pending:
                pending = self.journal.pending(self.applier.applied)
                with snapshot(self.database, pending) as now:
                    return query(now)

        loop = asyncio.get_running_loop()
        return await self._patiently(lambda: loop.run_in_executor(readers, read))

    async def _patiently(self, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Reads, several times where it must be: the applier may be opening the database anew."""
        failed: Exception | None = None
        for attempt in range(_READ_ATTEMPTS):
            try:
                return await read()
            except duckdb.Error as error:
                failed = error
            except DamagedData as error:
                # Nothing that is tried again could mend it.
                failed = error
                break
            if attempt == 0:
                logger.warning("read failed, and is tried again", exc_info=failed)
            await asyncio.sleep(_READ_RETRY_S)
        logger.error("read failed", exc_info=failed)
        raise NotAccepting(_UNREADABLE, retry_after_s=5) from failed

    def health(self) -> Sequence[PartHealth]:
        journal, tidying, *disk = self.keeper.health()
        return (journal, self.applier.health(), tidying, *disk)


def open_files(folder: DataFolder, journal: Journal, database: Database) -> None:
    """Opens both files of a folder that is taken; see `open_both`."""

    def open_sums() -> int:
        database.open(journal.folder_id, journal.discarded_through)
        return applied_of(database.writer)

    # Before the journal is opened, which brings its log into it.
    refuse_newer(folder)
    open_both(folder, journal, folder.sums, open_sums)
