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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import Pending
from flowtally.model import MILLISECONDS_PER_HOUR, Batch, PartHealth, Receipt
from flowtally.stores.folder import DataFolder

logger = logging.getLogger(__name__)

_TIDY_INTERVAL_S = 1.0
RUNBOOKS = "docs/guides/operating.md"

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
        self._beat_ms = clock.now_ms()
        self._error = ""
        self._disk_free_bytes = 0
        self._looked_for_expiry_in: int | None = None

    def start(self) -> None:
        """Begins to tidy."""
        self._disk_free_bytes = self._folder.free_bytes()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flowtally-journal")
        self._tidying = asyncio.create_task(self._tidy_regularly(), name="journal-tidy")

    async def close(self) -> None:
        """Ends the commit under way and takes no more. May be called twice."""
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying
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
        if self._disk_free_bytes < self._periods.disk_free_bytes_min:
            return f"the disk is nearly full: {self._disk_free_bytes} bytes are free"
        return None

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        if self._thread is None:
            raise NotAccepting("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

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
            self._beat_ms = self._clock.now_ms()
            await asyncio.sleep(0 if more else _TIDY_INTERVAL_S)

    async def tidy(self) -> bool:
        """One round of what can wait; True if there is more to do at once."""
        self._disk_free_bytes = self._folder.free_bytes()
        if self.journal.failure is not None:
            if self._disk_free_bytes >= self._periods.disk_free_bytes_min:
                await self._in_thread(self.journal.resume)
            return False
        more = await self._in_thread(lambda: self.journal.tidy(self._periods.batch_ids_keep_ms))
        if self.journal.log_bytes() > limits.WAL_CHECKPOINT_BYTES:
            await asyncio.to_thread(self.journal.fold_log)
            await self._in_thread(self.journal.empty_log)
        await self._expire()
        return more

    async def _expire(self) -> None:
        """Journals an expiry where something has become too old; looks once in an arrival hour."""
        this_hour = self._clock.arrival_hour()
        if this_hour == self._looked_for_expiry_in:
            return
        before = expire_before(self.journal.age.now_ms(), self._periods.retention_ms)
        oldest = await self._oldest()
        if oldest is not None and oldest < before:
            await self._in_thread(lambda: self.journal.journal_expiry(before))
        self._looked_for_expiry_in = this_hour

    def health(self) -> tuple[PartHealth, PartHealth]:
        """How the journal and the disk are."""
        failure = self.journal.failure
        nearly_full = self._disk_free_bytes < self._periods.disk_free_bytes_min
        return (
            PartHealth(
                "journal",
                "error" if failure else "ok",
                self._beat_ms,
                detail=f"{self.journal.pending_bytes} bytes wait to be summed",
                last_error=failure or self._error,
                hint=f"{RUNBOOKS}#the-journal-failed" if failure else "",
                facts={
                    "pending_bytes": self.journal.pending_bytes,
                    "last_sequence": self.journal.last_sequence,
                    "log_bytes": self.journal.log_bytes(),
                },
            ),
            PartHealth(
                "disk",
                "error" if nearly_full else "ok",
                self._beat_ms,
                detail=f"{self._disk_free_bytes} bytes are free",
                hint=f"{RUNBOOKS}#the-disk-is-full" if nearly_full else "",
                facts={"free_bytes": self._disk_free_bytes},
            ),
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
