"""The end of every crash test: lost 0, extra 0, the ledger balances, and the folder is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowtally.clock import SystemClock
from flowtally.stores.duckdb.verify import verify_folder
from tests.crash.calls import get
from tests.crash.expected import Expected, differences
from tests.crash.service import Service


def assert_exact(service: Service, expected: Expected, expired: Expected | None = None) -> None:
    """Every hour that is served is exactly what was counted, and the ledger says the same.

    What has expired is served no more, but stays accepted in the ledger.
    """
    found = differences(expected, service.port)
    assert not found, "\n".join(found)
    answer = get(service.port, "/v1/ledger")
    assert answer.status == 200, answer
    ledger = answer.json()
    assert ledger["balances"] is True, ledger
    gone = _account(expired or Expected())
    kept = _account(expected)
    assert _plain(ledger["total"]["expired"]) == gone, ledger["total"]
    assert _plain(ledger["total"]["accepted"]) == {
        name: count + gone[name] for name, count in kept.items()
    }, ledger["total"]


def assert_sound(data: Path, expected: Expected | None = None) -> None:
    """`verify` finds nothing wrong with the folder of a service that has ended."""
    report = verify_folder(data, SystemClock())
    assert report.is_sound, report
    if expected is not None:
        accepted = report.ledger.total().accepted
        assert _account(expected) == {
            "batches": accepted.batches,
            "records": accepted.records,
            "bytes_rx": accepted.bytes_rx,
            "bytes_tx": accepted.bytes_tx,
        }


def _account(expected: Expected) -> dict[str, int]:
    bytes_rx, bytes_tx = expected.bytes_total()
    return {
        "batches": expected.batches,
        "records": expected.records,
        "bytes_rx": bytes_rx,
        "bytes_tx": bytes_tx,
    }


def _plain(account: dict[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in account.items()}
