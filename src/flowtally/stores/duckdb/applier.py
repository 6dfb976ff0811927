"""The applier: the one thread that writes DuckDB.

It takes what is pending in the journal, in order, and applies it; between that it compacts and
checkpoints. It wakes when a reader waits, when much is pending, or every `APPLY_INTERVAL_S`: larger
transactions cost less per batch.

Promises: everything accepted is applied exactly once, in order, whatever dies when. A failure is
kept in `failure`, which stops acknowledgement; the applier then opens DuckDB anew and tries again
from what DuckDB holds, until it succeeds. No acknowledgement ever waits for this thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import DamagedData, NotAccepting
from flowtally.heartbeat import ended_part, how_ended
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import Pending
from flowtally.model import PartHealth
from flowtally.steps import OnStep
from flowtally.stores.duckdb.apply import apply_batches
from flowtally.stores.duckdb.compaction import QUIET_S, RowCounts, compact
from flowtally.stores.duckdb.database import Database, applied_of
from flowtally.stores.duckdb.retention import apply_expiry
from flowtally.stores.folder import DataFolder
from flowtally.stores.revisions import Revisions

logger = logging.getLogger(__name__)

CHECKPOINT_BYTES = 64 * limits.MIB
"""DuckDB's log is brought into its file from this size, or when nothing else is to be done."""
_RETRY_S = 1.0
_ROWS_PER_S_MIN = 100_000
_BYTES_PER_S_MIN = 2 * limits.MIB
"""A machine that does less is taken for stuck."""
_ROOM_BYTES_MIN = 8 * limits.MIB

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiter:
    through: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Applier:
    """See the module. `start` it after both files are open; `close` applies the rest."""

    def __init__(
        self,
        journal: Journal,
        database: Database,
        folder: DataFolder,
        revisions: Revisions,
        clock: Clock,
        on_step: OnStep,
    ) -> None:
        self.applied = 0
        """Everything up to this sequence number is durable in DuckDB."""
        self.failure: str | None = None
        self.beat_s = clock.monotonic_s()
        self.counts = RowCounts()
        self.compactions = 0
        self.compaction_s = 0.0
        """How long all of them took together."""
        self._duckdb_memory_bytes = 0
        """What it was when it was looked at last; `health` may not ask the database."""
        self._doing, self._doing_s_max = "idle", limits.BEAT_AGE_S_MAX
        """What the thread does, or did when it failed; and how long that may take."""
        self._journal = journal
        self._database = database
        self._folder = folder
        self._revisions = revisions
        self._clock = clock
        self._on_step = on_step
        self._changed = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._jobs: list[Callable[[], None]] = []
        self._closing = False
        self._settled = False
        self._believed = True
        self._busy_s = clock.monotonic_s()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins where DuckDB stands."""
        self._load()
        self._thread = threading.Thread(target=self._run, name="flowtally-applier", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Applies what is pending, as far as there is time, and stops. Blocks. May be called twice.

        The rest is safe in the journal, and applied after the next start.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    async def wait_applied(self, through: int, timeout_s: float) -> bool:
        """Waits until everything up to `through` is applied; False where that takes too long."""
        if self.applied >= through:
            return True
        loop = asyncio.get_running_loop()
        waiter = _Waiter(through, loop, loop.create_future())
        with self._changed:
            self._waiters.append(waiter)
            self._changed.notify()
        try:
            # Not `wait_for`: before Python 3.12 it forgets a cancellation that the answer meets.
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            return self.applied >= through
        finally:
            with self._changed:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return True

    async def run_between(self, job: Callable[[], Answer]) -> Answer:
        """Runs `job` in the applier's thread between two transactions, when nothing moves."""
        return await asyncio.wrap_future(self.submit(job))

    def submit(self, job: Callable[[], Answer]) -> Future[Answer]:
        """The same for who is not on an event loop."""
        answer: Future[Answer] = Future()

        def run() -> None:
            # Whoever asked may have gone away; an answer to nobody would end this thread.
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(job())
            except BaseException as error:
                answer.set_exception(error)

        with self._changed:
            if self._closing:
                raise NotAccepting("the store is closed")
            self._jobs.append(run)
            self._changed.notify()
        return answer

    def _load(self) -> None:
        writer = self._database.writer
        self.applied = applied_of(writer)
        self.counts = RowCounts.of(writer)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_wanted, timeout=limits.APPLY_INTERVAL_S)
                closing = self._closing
                jobs, self._jobs = self._jobs, []
            self._begin("idle")
            try:
                self._step(closing)
                self.failure = None
            except BaseException as error:
                self._fail(error)
            self._begin("count rows", rows=self.counts.total if jobs else 0)
            for job in jobs:
                job()
            if closing:
                return

    def _begin(self, doing: str, rows: int = 0, count_bytes: int = 0) -> None:
        """A beat; what is begun may take as long as so many rows or bytes take a slow machine,
        until it counts as stuck: nothing can beat inside one statement of DuckDB's."""
        self._doing = doing
        longer_s = rows / _ROWS_PER_S_MIN + count_bytes / _BYTES_PER_S_MIN
        self._doing_s_max = limits.BEAT_AGE_S_MAX + longer_s
        self.beat_s = self._clock.monotonic_s()

    def _is_wanted(self) -> bool:
        if self._closing or self._jobs:
            return True
        if self.failure is not None:
            return False
        return bool(self._waiters) or self._journal.pending_bytes >= limits.APPLY_BYTES_MAX

    def _step(self, closing: bool) -> None:
        """Applies all that is pending, then one piece of the work that can wait."""
        if not self._believed:
            self._open_anew()
        if not self._settled:
            self._begin("settle the log", count_bytes=self._database.log_bytes())
            self._database.write_headers_again()
            self._database.settle()
            self._folder.sync()
            self._settled = True
            # A failure, or a kill, may have come between the commit and this note of it.
            self._journal.applied(self.applied)
        # Not "while anything is pending": under steady load that never ends, and neither compaction
        # nor a checkpoint nor a job would ever get its turn.
        pending_through = self._journal.last_sequence
        end_s = self._clock.monotonic_s() + limits.CLOSE_APPLY_S if closing else math.inf
        while self.applied < pending_through and self._clock.monotonic_s() < end_s:
            self._apply_some()
        self._tell_waiters()
        if self._clock.monotonic_s() >= end_s:
            return
        self._duckdb_memory_bytes = self._database.memory_bytes()
        quiet = self._clock.monotonic_s() - self._busy_s > QUIET_S
        due = None if closing else self.counts.due(quiet, self._clock.arrival_hour())
        if due is not None:
            self._compact(due)
        if self._database.is_held:
            # A backup copies the file. The log is read again where the process ends before.
            return
        log_bytes = self._database.log_bytes()
        if log_bytes > (0 if quiet or closing else CHECKPOINT_BYTES):
            self._begin("make a checkpoint", count_bytes=log_bytes)
            self._database.settle()
            self._on_step("checkpoint.done")

    def _compact(self, arrival_hour: int) -> None:
        rows = self.counts.recent[arrival_hour] + self.counts.base[arrival_hour]
        self._begin(f"compact {rows} rows", rows=rows)
        compact(self._database.writer, arrival_hour, self.counts, self._on_step)
        self.compactions += 1
        self.compaction_s += self._clock.monotonic_s() - self.beat_s

    def _open_anew(self) -> None:
        """After a failure only what the disk says is believed. While the disk is full there is
        nothing to be won by it, and reads can go on from what is open."""
        if self._folder.free_bytes() < _ROOM_BYTES_MIN:
            raise OSError(errno.ENOSPC, "the disk is full")
        self._settled = False
        # Reads under way are waited for, and the log is read.
        self._begin("open the file anew", count_bytes=self._database.log_bytes())
        self._database.close()
        self._database.open(self._journal.folder_id, self._journal.discarded_through)
        self._load()
        # What failed may have been an expiry, and may have been done all the same.
        self._revisions.forget(self.applied)
        self._believed = True

    def _apply_some(self) -> None:
        self._begin(f"read what waits after batch {self.applied}")
        pending = self._journal.pending(self.applied, limits.APPLY_BYTES_MAX)
        assert pending, "the journal promises sequence numbers that it does not hold"
        self._on_step("apply.read")
        batches = _batches_before_expiry(pending)
        if batches:
            self._begin(
                f"apply batches {self.applied + 1} to {batches[-1].sequence}",
                count_bytes=sum(len(entry.tally) for entry in batches),
            )
            self.counts.recent.update(apply_batches(self._database.writer, batches, self._on_step))
            self._note_applied(batches[-1].sequence)
            logger.debug("applied", extra={"through": self.applied, "entries": len(batches)})
        if len(batches) < len(pending):
            expiry = pending[len(batches)]
            self._begin(f"apply expiry {expiry.sequence}", rows=self.counts.total)
            apply_expiry(self._database.writer, expiry, self.counts, self._on_step)
            self._revisions.forget(expiry.sequence)
            self._note_applied(expiry.sequence)
        self._busy_s = self._clock.monotonic_s()
        self._tell_waiters()

    def _note_applied(self, through: int) -> None:
        # DuckDB syncs its log but not the folder that names it: a log made anew after a checkpoint
        # must not vanish with the power once the journal has let go of what is in it.
        self._folder.sync()
        self._on_step("apply.committed")
        self.applied = through
        self._journal.applied(through)

    def _tell_waiters(self) -> None:
        with self._changed:
            done = [waiter for waiter in self._waiters if waiter.through <= self.applied]
            self._waiters = [waiter for waiter in self._waiters if waiter.through > self.applied]
        for waiter in done:
            waiter.loop.call_soon_threadsafe(_finish, waiter.done)

    def _fail(self, error: BaseException) -> None:
        first = self.failure is None
        self.failure = f"the store failed: {(str(error) or repr(error)).splitlines()[0]}"
        if first:
            logger.critical(
                "store failed",
                exc_info=error,
                extra={"purpose": self._doing, "path": str(self._database.path)},
            )
        if not (isinstance(error, DamagedData) and self._believed):
            # At once, not at the next attempt: a failure can invalidate what is open, and reads go
            # on. Not where the journal is what is damaged.
            self._believed = False
            with suppress(Exception):
                self._open_anew()
        with self._changed:
            self._changed.wait_for(lambda: self._closing, timeout=_RETRY_S)

    def health(self) -> PartHealth:
        """How far it is, and what it is doing."""
        facts: dict[str, int | float | str | bool | None] = {
            "applied": self.applied,
            "pending_batches": self._journal.last_sequence - self.applied,
            "compactions": self.compactions,
            "compaction_s": round(self.compaction_s, 3),
            "duckdb_memory_bytes": self._duckdb_memory_bytes,
            "rows_recent": sum(tuple(self.counts.recent.values())),
            "rows_base": sum(tuple(self.counts.base.values())),
        }
        ended = how_ended(self._thread)
        if ended:
            return ended_part("applier", self.beat_s, ended, facts)
        failure = self.failure
        return PartHealth(
            "applier",
            "error" if failure else "ok",
            self.beat_s,
            detail=f"{facts['pending_batches']} batches behind; now: {self._doing}",
            last_error=failure or "",
            hint="docs/runbooks/store-failed.md" if failure else "",
            facts=facts,
            beat_age_s_max=self._doing_s_max,
        )


def _batches_before_expiry(pending: Sequence[Pending]) -> Sequence[Pending]:
    for index, entry in enumerate(pending):
        if entry.expire_before is not None:
            return pending[:index]
    return pending


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
