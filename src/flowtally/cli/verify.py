"""`flowtally verify`: proves that accepted = summed + still in the journal (+ expired)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flowtally.cli.connection import Ca, TokenFile, client_of
from flowtally.cli.settings_flags import with_settings
from flowtally.config import Loaded, Settings
from flowtally.errors import FolderInUse
from flowtally.model import Account, Ledger, LedgerLine


def _verify(
    loaded: Loaded,
    url: Annotated[
        str | None, typer.Option(help="ask this running service, and look at no data")
    ] = None,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """Prove that every accepted byte is in the sums.

    Compares batches, records and bytes per arrival hour: accepted = summed + still in the journal
    (+ expired). Reads a stopped data folder, or a PostgreSQL, itself; asks the service where one
    has the folder. Exit code 1 and the difference where the account does not balance or a file is
    damaged.
    """
    ask = partial(_of_service, token_file=token_file, ca=ca)
    ledger, faults = _of_data(loaded.settings, ask) if url is None else (ask(url), ())
    print_ledger(ledger)
    for fault in faults:
        print(f"DAMAGED: {fault}")
    if not ledger.balances:
        print("does NOT balance: see the lines of the difference")
    elif faults:
        print("balances, but a file is damaged")
    if faults or not ledger.balances:
        raise typer.Exit(1)
    print("balances: every accepted batch, record and byte is accounted for")


command = with_settings(_verify, only=("store", "data", "sql_url"))


def _of_data(settings: Settings, ask: Callable[[str], Ledger]) -> tuple[Ledger, tuple[str, ...]]:
    """The account and the faults of what no service has, or the account of the one that has it."""
    import msgspec

    from flowtally.compose import verify_data

    try:
        report = verify_data(settings)
    except FolderInUse as error:
        if error.url is None:
            raise
        return ask(error.url), ()
    return msgspec.json.decode(report.ledger_json, type=Ledger), report.faults


def _of_service(url: str, token_file: Path | None, ca: Path | None) -> Ledger:
    with client_of(url, token_file=token_file, ca=ca) as client:
        ledger = client.ledger()
    print(f"asked the service on {url}")
    return ledger


def print_ledger(ledger: Ledger) -> None:
    """The account as a table."""
    print(
        f"{'arrival hour':>12}  {'what':10} {'batches':>12} {'records':>15}"
        f" {'bytes_rx':>22} {'bytes_tx':>22}"
    )
    for line in ledger.lines:
        _print_line(str(line.arrival_hour), line)
    _print_line("total", ledger.total())


def _print_line(arrival_hour: str, line: LedgerLine) -> None:
    accounts = {
        "accepted": line.accepted,
        "summed": line.summed,
        "pending": line.pending,
        "expired": line.expired,
        "difference": line.difference,
    }
    for what, account in accounts.items():
        if account == Account() and what not in ("accepted", "summed"):
            continue
        print(
            f"{arrival_hour:>12}  {what:10} {account.batches:>12} {account.records:>15}"
            f" {account.bytes_rx:>22} {account.bytes_tx:>22}"
        )
    if line.batches_repeated or line.batches_refused:
        print(
            f"{arrival_hour:>12}  beside it: {line.batches_repeated} batches repeated,"
            f" {line.batches_refused} refused"
        )
