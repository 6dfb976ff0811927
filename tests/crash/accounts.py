"""The end of every crash test: lost 0, extra 0, the ledger balances, and the folder is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from flowtally.compose import verify_data
from flowtally.config import SQL_URL, Settings
from flowtally.model import Ledger
from tests.crash.batches import HOURS
from tests.crash.calls import Connection, get
from tests.crash.expected import Expected, differences
from tests.crash.service import Service


def assert_exact(service: Service, expected: Expected, expired: Expected | None = None) -> None:
    """Every hour that is served is exactly what was counted, and the ledger says the same, once
    all that was acknowledged is in view.

    What has expired is served no more, but stays accepted in the ledger.
    """
    settle(service)
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


def settle(service: Service) -> None:
    """Has all that was acknowledged brought into view. Where it is so already, nothing happens."""
    with Connection(service.port) as connection:
        answer = connection.request("POST", "/v1/aggregate")
    assert answer.status == 200, answer


def assert_nothing_extra(service: Service, expected: Expected) -> None:
    """Every hour is served, and no flow of it has more than was counted."""
    for hour in HOURS:
        answer = get(service.port, f"/v1/flows?hour={hour}")
        assert answer.status == 200, answer
        counted = expected.totals(hour)
        for row in answer.json():
            most = counted.get((row["src_app"], row["dest_app"], row["vpc_id"]), (-1, -1))
            assert (row["bytes_rx"] <= most[0]) and (row["bytes_tx"] <= most[1]), (row, most)


def assert_sound(data: Path, expected: Expected | None = None, sql_url: str = SQL_URL) -> None:
    """`verify` finds nothing wrong with what a service that has ended left behind."""
    report = verify_data(Settings(data=data, sql_url=sql_url))
    ledger = msgspec.json.decode(report.ledger_json, type=Ledger)
    assert ledger.balances and not report.faults, report
    if expected is not None:
        accepted = ledger.total().accepted
        assert _account(expected) == {
            "batches": accepted.batches,
            "records": accepted.records,
            "bytes_rx": accepted.bytes_rx,
            "bytes_tx": accepted.bytes_tx,
        }


def assert_service_sound(service: Service, expected: Expected | None = None) -> None:
    """The same, wherever the service kept it."""
    assert_sound(service.data, expected, service.launch.sql_url)


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
