"""What every store behind the journal does for it: the thread that commits, the work that can wait,
and the room on the disk.

Commits and tidying run in one thread. Once a second what was passed on is deleted, old batch_ids
are forgotten, the log is folded, the disk is looked at, and once in an arrival hour what has become
too old is put into the journal as an expiry. Whoever empties the journal carries that out, in
order.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.heartbeat import PART_STUCK, ended_part, how_ended
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import Pending
from flowtally.model import MILLISECONDS_PER_HOUR, Batch, PartHealth, Receipt
from flowtally.stores.disk_space import DiskSpace
from flowtally.stores.folder import DataFolder

logger = logging.getLogger(__name__)

_TIDY_INTERVAL_S = 1.0
_FOLD_BYTES_PER_S = 4 * limits.MIB
"""Slower than any disk that would do; a long log is no stuck part."""
_OLDEST_S_MAX = 5.0
"""How long a round waits for the store to say what it has; then the next one asks again."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class KeepingPeriods:
    """How long what is kept, and how much room there must be."""

    retention_ms: int = 7 * 24 * MILLISECONDS_PER_HOUR
    batch_ids_keep_ms: int = 24 * MILLISECONDS_PER_HOUR
    disk_free_bytes_min: int = limits.DISK_FREE_BYTES_MIN


class JournalKeeper:
    """See the module. `start` it when the journal is open; `close` before the journal is."""

    def __init__(
        self,
        journal: Journal,
        folder: DataFolder,
        clock: Clock,
        periods: KeepingPeriods,
        oldest: Callable[[], Awaitable[int | None]],
    ) -> None:
        """`oldest` finds the oldest arrival hour that the store has anything of."""
        self.journal = journal
        self._folder = folder
        self._clock = clock
        self._periods = periods
        self._oldest = oldest
        self._thread: ThreadPoolExecutor | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._disk = DiskSpace(folder.free_bytes, clock, periods.disk_free_bytes_min)
        self._thread_beat_s = self._tidy_beat_s = clock.monotonic_s()
        self._tidy_doing, self._tidy_s_max = "", limits.BEAT_AGE_S_MAX
        self._error = ""
        self._looked_for_expiry_in: int | None = None
        self._log_is_left = False

    def start(self) -> None:
        """Begins to tidy."""
        self._disk.look()
        self._thread_beat_s = self._tidy_beat_s = self._clock.monotonic_s()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flowtally-journal")
        self._tidying = asyncio.create_task(self._tidy_regularly(), name="journal-tidy")

    async def close(self) -> None:
        """Ends the commit under way and takes no more. May be called twice."""
        if self._tidying is not None:
            self._tidying.cancel()
            # However it ended; that is told on /health.
            await asyncio.wait([self._tidying])
            self._tidying = None
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)

    async def commit(
        self, batches: Sequence[Batch], note: Callable[[Iterable[int], Pending], None]
    ) -> list[Receipt | KeyReused]:
        """Commits batches; before any is answered, `note` is told which hours the new ones touch,
        and their entry in the journal."""

        def commit() -> list[Receipt | KeyReused]:
            answers, entry = self.journal.commit(batches)
            if entry is not None:
                note(_hours_of_new(batches, answers), entry)
            return answers

        return await self._in_thread(commit)

    def refusing(self) -> str | None:
        """Why a commit would be refused now, or None."""
        if self._thread is None:
            return "the store is closed"
        if self.journal.failure is not None:
            return self.journal.failure
        return self._disk.refusing()

    def counting_disturbs(self) -> str | None:
        """See `FlowSource`."""
        if self.journal.pending_bytes > limits.LEDGER_PENDING_BYTES_MAX:
            return "too much waits to be summed to be counted beside it"
        return None

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        if self._thread is None:
            raise NotAccepting("the store is closed")

        def run() -> Answer:
            try:
                return work()
            finally:
                self._thread_beat_s = self._clock.monotonic_s()

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def _tidy_regularly(self) -> None:
        while True:
            more = False
            try:
                more = await self.tidy()
                self._error = ""
            except Exception as error:
                if not self._error:
                    logger.warning("tidying failed", exc_info=error)
                self._error = str(error) or repr(error)
            self._tidy_begins("")
            await asyncio.sleep(0 if more else _TIDY_INTERVAL_S)

    async def tidy(self) -> bool:
        """One round of what can wait; True if there is more to do at once."""
        self._tidy_begins("waits for the journal's thread")
        self._disk.look()
        if self.journal.failure is not None:
            no_use = self._disk.is_nearly_full or self.journal.failure_is_final
            # Where trying is of no use the thread is given nothing: it shows that it lives.
            await self._in_thread((lambda: False) if no_use else self.journal.resume)
            return False
        more = await self._in_thread(lambda: self.journal.tidy(self._periods.batch_ids_keep_ms))
        if self.journal.log_bytes() > limits.WAL_CHECKPOINT_BYTES:
            self._tidy_begins("brings the log into the journal", self.journal.log_bytes())
            await asyncio.to_thread(self.journal.fold_log)
            await self._in_thread(self._empty_log)
        self._tidy_begins("looks for what to expire")
        await self._expire()
        return more

    def _empty_log(self) -> None:
        if not self._log_is_left:
            self.journal.empty_log()

    @contextmanager
    def log_left(self) -> Iterator[None]:
        """Keeps the log from being emptied: that would wait for whoever copies a moment of the
        journal, and all commits for that. Not to be entered on the event loop."""
        thread = self._thread
        if thread is None:
            raise NotAccepting("the store is closed")
        self._log_is_left = True
        try:
            # What is under way in the thread may not have seen that.
            thread.submit(lambda: None).result()
            yield
        finally:
            self._log_is_left = False

    def _tidy_begins(self, doing: str, log_bytes: int = 0) -> None:
        self._tidy_doing = doing
        self._tidy_s_max = limits.BEAT_AGE_S_MAX + log_bytes / _FOLD_BYTES_PER_S
        self._tidy_beat_s = self._clock.monotonic_s()

    async def _expire(self) -> None:
        """Journals an expiry where something has become too old; looks once in an arrival hour."""
        this_hour = self._clock.arrival_hour()
        if this_hour == self._looked_for_expiry_in:
            return
        before = expire_before(self.journal.age.now_ms(), self._periods.retention_ms)
        try:
            # Not `wait_for`: until Python 3.12 that forgets a cancellation that comes together with
            # the answer, and the store then waits for this task's end for ever.
            async with asyncio.timeout(_OLDEST_S_MAX):
                oldest = await self._oldest()
        except TimeoutError:
            return
        if oldest is not None and oldest < before:
            await self._in_thread(lambda: self.journal.journal_expiry(before))
        self._looked_for_expiry_in = this_hour

    def health(self) -> tuple[PartHealth, ...]:
        """How the journal, the tidying and the disk are."""
        ended = how_ended(self._tidying)
        return (self._journal_part(bool(ended)), self._tidying_part(ended), *self._disk.health())

    def _journal_part(self, is_idle_unseen: bool) -> PartHealth:
        failure = self.journal.failure
        hint = "docs/runbooks/failed-sync.md"
        if failure and not self.journal.failure_is_final:
            hint = "docs/runbooks/disk-full.md"
        return PartHealth(
            "journal",
            "error" if failure else "ok",
            self._thread_beat_s,
            detail=f"{self.journal.pending_bytes} bytes wait to be summed",
            last_error=failure or "",
            hint=hint if failure else "",
            facts={
                "pending_bytes": self.journal.pending_bytes,
                "last_sequence": self.journal.last_sequence,
                "log_bytes": self.journal.log_bytes(),
            },
            # Each round gives the thread something to do. Without rounds it may be idle for long;
            # that a commit hangs is then told by the committer.
            beat_age_s_max=math.inf if is_idle_unseen else limits.BEAT_AGE_S_MAX,
            needed_to_accept=True,
        )

    def _tidying_part(self, ended: str) -> PartHealth:
        if ended:
            return ended_part("tidying", self._tidy_beat_s, ended)
        return PartHealth(
            "tidying",
            "warning" if self._error else "ok",
            self._tidy_beat_s,
            detail=self._tidy_doing or "idle between two rounds",
            last_error=self._error,
            hint=PART_STUCK if self._error else "",
            beat_age_s_max=self._tidy_s_max,
        )


def _hours_of_new(
    batches: Sequence[Batch], answers: Sequence[Receipt | KeyReused]
) -> Iterator[int]:
    """The hours that those batches touch that were not counted before."""
    for batch, answer in zip(batches, answers, strict=True):
        if isinstance(answer, Receipt) and not answer.repeated:
            yield from batch.tally.hours()


def expire_before(now_ms: int, retention_ms: int) -> int:
    """The first arrival hour still to be served: an hour stays whole until its end is due."""
    return (now_ms - retention_ms) // MILLISECONDS_PER_HOUR
