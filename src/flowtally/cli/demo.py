"""`flowtally demo`: traffic like a real network's, to have something to look at."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from flowtally.cli.query import DEFAULT_URL, Url


def command(
    url: Url = DEFAULT_URL,
    records: Annotated[
        int, typer.Option(min=1, help="how many records to send")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="the same seed gives the same records")] = 1,
    hour: Annotated[int, typer.Option(min=0, help="the first of three hours")] = 0,
) -> None:
    """Send generated traffic: 2,000 apps with a heavy tail, 10 VPCs, three hours.

    The same seed, hour and number of records are the same batches: sent again, they count nothing.
    """
    from flowtally.cli.progress import progress_of, summary
    from flowtally.client.client import FlowClient
    from flowtally.client.sending import keyed_batches, send_batches
    from flowtally.client.traffic import generated_records

    began_s = time.monotonic()
    with FlowClient(url) as client, progress_of(records) as on_sent:
        batches = keyed_batches(
            generated_records(records, seed, hour), 1000, f"demo:{seed}:{hour}"
        )
        sent = send_batches(client, batches, 4, on_sent)
        print(summary(sent, client, time.monotonic() - began_s))
    print(f"now read an hour: flowtally query --hour {hour}")
