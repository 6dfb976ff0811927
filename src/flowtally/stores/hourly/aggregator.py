"""The aggregator: the one thread that writes the results, and decides when a run is due.

A run is due when its interval is over, when somebody asks for it, and, early, when so much is
pending that the journal would soon take no more. It is over when all that was journalled before it
began is in the results.

Promises: everything accepted is taken in exactly once, in order, whatever dies when. A run that
fails is told on `/health` and tried again; unless it only found the results locked, they are opened
anew before that, and only what they say is believed. No acknowledgement ever waits for this thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
import threading
from contextlib import suppress
from dataclasses import dataclass

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import DamagedData, NotAccepting
from flowtally.heartbeat import ended_part, how_ended
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_schema import is_damage
from flowtally.model import PartHealth
from flowtally.stores.folder import DataFolder
from flowtally.stores.hourly.results import Results, is_full, is_locked, state_of
from flowtally.stores.hourly.run import Runner
from flowtally.wire.blob import blob_hours

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""How long after a failed run the next one begins."""
_TICK_S = 1.0
_OVERDUE_S_MIN = 60.0
_OVERDUE_SHARE = 0.1
"""A run that began so much later than it should, or is not over by then, is overdue."""
_ROOM_BYTES_MIN = 8 * limits.MIB
_HINT = "docs/runbooks/aggregation-overdue.md"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When runs are due."""

    interval_s: float
    early_bytes: int
    """From so many pending bytes on a run begins before its time."""


@dataclass(slots=True)
class _Waiter:
    through: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class _Stopped(Exception):
    """The store is being closed; what a run has not committed is still in the journal."""


class Aggregator:
    """See the module. `start` it after both files are open; `close` ends a run between pieces."""

    def __init__(
        self,
        runner: Runner,
        journal: Journal,
        results: Results,
        folder: DataFolder,
        clock: Clock,
        schedule: Schedule,
    ) -> None:
        self.failure: str | None = None
        """Why the last run failed; None where it did not."""
        self.damage: str | None = None
        """The same, where it was damage: then nothing will mend it by itself."""
        self.beat_s = clock.monotonic_s()
        self.runs = 0
        self._runner = runner
        self._journal = journal
        self._results = results
        self._folder = folder
        self._clock = clock
        self._schedule = schedule
        self._changed = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._closing = False
        self._believed = True
        self._due_s = 0.0
        self._retry_s: float | None = None
        self._last_run_ms: int | None = None
        self._last_run_took_ms = 0
        self._oldest: tuple[int, int] | None = None
        """Sequence number and arrival of the oldest batch that waits."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins where the results stand. A run that came due meanwhile is done at once."""
        self._runner.load()
        self._runner.awaited.any_through(self._journal.last_sequence)
        self._last_run_ms = state_of(self._results.writer).aggregated_ms
        interval_s = self._schedule.interval_s
        wait_s = interval_s
        if self._last_run_ms is not None:
            wait_s -= (self._clock.now_ms() - self._last_run_ms) / 1000
        # No more than the interval: the clock may have been set back.
        self._due_s = self._clock.monotonic_s() + min(max(wait_s, 0.0), interval_s)
        self._thread = threading.Thread(target=self._work, name="flowtally-aggregator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops between two pieces of the work. Blocks. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            if self._believed:
                with suppress(sqlite3.Error, NotAccepting):
                    self._results.fold(emptied=True)
        self._tell_waiters(NotAccepting("the store is closed"))

    async def wait_applied(self, through: int) -> None:
        """Has a run done at once, and waits until everything up to `through` is in the results.
        Raises `NotAccepting` where the run fails."""
        if self._runner.applied >= through:
            return
        loop = asyncio.get_running_loop()
        waiter = _Waiter(through, loop, loop.create_future())
        with self._changed:
            if self._closing:
                raise NotAccepting("the store is closed")
            self._waiters.append(waiter)
            self._changed.notify()
        try:
            await waiter.done
        finally:
            with self._changed:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _work(self) -> None:
        with suppress(_Stopped):
            # Not before a start is over: with much pending it takes seconds.
            self._find_awaited()
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._is_due(), _TICK_S)
                self._beat()
                if self._is_due():
                    self._run_once()
                self._look_at_oldest()

    def _beat(self) -> None:
        """Called between any two pieces of work."""
        self.beat_s = self._clock.monotonic_s()
        if self._closing:
            raise _Stopped

    def _is_due(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._retry_s is not None:
            # Also where it was asked for before its time: nobody may ask again.
            return bool(self._waiters) or now_s >= self._retry_s
        return (
            bool(self._waiters)
            or now_s >= self._due_s
            or self._journal.pending_bytes >= self._schedule.early_bytes
        )

    def _run_once(self) -> None:
        began_s = self._clock.monotonic_s()
        before = self._runner.applied
        try:
            self._open_anew_if_doubtful()
            self._runner.run(self._journal.last_sequence, self._beat)
            if self._runner.applied > before:
                self._results.fold()
        except _Stopped:
            raise
        except BaseException as error:
            self._fail(error)
            return
        if self.failure is not None:
            logger.warning("aggregation succeeds again", extra={"after": self.failure})
        self.failure = self.damage = self._retry_s = None
        now_s = self._clock.monotonic_s()
        self._due_s = now_s + self._schedule.interval_s
        self._last_run_ms = self._clock.now_ms()
        self._last_run_took_ms = int((now_s - began_s) * 1000)
        self.runs += 1
        self._tell_waiters()
        if self._runner.applied > before:
            logger.info(
                "aggregated",
                extra={
                    "batches": self._runner.applied - before,
                    "ms": self._last_run_took_ms,
                },
            )

    def _open_anew_if_doubtful(self) -> None:
        """After a failure only what the disk says is believed. While the disk is full there is
        nothing to be won by it, and reads can go on from what is open."""
        if self._believed:
            return
        if self._folder.free_bytes() < _ROOM_BYTES_MIN:
            raise OSError(errno.ENOSPC, "the disk is full")
        self._results.close()
        self._results.open(self._journal.folder_id, self._journal.discarded_through)
        self._runner.load()
        self._believed = True

    def _fail(self, error: BaseException) -> None:
        is_first = self.failure is None
        self.failure = f"the aggregation failed: {(str(error) or repr(error)).splitlines()[0]}"
        damaged = isinstance(error, DamagedData)
        damaged = damaged or (isinstance(error, sqlite3.Error) and is_damage(error))
        self.damage = self.failure if damaged else None
        if is_first:
            first, last = self._runner.applied + 1, self._journal.last_sequence
            logger.critical(
                "aggregation failed",
                exc_info=error,
                extra={
                    "purpose": f"sum batches {first} to {last}",
                    "path": str(self._results.path),
                },
            )
        if isinstance(error, sqlite3.Error) and is_full(error):
            # The log still has what the run wrote and undid: that may be all the room there was.
            with suppress(sqlite3.Error, NotAccepting):
                self._results.fold(emptied=True)
        if not (isinstance(error, sqlite3.Error) and is_locked(error)):
            # Another program's lock leaves nothing in doubt; to open the file anew would only wait
            # for it too, and reads with it.
            self._believed = False
        self._retry_s = self._clock.monotonic_s() + RETRY_S
        self._tell_waiters(NotAccepting(self.failure, retry_after_s=5))

    def _tell_waiters(self, error: NotAccepting | None = None) -> None:
        """Those whose batches are in; with an error, the others too."""
        with self._changed:
            done = [one for one in self._waiters if one.through <= self._runner.applied]
            failed = [one for one in self._waiters if one not in done and error is not None]
            self._waiters = [one for one in self._waiters if one not in (*done, *failed)]
        for waiter in done:
            waiter.loop.call_soon_threadsafe(_finish, waiter.done, None)
        for waiter in failed:
            waiter.loop.call_soon_threadsafe(_finish, waiter.done, error)

    def _find_awaited(self) -> None:
        """Reads which hours the batches that waited at the start touch. Until it is known, every
        hour may be one of them."""
        through = self._journal.last_sequence
        after = self._runner.applied
        try:
            while after < through:
                self._beat()
                pending = self._journal.pending(after, limits.AGGREGATE_BYTES_MAX)
                if not pending:
                    # Something is missing.
                    return
                for entry in pending:
                    if entry.expire_before is None:
                        self._runner.awaited.note(blob_hours(entry.tally), entry.sequence)
                after = pending[-1].sequence
        except (DamagedData, NotAccepting):
            # The next run meets it too, and tells it; until then every hour stays partial.
            return
        self._runner.awaited.known_through(through)

    def _look_at_oldest(self) -> None:
        applied = self._runner.applied
        if self._journal.last_sequence <= applied:
            self._oldest = None
        elif self._oldest is None or self._oldest[0] <= applied:
            with suppress(DamagedData, NotAccepting):
                for first in self._journal.pending(applied, tally_bytes_max=1):
                    self._oldest = (first.sequence, first.arrived_ms)

    def health(self) -> PartHealth:
        """When it ran last, how long that took, and how far behind it is."""
        now_ms = self._clock.now_ms()
        pending = self._journal.last_sequence - self._runner.applied
        overdue_s = self._clock.monotonic_s() - self._due_s
        late_s_max = max(_OVERDUE_S_MIN, _OVERDUE_SHARE * self._schedule.interval_s)
        overdue = bool(pending) and overdue_s > late_s_max
        troubled = overdue or self.failure is not None
        detail = "no run yet"
        if self._last_run_ms is not None:
            ago_s = max(now_ms - self._last_run_ms, 0) // 1000
            detail = f"the last run ended {ago_s} s ago and took {self._last_run_took_ms} ms"
        if overdue:
            detail += f"; the next one is overdue by {overdue_s:.0f} s"
        ended = "" if self._closing else how_ended(self._thread)
        if ended:
            return ended_part("aggregator", self.beat_s, ended, self._facts(now_ms, overdue_s))
        return PartHealth(
            "aggregator",
            "error" if self.damage else "warning" if troubled else "ok",
            self.beat_s,
            detail=f"{detail}; {pending} batches wait",
            last_error=self.failure or "",
            hint=_HINT if troubled else "",
            facts=self._facts(now_ms, overdue_s),
        )

    def _facts(self, now_ms: int, overdue_s: float) -> dict[str, int | float | str | bool | None]:
        oldest = self._oldest
        pending = self._journal.last_sequence - self._runner.applied
        return {
            "applied": self._runner.applied,
            "runs": self.runs,
            "last_run_ms": self._last_run_ms,
            "last_run_took_ms": self._last_run_took_ms,
            "next_run_in_ms": max(int(-overdue_s * 1000), 0),
            "pending_batches": pending,
            "pending_bytes": self._journal.pending_bytes,
            "oldest_pending_age_ms": max(now_ms - oldest[1], 0) if oldest and pending else 0,
        }


def _finish(done: asyncio.Future[None], error: NotAccepting | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
