"""The default store: writes go to the journal, reads to DuckDB, the applier stands between.

Which thread does what: commits and tidying run in one journal thread, DuckDB is written in the
applier's, reads run in a small pool. The event loop only waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import (
    DamagedData,
    DataFolderError,
    KeyReused,
    NotAccepting,
)
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_snapshot import journal_snapshot
from flowtally.model import (
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
from flowtally.stores.duckdb.database import Database, applied_of
from flowtally.stores.duckdb.reads import Snapshot, snapshot
from flowtally.stores.duckdb.retention import expire_before
from flowtally.stores.folder import DataFolder
from flowtally.stores.revisions import Revisions

logger = logging.getLogger(__name__)

_READERS = 4
_READ_ATTEMPTS = 25
_READ_RETRY_S = 0.2
"""Together 5 s: the applier opens the database anew after a failure, and its log is read then."""
_UNREADABLE = "the store cannot be read now"
_TIDY_INTERVAL_S = 1.0
_RUNBOOKS = "docs/guides/operating.md"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class DuckdbSettings:
    """What an operator may set; each is explained in docs/reference/settings.md."""

    retention_ms: int = 7 * 24 * 3_600_000
    batch_ids_keep_ms: int = 24 * 3_600_000
    pending_bytes_max: int = limits.PENDING_BYTES_MAX
    disk_free_bytes_min: int = limits.DISK_FREE_BYTES_MIN
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
        self._settings = settings
        self._clock = clock
        self._journal_thread: ThreadPoolExecutor | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._adding_pending = threading.Lock()
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_beat_ms = clock.now_ms()
        self._tidy_error = ""
        self._disk_free_bytes = 0
        self._looked_for_expiry_in: int | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._open)
        self._journal_thread = ThreadPoolExecutor(1, thread_name_prefix="flowtally-journal")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="flowtally-reader")
        self._tidying = asyncio.create_task(self._tidy_regularly(), name="journal-tidy")

    def announce(self, url: str) -> None:
        self.folder.sign(url)

    async def close(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying
            self._tidying = None
        journal_thread, self._journal_thread = self._journal_thread, None
        readers, self._readers = self._readers, None
        for executor in (journal_thread, readers):
            if executor is not None:
                await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        self.folder.open()
        try:
            open_files(self.folder, self.journal, self.database)
            self._disk_free_bytes = self.folder.free_bytes()
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
        return await self._in_journal_thread(lambda: self._commit(batches))

    def _commit(self, batches: Sequence[Batch]) -> list[Receipt | KeyReused]:
        answers, entry = self.journal.commit(batches)
        if entry is not None:
            changed = {
                hour
                for batch, answer in zip(batches, answers, strict=True)
                if isinstance(answer, Receipt) and not answer.repeated
                for hour in batch.tally.hours()
            }
            revision = Revision(entry.sequence, entry.arrived_ms)
            self.revisions.touch(changed, revision, entry.sequence)
        return answers

    def refusing(self) -> str | None:
        if self._journal_thread is None:
            return "the store is closed"
        if self.journal.failure is not None:
            return self.journal.failure
        if self.applier.failure is not None:
            return self.applier.failure
        if self.journal.pending_bytes > self._settings.pending_bytes_max:
            return "the store is behind: too much is journalled and not yet summed"
        if self._disk_free_bytes < self._settings.disk_free_bytes_min:
            return f"the disk is nearly full: {self._disk_free_bytes} bytes are free"
        return None

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
        return await self._read(Snapshot.hours)

    async def ledger(self) -> Ledger:
        for attempt in range(_READ_ATTEMPTS):
            try:
                return await self.applier.run_between(self._ledger)
            except duckdb.Error as error:
                await self._after_failed_read(attempt, error)
            except DamagedData as error:
                # It is in the log already, and nothing that is tried again could mend it.
                raise NotAccepting(_UNREADABLE, retry_after_s=5) from error
        raise NotAccepting(_UNREADABLE, retry_after_s=5)

    def _ledger(self) -> Ledger:
        # Both of one moment: a commit between the two would be accepted and nowhere else.
        with journal_snapshot(self.journal.path) as moment:
            pieces = moment.pending(self.applier.applied, limits.APPLY_BYTES_MAX)
            pending = [entry for piece in pieces for entry in piece]
            accepted = moment.accepted()
        with snapshot(self.database, pending) as now:
            return now.ledger(accepted)

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

        for attempt in range(_READ_ATTEMPTS):
            try:
                return await asyncio.get_running_loop().run_in_executor(readers, read)
            except duckdb.Error as error:
                await self._after_failed_read(attempt, error)
            except DamagedData as error:
                # It is in the log already, and nothing that is tried again could mend it.
                raise NotAccepting(_UNREADABLE, retry_after_s=5) from error
        raise NotAccepting(_UNREADABLE, retry_after_s=5)

    async def _after_failed_read(self, attempt: int, error: duckdb.Error) -> None:
        """The applier may be opening the database anew: worth another attempt."""
        if attempt == 0:
            logger.warning("read failed, and is tried again", exc_info=error)
        await asyncio.sleep(_READ_RETRY_S)

    async def _in_journal_thread(self, work: Callable[[], Answer]) -> Answer:
        thread = self._journal_thread
        if thread is None:
            raise NotAccepting("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(thread, work)

    async def _tidy_regularly(self) -> None:
        while True:
            more = False
            try:
                more = await self.tidy()
                self._tidy_error = ""
            except Exception as error:
                if not self._tidy_error:
                    logger.warning("tidying failed", exc_info=error)
                self._tidy_error = str(error) or repr(error)
            self._tidy_beat_ms = self._clock.now_ms()
            await asyncio.sleep(0 if more else _TIDY_INTERVAL_S)

    async def tidy(self) -> bool:
        """One round of what can wait; True if there is more to do at once."""
        self._disk_free_bytes = self.folder.free_bytes()
        if self.journal.failure is not None:
            if self._disk_free_bytes >= self._settings.disk_free_bytes_min:
                await self._in_journal_thread(self.journal.resume)
            return False
        more = await self._in_journal_thread(
            lambda: self.journal.tidy(self._settings.batch_ids_keep_ms)
        )
        if self.journal.log_bytes() > limits.WAL_CHECKPOINT_BYTES:
            await asyncio.to_thread(self.journal.fold_log)
            await self._in_journal_thread(self.journal.empty_log)
        await self._expire()
        return more

    async def _expire(self) -> None:
        """Journals an expiry where something has become too old; looks once in an arrival hour."""
        this_hour = self._clock.arrival_hour()
        if this_hour == self._looked_for_expiry_in:
            return
        before = expire_before(self.journal.age.now_ms(), self._settings.retention_ms)
        oldest = await self.applier.run_between(self.applier.counts.oldest)
        if oldest is not None and oldest < before:
            await self._in_journal_thread(lambda: self.journal.journal_expiry(before))
        self._looked_for_expiry_in = this_hour

    def health(self) -> Sequence[PartHealth]:
        nearly_full = self._disk_free_bytes < self._settings.disk_free_bytes_min
        return (
            PartHealth(
                "journal",
                "error" if self.journal.failure else "ok",
                self._tidy_beat_ms,
                detail=f"{self.journal.pending_bytes} bytes wait to be summed",
                last_error=self.journal.failure or self._tidy_error,
                hint=f"{_RUNBOOKS}#the-journal-failed" if self.journal.failure else "",
                facts={
                    "pending_bytes": self.journal.pending_bytes,
                    "last_sequence": self.journal.last_sequence,
                    "log_bytes": self.journal.log_bytes(),
                },
            ),
            PartHealth(
                "applier",
                "error" if self.applier.failure else "ok",
                self.applier.beat_ms,
                detail=f"{self.journal.last_sequence - self.applier.applied} batches behind",
                last_error=self.applier.failure or "",
                hint=f"{_RUNBOOKS}#the-store-failed" if self.applier.failure else "",
                facts={
                    "applied": self.applier.applied,
                    "compactions": self.applier.compactions,
                    "rows_recent": sum(self.applier.counts.recent.values()),
                    "rows_base": sum(self.applier.counts.base.values()),
                },
            ),
            PartHealth(
                "disk",
                "error" if nearly_full else "ok",
                self._tidy_beat_ms,
                detail=f"{self._disk_free_bytes} bytes are free",
                hint=f"{_RUNBOOKS}#the-disk-is-full" if nearly_full else "",
                facts={"free_bytes": self._disk_free_bytes},
            ),
        )


def open_files(folder: DataFolder, journal: Journal, database: Database) -> None:
    """Opens both files of a folder that is taken, and holds them against each other.

    Raises `DamagedData` naming the file that is missing, foreign, or older than the other one:
    what one of them has let go of must be in the other.
    """
    journal_is_new = not folder.journal.exists() or folder.journal.stat().st_size == 0
    if journal_is_new and folder.sums.exists():
        raise DamagedData(f"{folder.journal} is missing, but {folder.sums} is there")
    try:
        journal.open()
        if not folder.sums.exists() and journal.discarded_through > 0:
            raise DamagedData(
                f"{folder.sums} is missing; it held all batches up to {journal.discarded_through}"
            )
        database.open(journal.folder_id, journal.discarded_through)
        applied = applied_of(database.writer)
        if applied > journal.last_sequence:
            raise DamagedData(
                f"{folder.journal} has lost data: it ends at batch {journal.last_sequence}, but"
                f" {folder.sums} has all up to {applied}"
            )
        folder.sync()
    except OSError as error:
        raise DataFolderError(f"{folder.path} cannot be used: {error}") from error
