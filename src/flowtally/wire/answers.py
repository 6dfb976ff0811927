"""The JSON of everything else that is answered: receipts, the hours held, the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from flowtally.model import Account, HourSummary, Ledger, LedgerLine, Receipt


def encode_receipt(receipt: Receipt) -> bytes:
    """The answer to a batch: the same bytes for the first time and each repeat."""
    return msgspec.json.encode(
        {
            "batch_id": receipt.batch_id,
            "records": receipt.records,
            "flows": receipt.flows,
        }
    )


def encode_hours(hours: Sequence[HourSummary]) -> bytes:
    """The hours held, in rising order. An object, so that it can grow."""
    return msgspec.json.encode(
        {
            "hours": [
                {
                    "hour": hour.hour,
                    "flows": hour.flows,
                    "records": hour.records,
                    "bytes_rx": _exact(hour.bytes_rx),
                    "bytes_tx": _exact(hour.bytes_tx),
                    "revision": hour.revision.number,
                    "last_change": timestamp(hour.revision.changed_ms),
                }
                for hour in hours
            ]
        }
    )


def encode_ledger(ledger: Ledger) -> bytes:
    """The account, in total and per arrival hour."""
    return msgspec.json.encode(
        {
            "balances": ledger.balances,
            "total": _line(ledger.total()),
            "lines": [{"arrival_hour": line.arrival_hour, **_line(line)} for line in ledger.lines],
        }
    )


def timestamp(moment_ms: int | None) -> str | None:
    """RFC 3339, UTC, to the millisecond."""
    if moment_ms is None:
        return None
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(line: LedgerLine) -> dict[str, object]:
    return {
        "accepted": _account(line.accepted),
        "summed": _account(line.summed),
        "pending": _account(line.pending),
        "expired": _account(line.expired),
        "difference": _account(line.difference),
        "balances": line.balances,
        "batches_repeated": line.batches_repeated,
        "batches_refused": line.batches_refused,
    }


def _account(account: Account) -> dict[str, object]:
    return {
        "batches": account.batches,
        "records": account.records,
        "bytes_rx": _exact(account.bytes_rx),
        "bytes_tx": _exact(account.bytes_tx),
    }


def _exact(value: int) -> int | msgspec.Raw:
    """msgspec writes integers of up to 64 bits; a larger one is handed to it as text."""
    return value if -(2**63) <= value < 2**63 else msgspec.Raw(str(value).encode())
