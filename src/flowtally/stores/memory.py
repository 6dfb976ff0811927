"""A hash map summed on write: the smallest store, for tests and for sums that may be lost.

Promises the whole contract but one thing: that it keeps anything. Given a folder it writes a
snapshot of itself there, at an interval and when it is closed; a kill then loses what came after
the last one, and that wholly: what is there again is the state of one moment. It says what it can
lose when it starts and on `/health`. Rows are kept by hour, so that a read touches no other, and in
it by arrival hour, because retention counts from arrival; what is too old is dropped by whoever
comes next.
"""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path

from flowtally import limits
from flowtally.clock import Age, Clock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.model import (
    MILLISECONDS_PER_HOUR,
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
from flowtally.stores.memory_snapshot import SNAPSHOT, write_snapshot
from flowtally.stores.memory_state import (
    Arrival,
    Captured,
    Known,
    Piece,
    account_of,
    add_tally,
    copy_of,
    ledger_of,
    merged,
    summed_of,
)
from flowtally.stores.memory_taker import Snapshots, SnapshotTaker
from flowtally.stores.staging import GoOn, staged

logger = logging.getLogger(__name__)

_NOTHING_KEPT = "kept in memory only: all sums are lost when the process ends"


class MemoryStore(FlowStore):
    """See the module, and `FlowStore` for the contract. Used from the event loop only."""

    visible_on_return = True

    def __init__(
        self,
        clock: Clock,
        *,
        retention_ms: int = 7 * 24 * MILLISECONDS_PER_HOUR,
        batch_ids_keep_ms: int = 24 * MILLISECONDS_PER_HOUR,
        flows_max: int = limits.MEMORY_FLOWS_MAX,
        batch_ids_max: int = limits.MEMORY_BATCH_IDS_MAX,
        snapshots: Snapshots | None = None,
        on_step: OnStep = ignore,
    ) -> None:
        self._clock = clock
        self._age = Age(clock)
        self._retention_ms = retention_ms
        self._batch_ids_keep_ms = batch_ids_keep_ms
        self._flows_max = flows_max
        self._batch_ids_max = batch_ids_max
        self._instance = uuid.uuid4().hex
        self._held: dict[int, dict[int, Piece]] = {}
        """By hour, then by arrival hour; an hour without rows is not in it."""
        self._rows = 0
        self._arrivals: dict[int, Arrival] = {}
        self._known: dict[str, Known] = {}
        self._known_order: deque[str] = deque()
        """Their batch_ids, the oldest first: a dict is slow to find its first one."""
        self._revisions: dict[int, Revision] = {}
        self._emptied = Revision(0, None)
        self._sequence = 0
        self._open = False
        self._snapshots = (
            None if snapshots is None else SnapshotTaker(snapshots, clock, self.captured, on_step)
        )

    async def start(self) -> None:
        warning = _NOTHING_KEPT
        if self._snapshots is not None:
            warning = self._snapshots.settings.warning
            self._restore(await self._snapshots.open(self._age.now_ms()))
        self._open = True
        if self._snapshots is not None:
            self._snapshots.start()
        logger.warning("memory store started", extra={"warning": warning, "flows": self._rows})

    def announce(self, url: str) -> None:
        if self._snapshots is not None:
            self._snapshots.folder.sign(url)

    async def close(self) -> None:
        was_open, self._open = self._open, False
        if was_open and self._snapshots is not None:
            await self._snapshots.close()

    def instance(self) -> str | None:
        return self._instance

    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        reason = self.refusing() or self._no_room_for(batches)
        if reason is not None:
            raise NotAccepting(reason)
        # Read once: a batch must not be accepted in one arrival hour and summed in the next.
        now_ms = self._clock.now_ms()
        return [self._take(batch, now_ms) for batch in batches]

    def refusing(self) -> str | None:
        if not self._open:
            return "the store is closed"
        # Nobody writes to a store that refuses: what has become too old must make room here.
        self._expire()
        if self._rows >= self._flows_max:
            return f"the store holds {self._rows} flows, and no more may be held in memory"
        return None

    def _full_of_batch_ids(self) -> str | None:
        if len(self._known) < self._batch_ids_max:
            return None
        return f"{len(self._known)} batch_ids are remembered, and none may be forgotten yet"

    def _no_room_for(self, batches: Sequence[Batch]) -> str | None:
        """A repeat, and a batch without a key, take no room among the batch_ids."""
        reason = self._full_of_batch_ids()
        if reason is None or not any(
            batch.keyed and batch.batch_id not in self._known for batch in batches
        ):
            return None
        return f"{reason}; only repeats and batches without a key are taken"

    def count_refused(self, batches: int = 1) -> None:
        self._arrival(self._clock.arrival_hour()).batches_refused += batches

    async def revision(self, hour: int) -> Revision:
        self._require_open()
        self._expire()
        return self._revisions.get(hour, self._emptied)

    async def sums(self, hour: int) -> Sums:
        import pyarrow as pa

        revision = await self.revision(hour)
        # Python orders strings by code point, and so does UTF-8 by bytes.
        rows = sorted(merged(self._held.get(hour, {}).values()).items(), key=itemgetter(0))
        decimal = pa.decimal128(38, 0)
        columns = {
            "src_app": pa.array([flow[0] for flow, _ in rows], pa.string()),
            "dest_app": pa.array([flow[1] for flow, _ in rows], pa.string()),
            "vpc_id": pa.array([flow[2] for flow, _ in rows], pa.string()),
            "hour": pa.array([hour] * len(rows), pa.int64()),
            "bytes_rx": pa.array([row[0] for _, row in rows], decimal),
            "bytes_tx": pa.array([row[1] for _, row in rows], decimal),
        }
        return Sums(hour, revision, pa.table(columns))

    async def hours(self) -> Sequence[HourSummary]:
        self._require_open()
        self._expire()
        return [self._summary(hour) for hour in sorted(self._held)]

    def _summary(self, hour: int) -> HourSummary:
        rows = merged(self._held[hour].values())
        total = account_of(rows)
        return HourSummary(
            hour,
            len(rows),
            total.records,
            total.bytes_rx,
            total.bytes_tx,
            self._revisions[hour],
        )

    def counting_disturbs(self) -> str | None:
        if self._rows > limits.LEDGER_MEMORY_FLOWS_MAX:
            return "every batch would wait for so many flows to be counted; /v1/ledger counts them"
        return None

    async def ledger(self) -> Ledger:
        self._require_open()
        self._expire()
        return ledger_of(
            self._arrivals,
            (
                (arrival_hour, piece.rows)
                for pieces in self._held.values()
                for arrival_hour, piece in pieces.items()
            ),
        )

    def health(self) -> Sequence[PartHealth]:
        reason = self.refusing() or self._full_of_batch_ids()
        snapshots = self._snapshots
        store = PartHealth(
            "store",
            "ok" if reason is None else "error",
            self._clock.monotonic_s(),
            detail=_NOTHING_KEPT if snapshots is None else snapshots.settings.warning,
            last_error=reason or "",
            hint="docs/runbooks/memory-store-full.md" if reason else "",
            facts={"rows": self._rows, "batch_ids": len(self._known)},
        )
        return (store,) if snapshots is None else (store, snapshots.health())

    def captured(self) -> Captured:
        """Everything, as of now. It never changes; writing goes on beside it."""
        pieces = []
        for hour, arrivals in self._held.items():
            for arrival_hour, piece in arrivals.items():
                piece.captured = True
                pieces.append((hour, arrival_hour, piece.rows))
        return Captured(
            self._instance,
            self._age.now_ms(),
            self._clock.monotonic_s(),
            self._sequence,
            self._emptied,
            tuple(pieces),
            copy_of(self._arrivals),
            self._revisions.copy(),
            self._known.copy(),
        )

    async def take_snapshot(self) -> None:
        """Writes a snapshot now. Raises `DataFolderError` where it cannot."""
        assert self._snapshots is not None
        await self._snapshots.take()

    @asynccontextmanager
    async def backed_up(self) -> AsyncIterator[Backup]:
        self._require_open()
        self._expire()
        state = self.captured()
        accepted = {hour: arrival.accepted for hour, arrival in state.arrivals.items()}
        point = BackupPoint(
            "memory", state.instance, state.sequence, self._clock.now_ms(), accepted
        )

        def make(staging: Path, go_on: GoOn) -> BackupPoint:
            write_snapshot(state, staging / SNAPSHOT)
            return point

        with tempfile.TemporaryDirectory(prefix="flowtally-") as elsewhere:
            staging = Path(elsewhere) / "backup.new"
            if self._snapshots is not None:
                staging = self._snapshots.folder.staging
            async with staged(staging, make) as backup:
                yield backup

    def _restore(self, state: Captured) -> None:
        self._instance = state.instance
        self._sequence = state.sequence
        self._emptied = state.emptied
        self._revisions = dict(state.revisions)
        self._arrivals = copy_of(state.arrivals)
        self._held, self._rows = {}, state.flows
        for hour, arrival_hour, rows in state.pieces:
            self._held.setdefault(hour, {})[arrival_hour] = Piece(rows)
        # As old as they were, and by what wall time has gained since; never younger than now.
        elapsed_s = max(self._age.now_ms() - state.taken_ms, 0) / 1000
        shift_s = self._clock.monotonic_s() - elapsed_s - state.taken_s
        self._known = {
            batch_id: (fingerprint, records, flows, arrived_s + shift_s)
            for batch_id, (fingerprint, records, flows, arrived_s) in state.known.items()
        }
        self._known_order = deque(self._known)

    def _take(self, batch: Batch, now_ms: int) -> Receipt | KeyReused:
        arrival_hour = now_ms // MILLISECONDS_PER_HOUR
        arrival = self._arrival(arrival_hour)
        known = self._known.get(batch.batch_id) if batch.keyed else None
        if known is not None:
            fingerprint, records, flows, _ = known
            if fingerprint == batch.fingerprint:
                arrival.batches_repeated += 1
                return Receipt(batch.batch_id, records, flows, repeated=True)
            arrival.batches_refused += 1
            return KeyReused(
                f"the Idempotency-Key {batch.batch_id!r} was used before with another body"
            )
        self._sequence += 1
        self._rows += add_tally(self._held, batch.tally, arrival_hour)
        arrival.accepted += batch.tally.account()
        arrival.batches_summed += 1
        for hour in batch.tally.hours():
            self._revisions[hour] = Revision(self._sequence, now_ms)
        flows = len(batch.tally)
        if batch.keyed:
            arrived_s = self._clock.monotonic_s()
            self._known[batch.batch_id] = (batch.fingerprint, batch.records, flows, arrived_s)
            self._known_order.append(batch.batch_id)
        return Receipt(batch.batch_id, batch.records, flows)

    def _arrival(self, arrival_hour: int) -> Arrival:
        return self._arrivals.setdefault(arrival_hour, Arrival())

    def _expire(self) -> None:
        """Drops what is too old, as time has it now."""
        now_s = self._clock.monotonic_s()
        while self._known_order:
            oldest = self._known_order[0]
            # Rounded: a sum of floats must not make a difference of less than the clock shows.
            if round((now_s - self._known[oldest][3]) * 1000) <= self._batch_ids_keep_ms:
                break
            del self._known[self._known_order.popleft()]
        before = (self._age.now_ms() - self._retention_ms) // MILLISECONDS_PER_HOUR
        gone = {
            arrival_hour
            for arrival_hour, arrival in self._arrivals.items()
            if arrival_hour < before and arrival.batches_summed
        }
        if not gone:
            return
        pieces = (
            (arrival_hour, arrivals[arrival_hour].rows)
            for arrivals in self._held.values()
            for arrival_hour in arrivals.keys() & gone
        )
        for arrival_hour, expired in summed_of(self._arrivals, gone, pieces).items():
            arrival = self._arrivals[arrival_hour]
            arrival.expired += expired
            arrival.batches_summed = 0
        self._sequence += 1
        self._emptied = Revision(self._sequence, self._clock.now_ms())
        for hour in list(self._held):
            self._drop(hour, gone)

    def _drop(self, hour: int, arrival_hours: set[int]) -> None:
        """Drops an hour's rows of some arrival hours; its revision grows if there were any."""
        arrivals = self._held[hour]
        for arrival_hour in arrivals.keys() & arrival_hours:
            self._rows -= len(arrivals.pop(arrival_hour).rows)
            self._revisions[hour] = self._emptied
        if not arrivals:
            del self._held[hour]
            del self._revisions[hour]

    def _require_open(self) -> None:
        if not self._open:
            raise NotAccepting("the store is closed")
