"""What a store must hold, reckoned from the batches that it was given.

Keeps the batches, not their sums: at each read the oracle adds up anew those that are not expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flowtally.errors import KeyReused
from flowtally.model import Account, HourSummary, Ledger, LedgerLine, Receipt
from tests.conformance.batches import HOUR_MS, Record
from tests.conformance.subjects import Periods
from tests.oracle import Oracle


@dataclass(frozen=True, slots=True)
class Posted:
    """A batch as it was sent: what is in it, and its key if it has one."""

    records: list[Record]
    key: str | None


@dataclass(slots=True)
class _Line:
    """What is counted of one arrival hour."""

    batches: list[list[Record]] = field(default_factory=list)
    expired: bool = False
    repeated: int = 0
    refused: int = 0

    def accepted(self) -> Account:
        records = [one for batch in self.batches for one in batch]
        return Account(
            len(self.batches),
            len(records),
            sum(one["bytes_rx"] for one in records),
            sum(one["bytes_tx"] for one in records),
        )


class Expected:
    """See the module."""

    def __init__(self, periods: Periods) -> None:
        self._periods = periods
        self._lines: dict[int, _Line] = {}
        self._known: dict[str, tuple[list[Record], int]] = {}

    def known(self) -> dict[str, list[Record]]:
        """The keys that are remembered, with what came under them."""
        return {key: records for key, (records, _) in self._known.items()}

    def post(self, posted: Posted, now_ms: int) -> Receipt | type[KeyReused]:
        """Takes one batch and says how it must be answered."""
        line = self._lines.setdefault(now_ms // HOUR_MS, _Line())
        flows = {
            (one["src_app"], one["dest_app"], one["vpc_id"], one["hour"]) for one in posted.records
        }
        receipt = Receipt(posted.key or "made-here", len(posted.records), len(flows))
        if posted.key in self._known:
            if self._known[posted.key][0] != posted.records:
                line.refused += 1
                return KeyReused
            line.repeated += 1
            return Receipt(receipt.batch_id, receipt.records, receipt.flows, repeated=True)
        if posted.key is not None:
            self._known[posted.key] = (posted.records, now_ms)
        line.batches.append(posted.records)
        return receipt

    def expire(self, now_ms: int) -> None:
        """Drops what is too old at this time."""
        for arrival_hour, line in self._lines.items():
            if arrival_hour < (now_ms - self._periods.retention_ms) // HOUR_MS:
                line.expired = True
        keep_ms = self._periods.batch_ids_keep_ms
        self._known = {
            key: known for key, known in self._known.items() if now_ms - known[1] <= keep_ms
        }

    def oracle(self) -> Oracle:
        """The sums of what is not expired."""
        oracle = Oracle()
        for batch in self._held():
            oracle.post(batch)
        return oracle

    def assert_hours(self, found: Sequence[HourSummary]) -> None:
        """The list of hours is exact."""
        oracle = self.oracle()
        assert [one.hour for one in found] == oracle.hours()
        for one in found:
            flows = oracle.hour(one.hour)
            totals = [sum(flow[column] for flow in flows) for column in ("bytes_rx", "bytes_tx")]
            records = sum(record["hour"] == one.hour for batch in self._held() for record in batch)
            assert (one.flows, one.records) == (len(flows), records)
            assert [one.bytes_rx, one.bytes_tx] == totals

    def assert_ledger(self, found: Ledger) -> None:
        """Each arrival hour accounts for what came in during it, and for nothing else."""
        assert found.balances, found
        lines = {line.arrival_hour: line for line in found.lines}
        assert len(lines) == len(found.lines)
        for arrival_hour in lines.keys() | self._lines.keys():
            wanted = self._lines.get(arrival_hour, _Line())
            line = lines.get(arrival_hour, LedgerLine(arrival_hour))
            assert line.accepted == wanted.accepted(), line
            assert (line.batches_repeated, line.batches_refused) == (
                wanted.repeated,
                wanted.refused,
            ), line
            # A batch without records may be let go of later: there is nothing of it to serve.
            gone = wanted.accepted() if wanted.expired else Account()
            assert line.expired.records == gone.records, line
            assert (line.expired.bytes_rx, line.expired.bytes_tx) == (gone.bytes_rx, gone.bytes_tx)

    def _held(self) -> list[list[Record]]:
        return [
            batch for line in self._lines.values() if not line.expired for batch in line.batches
        ]
