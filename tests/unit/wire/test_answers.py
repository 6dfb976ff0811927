"""The JSON of receipts, hours and the ledger."""

from __future__ import annotations

import json

from flowtally.model import Account, HourSummary, Ledger, LedgerLine, Receipt, Revision
from flowtally.wire.answers import encode_hours, encode_ledger, encode_receipt, timestamp

LARGE = 10**38 - 1


def test_a_receipt_and_its_repeat_are_the_same_bytes() -> None:
    body = b'{"batch_id":"key \\"1\\"","records":5,"flows":4}'
    assert encode_receipt(Receipt('key "1"', 5, 4)) == body
    assert encode_receipt(Receipt('key "1"', 5, 4, repeated=True)) == body


def test_hours() -> None:
    summary = HourSummary(7, 2, 3, LARGE, 2**63, Revision(9, 1_700_000_000_123))
    assert json.loads(encode_hours([summary])) == {
        "hours": [
            {
                "hour": 7,
                "flows": 2,
                "records": 3,
                "bytes_rx": LARGE,
                "bytes_tx": 2**63,
                "revision": 9,
                "last_change": "2023-11-14T22:13:20.123Z",
            }
        ]
    }
    assert json.loads(encode_hours([])) == {"hours": []}


def test_the_ledger() -> None:
    accepted = Account(3, 30, LARGE, 5)
    line = LedgerLine(
        472_222,
        accepted=accepted,
        summed=Account(2, 20, LARGE - 1, 5),
        pending=Account(1, 10, 1, 0),
        batches_repeated=4,
        batches_refused=5,
    )
    accounts = {
        name: {"batches": one.batches, "records": one.records}
        | {"bytes_rx": one.bytes_rx, "bytes_tx": one.bytes_tx}
        for name, one in {
            "accepted": accepted,
            "summed": line.summed,
            "pending": line.pending,
            "expired": Account(),
            "difference": Account(),
        }.items()
    }
    total = accounts | {"balances": True, "batches_repeated": 4, "batches_refused": 5}
    assert json.loads(encode_ledger(Ledger((line,)))) == {
        "balances": True,
        "total": total,
        "lines": [{"arrival_hour": 472_222, **total}],
    }


def test_a_difference_may_be_negative_and_large() -> None:
    ledger = json.loads(encode_ledger(Ledger((LedgerLine(1, summed=Account(1, 1, LARGE, 0)),))))
    assert ledger["balances"] is False
    assert ledger["lines"][0]["difference"]["bytes_rx"] == -LARGE


def test_timestamps() -> None:
    assert timestamp(None) is None
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert all(
        timestamp(1_700_000_000_000 + ms) == f"2023-11-14T22:13:20.{ms:03}Z" for ms in range(1_000)
    )
