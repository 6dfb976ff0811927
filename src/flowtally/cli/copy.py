"""`flowtally copy`: all sums of one running service into another, verified."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtally.cli.connection import Ca, Connections, GiveUp, client_of

if TYPE_CHECKING:
    from flowtally.client.copying import HourCopied


def command(
    source_url: Annotated[
        str, typer.Option("--from", help="the service to copy from; nothing of it changes")
    ],
    target_url: Annotated[str, typer.Option("--to", help="the service to copy to")],
    source_token_file: Annotated[
        Path | None, typer.Option("--from-token-file", help="a file that holds the source's token")
    ] = None,
    target_token_file: Annotated[
        Path | None, typer.Option("--to-token-file", help="a file that holds the target's token")
    ] = None,
    ca: Ca = None,
    into_existing: Annotated[
        bool,
        typer.Option("--into-existing", help="add to a target that holds other flows already"),
    ] = False,
    connections: Connections = 4,
    give_up_after_s: GiveUp = 300,
) -> None:
    """Copy all sums of one running service to another, and verify them.

    Between any stores and versions: reads and posts as anybody does. Carries every flow and its
    bytes. Does not carry when they came (retention in the target counts from now), batch_ids (what
    was sent to the source and is sent to the target counts again), the number of records, and
    batches without records.

    Where the services ask for tokens, the source's must be allowed to read, the target's to read
    and to write (and admin, on the hourly store). FLOWTALLY_TOKEN is not looked at.

    Interrupted, or run again, it goes on and counts nothing twice, for as long as the target
    remembers keys (a day, by default). Nothing may be sent to the source meanwhile. Exit code 1
    where the source changed, the target refuses, or what was copied is not what is there.
    """
    from flowtally.client.copy_check import check, wait_until_visible
    from flowtally.client.copying import Copier, CopyFailed, on_side

    def on_hour(copied: HourCopied) -> None:
        again = f", {len(copied.repeated)} counted before" if copied.repeated else ""
        print(f"hour {copied.hour}: {copied.flows} flows, {copied.parts} batches{again}")
        sys.stdout.flush()

    # One service's token must not be sent to the other: a variable would be for both.
    client = partial(
        client_of, give_up_after_s=give_up_after_s, ca=ca, token_from_environment=False
    )
    with (
        client(source_url, token_file=source_token_file) as source,
        client(target_url, token_file=target_token_file) as target,
    ):
        copier = Copier(source, target, into_existing, on_hour)
        print(copier.begin())
        with on_side(target, "target"):
            before = target.ledger()
        try:
            copier.send(connections)
        except KeyboardInterrupt:
            print("run the same again to go on; nothing counts twice", file=sys.stderr)
            raise
        after = wait_until_visible(copier, time.sleep, int(give_up_after_s))
        found = check(copier, before, after)
    for line in found.notes:
        print(line)
    if found.faults:
        raise CopyFailed("the copy does not hold:\n  " + "\n  ".join(found.faults))
    _print_totals(list(copier.hours.values()))


def _print_totals(hours: list[HourCopied]) -> None:
    flows = sum(one.flows for one in hours)
    print(
        f"copied and verified: {len(hours)} hours, {flows} flows,"
        f" {sum(one.bytes_rx for one in hours)} bytes_rx,"
        f" {sum(one.bytes_tx for one in hours)} bytes_tx;"
        " the target's ledger balances"
    )
