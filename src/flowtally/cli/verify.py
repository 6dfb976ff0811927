"""`flowtally verify`: proves that accepted = summed + still in the journal (+ expired)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flowtally.errors import FolderInUse

_COLUMNS = ("accepted", "summed", "pending", "expired", "difference")


def command(
    data: Annotated[Path, typer.Option(help="the data folder")] = Path("data"),
    url: Annotated[
        str | None, typer.Option(help="ask this running service, and no folder")
    ] = None,
) -> None:
    """Check every accepted batch, record and byte against the sums, per arrival hour.

    Reads a stopped folder itself; asks the service where one is running. Exit code 1 and the
    difference where the account does not balance or a file is damaged.
    """
    if url is None:
        ledger, faults, url = _of_folder(data)
    else:
        ledger, faults = None, ()
    if ledger is None:
        from flowtally.client.client import FlowClient

        assert url is not None
        with FlowClient(url) as client:
            ledger = client.ledger()
        print(f"asked the service on {url}")
    _print(ledger)
    for fault in faults:
        print(f"DAMAGED: {fault}")
    if faults or not ledger["balances"]:
        print(
            "does NOT balance"
            if not ledger["balances"]
            else "balances, but a file is damaged"
        )
        raise typer.Exit(1)
    print("balances: every accepted batch, record and byte is accounted for")


def _of_folder(data: Path) -> tuple[dict[str, Any] | None, tuple[str, ...], str | None]:
    """The ledger and the faults of a stopped folder; else the URL of the service that has it."""
    from flowtally.compose import verify_data

    try:
        report = verify_data(data)
    except FolderInUse as error:
        if error.url is None:
            raise
        return None, (), error.url
    return json.loads(report.ledger_json), report.faults, None


def _print(ledger: dict[str, Any]) -> None:
    print(
        f"{'arrival hour':>13} {'what':10} {'batches':>12} {'records':>15} {'bytes_rx':>22} {'bytes_tx':>22}"
    )
    for line in (*ledger["lines"], {"arrival_hour": "total", **ledger["total"]}):
        for what in _COLUMNS:
            account = line[what]
            if not any(account.values()) and what in (
                "pending",
                "expired",
                "difference",
            ):
                continue
            print(
                f"{line['arrival_hour']:>13} {what:10} {account['batches']:>12}"
                f" {account['records']:>15} {account['bytes_rx']:>22} {account['bytes_tx']:>22}"
            )
        print(
            f"{'':13} repeated {line['batches_repeated']}, refused {line['batches_refused']} batches"
        )
