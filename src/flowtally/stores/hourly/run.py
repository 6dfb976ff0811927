"""One run: all that was journalled before it began goes into the results, piece by piece.

The work itself, without a thread, a schedule or a failure that is mended: the aggregator does it in
a running service, and `aggregate_folder` on a stopped one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import DamagedData
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import Pending
from flowtally.steps import OnStep
from flowtally.stores.hourly.aggregation import add_batches, expire
from flowtally.stores.hourly.awaited import AwaitedHours
from flowtally.stores.hourly.gathering import Gathered
from flowtally.stores.hourly.results import Results, state_of
from flowtally.stores.revisions import Revisions


class Runner:
    """Leads from the journal to the results; used by one thread at a time."""

    def __init__(self, journal: Journal, results: Results, clock: Clock, on_step: OnStep) -> None:
        self.applied = 0
        """Everything up to this sequence number is durable in the results."""
        self.revisions = Revisions(limits.HOUR_REVISIONS_MAX)
        self.awaited = AwaitedHours(limits.HOUR_REVISIONS_MAX)
        self.standing_still = threading.Lock()
        """Held while a transaction commits: whoever holds it finds journal and results agreeing."""
        self._journal = journal
        self._results = results
        self._clock = clock
        self._on_step = on_step

    def load(self) -> None:
        """Believes what the results say, and nothing else: at a start, and after a failure."""
        self.applied = state_of(self._results.writer).applied
        self.revisions.forget(self.applied)
        self.awaited.taken_in(self.applied)
        # A failure, or a kill, may have come between a commit and the note of it.
        self._journal.applied(self.applied)

    def run(self, through: int, between: Callable[[], None]) -> None:
        """Takes in everything up to a sequence number. `between` is called between two pieces of
        the work, and what it raises ends it; what is committed stays."""
        read_through = self.applied
        gathered = Gathered()
        while read_through < through:
            between()
            pending = self._journal.pending(read_through, limits.AGGREGATE_BYTES_MAX)
            if not pending:
                raise DamagedData(
                    f"{self._journal.path} is damaged: batch {read_through + 1} is missing"
                )
            batches = _batches_before_expiry(pending)
            if batches:
                gathered.add(batches)
                read_through = gathered.through
                self._on_step("aggregate.read")
            expiry = pending[len(batches)] if len(batches) < len(pending) else None
            if gathered.through and (gathered.is_full or expiry or read_through >= through):
                self._add(gathered, between)
                gathered = Gathered()
            if expiry is not None:
                self._expire(expiry, between)
                read_through = expiry.sequence

    def _add(self, gathered: Gathered, between: Callable[[], None]) -> None:
        with self._results.transaction() as cursor:
            add_batches(cursor, gathered, self._clock.now_ms(), self._on_step, between)
            self._commit(cursor.execute, gathered.through)
        self._on_step("aggregate.committed")
        self._note_applied(gathered.through)
        self._results.fold_long_log()

    def _expire(self, expiry: Pending, between: Callable[[], None]) -> None:
        with self._results.transaction() as cursor:
            expire(cursor, expiry, self._clock.now_ms(), self._on_step, between)
            self._commit(cursor.execute, expiry.sequence)
        self._on_step("expire.committed")
        self._note_applied(expiry.sequence)
        self._results.fold_long_log()

    def _commit(self, execute: Callable[[str], object], through: int) -> None:
        # Before the commit: whoever has read the new sums must not find an old revision here. What
        # is read until then is of before, and is not noted.
        self.revisions.forget(through)
        with self.standing_still:
            execute("COMMIT")

    def _note_applied(self, through: int) -> None:
        self.applied = through
        self.awaited.taken_in(through)
        self._journal.applied(through)


def _batches_before_expiry(pending: Sequence[Pending]) -> Sequence[Pending]:
    for index, entry in enumerate(pending):
        if entry.expire_before is not None:
            return pending[:index]
    return pending
