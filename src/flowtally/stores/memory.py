"""A hash map summed on write: the smallest store, for tests and for sums that may be lost.

Promises the whole contract but one thing: it keeps nothing. It says so when it starts and on
`/health`. Rows are kept by hour, so that a read touches no other, and in it by arrival hour,
because retention counts from arrival; what is too old is dropped by whoever comes next.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from flowtally import limits
from flowtally.clock import Age, Clock
from flowtally.errors import KeyReused, NotAccepting
from flowtally.model import (
    MILLISECONDS_PER_HOUR,
    Account,
    Batch,
    HourSummary,
    Ledger,
    LedgerLine,
    PartHealth,
    Receipt,
    Revision,
    Sums,
    Tally,
)
from flowtally.ports import FlowStore

logger = logging.getLogger(__name__)

_NOTHING_KEPT = "kept in memory only: all sums are lost when the process ends"


@dataclass(slots=True)
class _Arrival:
    """The account of one arrival hour; its rows are counted, not accounted for."""

    accepted: Account = Account()
    batches_summed: int = 0
    expired: Account = Account()
    batches_repeated: int = 0
    batches_refused: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    fingerprint: bytes
    receipt: Receipt
    arrived_s: float
    """By the clock that never goes back: in order, and no jump of the other forgets it early."""


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
    ) -> None:
        self._clock = clock
        self._age = Age(clock)
        self._retention_ms = retention_ms
        self._batch_ids_keep_ms = batch_ids_keep_ms
        self._flows_max = flows_max
        self._batch_ids_max = batch_ids_max
        self._tallies: dict[int, dict[int, Tally]] = {}
        """By hour, then by arrival hour; an hour without rows is not in it."""
        self._rows = 0
        self._arrivals: dict[int, _Arrival] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._revisions: dict[int, Revision] = {}
        self._emptied = Revision(0, None)
        self._sequence = 0
        self._open = False

    async def start(self) -> None:
        self._open = True
        logger.warning("memory store started", extra={"warning": _NOTHING_KEPT})

    async def close(self) -> None:
        self._open = False

    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        reason = self.refusing()
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
        if len(self._known) >= self._batch_ids_max:
            return f"{len(self._known)} batch_ids are remembered, and none may be forgotten yet"
        return None

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
        rows = sorted(_merged(self._tallies.get(hour, {}).values()), key=itemgetter(0))
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
        return [self._summary(hour) for hour in sorted(self._tallies)]

    def _summary(self, hour: int) -> HourSummary:
        merged = _merged(self._tallies[hour].values())
        total = merged.account()
        return HourSummary(
            hour,
            len(merged),
            total.records,
            total.bytes_rx,
            total.bytes_tx,
            self._revisions[hour],
        )

    async def ledger(self) -> Ledger:
        self._require_open()
        self._expire()
        summed = self._summed(self._arrivals)
        return Ledger(
            tuple(
                LedgerLine(
                    hour,
                    accepted=arrival.accepted,
                    summed=summed[hour],
                    expired=arrival.expired,
                    batches_repeated=arrival.batches_repeated,
                    batches_refused=arrival.batches_refused,
                )
                for hour, arrival in sorted(self._arrivals.items())
            )
        )

    def health(self) -> Sequence[PartHealth]:
        reason = self.refusing()
        return (
            PartHealth(
                "store",
                "ok" if reason is None else "error",
                self._clock.now_ms(),
                detail=_NOTHING_KEPT,
                last_error=reason or "",
                facts={"rows": self._rows, "batch_ids": len(self._known)},
            ),
        )

    def _take(self, batch: Batch, now_ms: int) -> Receipt | KeyReused:
        arrival_hour = now_ms // MILLISECONDS_PER_HOUR
        arrival = self._arrival(arrival_hour)
        known = self._known.get(batch.batch_id) if batch.keyed else None
        if known is not None:
            if known.fingerprint == batch.fingerprint:
                arrival.batches_repeated += 1
                return replace(known.receipt, repeated=True)
            arrival.batches_refused += 1
            return KeyReused(
                f"the Idempotency-Key {batch.batch_id!r} was used before with another body"
            )
        self._sequence += 1
        self._add(batch.tally, arrival_hour)
        arrival.accepted += batch.tally.account()
        arrival.batches_summed += 1
        for hour in batch.tally.hours():
            self._revisions[hour] = Revision(self._sequence, now_ms)
        receipt = Receipt(batch.batch_id, batch.records, len(batch.tally))
        if batch.keyed:
            arrived_s = self._clock.monotonic_s()
            self._known[batch.batch_id] = _Known(batch.fingerprint, receipt, arrived_s)
        return receipt

    def _add(self, tally: Tally, arrival_hour: int) -> None:
        for flow, row in tally:
            arrivals = self._tallies.setdefault(flow[3], {})
            held = arrivals.setdefault(arrival_hour, Tally())
            self._rows -= len(held)
            held.add(flow, *row)
            self._rows += len(held)

    def _arrival(self, arrival_hour: int) -> _Arrival:
        return self._arrivals.setdefault(arrival_hour, _Arrival())

    def _summed(self, arrival_hours: Iterable[int]) -> dict[int, Account]:
        """Counted from the rows, not from what was accepted."""
        summed = {
            arrival_hour: Account(self._arrivals[arrival_hour].batches_summed)
            for arrival_hour in arrival_hours
        }
        for arrivals in self._tallies.values():
            for arrival_hour in arrivals.keys() & summed.keys():
                held = arrivals[arrival_hour].account()
                summed[arrival_hour] += replace(held, batches=0)
        return summed

    def _expire(self) -> None:
        """Drops what is too old, as time has it now."""
        now_s = self._clock.monotonic_s()
        while self._known:
            oldest = next(iter(self._known))
            if (now_s - self._known[oldest].arrived_s) * 1000 <= self._batch_ids_keep_ms:
                break
            del self._known[oldest]
        before = (self._age.now_ms() - self._retention_ms) // MILLISECONDS_PER_HOUR
        gone = {
            arrival_hour
            for arrival_hour, arrival in self._arrivals.items()
            if arrival_hour < before and arrival.batches_summed
        }
        if not gone:
            return
        for arrival_hour, expired in self._summed(gone).items():
            arrival = self._arrivals[arrival_hour]
            arrival.expired += expired
            arrival.batches_summed = 0
        self._sequence += 1
        self._emptied = Revision(self._sequence, self._clock.now_ms())
        for hour in list(self._tallies):
            self._drop(hour, gone)

    def _drop(self, hour: int, arrival_hours: set[int]) -> None:
        """Drops an hour's rows of some arrival hours; its revision grows if there were any."""
        arrivals = self._tallies[hour]
        for arrival_hour in arrivals.keys() & arrival_hours:
            self._rows -= len(arrivals.pop(arrival_hour))
            self._revisions[hour] = self._emptied
        if not arrivals:
            del self._tallies[hour]
            del self._revisions[hour]

    def _require_open(self) -> None:
        if not self._open:
            raise NotAccepting("the store is closed")


def _merged(tallies: Collection[Tally]) -> Tally:
    """The tallies as one; a single one as it is."""
    if len(tallies) == 1:
        [only] = tallies
        return only
    merged = Tally()
    for tally in tallies:
        for flow, row in tally:
            merged.add(flow, *row)
    return merged
