"""Group commit: what arrives while one commit runs goes into the next one together.

There is no timer. When nothing is under way a batch is committed at once and alone; under load
the group grows by itself to what arrives during one sync, and so the cost of the sync is shared by
all of them. The committer stands before every sink and is the reason that a sink needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import CommitFailed, NotAccepting, Overloaded
from flowtally.heartbeat import PART_STUCK
from flowtally.ingest.recent_max import RecentMax
from flowtally.model import Batch, PartHealth, Receipt
from flowtally.ports import FlowSink

logger = logging.getLogger(__name__)

_SLOW_WRITES = "docs/runbooks/slow-writes.md"


@dataclass(slots=True, eq=False)
class _Waiting:
    batch: Batch
    rows: int
    since_s: float
    outcome: asyncio.Future[Receipt]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class CommitterLimits:
    """The bounds of the queue and of one group; tests make them small."""

    queue_batches_max: int = limits.QUEUE_BATCHES_MAX
    queue_rows_max: int = limits.QUEUE_ROWS_MAX
    group_batches_max: int = limits.GROUP_BATCHES_MAX
    group_rows_max: int = limits.GROUP_ROWS_MAX


class Committer:
    """Hands batches to a sink in groups, one group at a time.

    `observe_commit(batches, queue_s, commit_s)` is called after each commit, for metrics.
    """

    def __init__(
        self,
        sink: FlowSink,
        clock: Clock,
        bounds: CommitterLimits = CommitterLimits(),
        observe_commit: Callable[[int, float, float], None] = lambda *_: None,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._bounds = bounds
        self._observe_commit = observe_commit
        self._queue: deque[_Waiting] = deque()
        self._queue_rows = 0
        self._commit: asyncio.Task[None] | None = None
        self._closed = False
        self._commits = 0
        self._commit_s = RecentMax(limits.COMMIT_TOLD_S)
        self._queue_s = RecentMax(limits.COMMIT_TOLD_S)
        self.busy_since_s: float | None = None
        """When the commit under way began, on the monotonic clock; None where none is."""

    @property
    def queued(self) -> int:
        """Batches that wait for the next commit."""
        return len(self._queue)

    async def submit(self, batch: Batch, request_id: str | None = None) -> Receipt:
        """Waits until the batch is durable and returns its receipt. The line of a failed commit
        names the `request_id`.

        Raises `KeyReused`, `Overloaded` where the queue is full, and `NotAccepting`. A caller that
        is cancelled while its batch waits in the queue takes it away again: nothing of it is
        counted, nor held in memory. Once a group has it, it is counted all the same, and a repeat
        with the same key is told so.
        """
        if self._closed:
            raise NotAccepting("the service is stopping", retry_after_s=5)
        reason = self._sink.refusing()
        if reason is not None:
            raise NotAccepting(reason, retry_after_s=5)
        if len(self._queue) >= self._bounds.queue_batches_max:
            raise Overloaded(f"{len(self._queue)} batches wait to be stored, and no more may")
        # Into an empty queue a batch of any size may go: it must be able to come in at all.
        rows = len(batch.tally)
        if self._queue and self._queue_rows + rows > self._bounds.queue_rows_max:
            raise Overloaded(f"{self._queue_rows} flows wait to be stored, and few more may")
        waiting = _Waiting(
            batch,
            rows,
            self._clock.monotonic_s(),
            asyncio.get_running_loop().create_future(),
            request_id,
        )
        self._queue.append(waiting)
        self._queue_rows += rows
        if self._commit is None:
            # In no request's context: it commits what others send as well.
            self._commit = asyncio.create_task(
                self._commit_all(), name="committer", context=contextvars.Context()
            )
        try:
            return await waiting.outcome
        except asyncio.CancelledError:
            self._withdraw(waiting)
            raise

    def _withdraw(self, waiting: _Waiting) -> None:
        with contextlib.suppress(ValueError):
            self._queue.remove(waiting)
            self._queue_rows -= waiting.rows

    async def close(self) -> None:
        """Commits all that waits, then takes nothing more."""
        self._closed = True
        if self._commit is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._commit)

    def health(self) -> Sequence[PartHealth]:
        """How long commits take, and whether one has been under way for too long. Nothing runs
        where none is."""
        now_s = self._clock.monotonic_s()
        busy_since_s = self.busy_since_s
        busy_s = 0.0 if busy_since_s is None else now_s - busy_since_s
        commit_s = max(self._commit_s.at(now_s), busy_s)
        state, hint = "ok", ""
        if commit_s > limits.COMMIT_S_MAX:
            state, hint = "warning", _SLOW_WRITES
        stuck = busy_s > limits.BEAT_AGE_S_MAX
        if stuck:
            state, hint = "error", PART_STUCK
        commit_ms, queue_ms = commit_s * 1000, self._queue_s.at(now_s) * 1000
        return (
            PartHealth(
                "committer",
                state,
                now_s - busy_s,
                detail=f"{self.queued} batches wait; the slowest commit of the last"
                f" {limits.COMMIT_TOLD_S} s took {commit_ms:.0f} ms",
                last_error=f"a commit has been under way for {busy_s:.0f} s" if stuck else "",
                hint=hint,
                facts={
                    "queued_batches": self.queued,
                    "queued_flows": self._queue_rows,
                    "commit_ms_max": round(commit_ms, 1),
                    "queue_ms_max": round(queue_ms, 1),
                },
                needed_to_accept=True,
                is_stuck=stuck,
            ),
        )

    async def _commit_all(self) -> None:
        try:
            while self._queue:
                await self._commit_group(self._take_group())
        finally:
            self._commit = None
            self.busy_since_s = None

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        group_rows = 0
        while self._queue and len(group) < self._bounds.group_batches_max:
            rows = self._queue[0].rows
            if group and group_rows + rows > self._bounds.group_rows_max:
                break
            group_rows += rows
            group.append(self._queue.popleft())
        self._queue_rows -= group_rows
        return group

    async def _commit_group(self, group: Sequence[_Waiting]) -> None:
        began_s = self._clock.monotonic_s()
        self.busy_since_s = began_s
        self._commits += 1
        try:
            outcomes = await self._sink.write([waiting.batch for waiting in group])
        except Exception as error:
            failure = self._failure_of(error, group)
            for waiting in group:
                _settle(waiting.outcome, failure)
            return
        ended_s = self._clock.monotonic_s()
        for waiting, outcome in zip(group, outcomes, strict=True):
            _settle(waiting.outcome, outcome)
        queue_s, commit_s = began_s - group[0].since_s, ended_s - began_s
        self._commit_s.note(ended_s, commit_s)
        self._queue_s.note(ended_s, queue_s)
        self._observe_commit(len(group), queue_s, commit_s)
        if logger.isEnabledFor(logging.DEBUG):
            times = {"queue_ms": queue_s * 1000, "commit_ms": commit_s * 1000}
            logger.debug("committed", extra={**self._named(group), **times})

    def _failure_of(self, error: Exception, group: Sequence[_Waiting]) -> NotAccepting:
        """What the senders of a group are told. Where something failed it is logged, with what
        leads there from a request: a sink that only refuses has a reason and no cause."""
        if isinstance(error, NotAccepting) and error.__cause__ is None:
            return error
        logger.error(
            "commit failed",
            exc_info=error,
            extra={"purpose": "store a group of batches", **self._named(group)},
        )
        detail, retry_after_s = "the batch could not be stored; see the server's log", 5
        if isinstance(error, NotAccepting):
            detail, retry_after_s = str(error), error.retry_after_s
        told = CommitFailed(detail, self._commits, retry_after_s)
        told.__cause__ = error
        return told

    def _named(self, group: Sequence[_Waiting]) -> dict[str, object]:
        """What leads from a line of the log to the requests, and from them to it."""
        request_ids = (one.request_id for one in group if one.request_id is not None)
        return {
            "commit": self._commits,
            "batches": len(group),
            "batch_ids": [one.batch.batch_id for one in group[: limits.LOG_IDS_MAX]],
            "request_ids": list(islice(request_ids, limits.LOG_GROUP_REQUEST_IDS_MAX)),
        }


def _settle(future: asyncio.Future[Receipt], outcome: Receipt | Exception) -> None:
    """Answers one waiter; one that went away (cancelled) is left alone."""
    if future.done():
        return
    if isinstance(outcome, Receipt):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
