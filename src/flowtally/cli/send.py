"""`flowtally send`: a file of records, or standard input, into the service."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from flowtally.cli.query import DEFAULT_URL, Url

Connections = Annotated[int, typer.Option(min=1, max=64, help="batches sent at once")]
BatchRecords = Annotated[
    int, typer.Option(min=1, max=100_000, help="records in a batch")
]
GiveUp = Annotated[float, typer.Option(min=0, help="how long one batch is tried again")]


def command(
    file: Annotated[
        str, typer.Argument(help="a file of records, or - for standard input")
    ],
    url: Url = DEFAULT_URL,
    form: Annotated[
        str, typer.Option("--format", help="auto, json (an array) or ndjson")
    ] = "auto",
    batch_records: BatchRecords = 1000,
    connections: Connections = 4,
    give_up_after_s: GiveUp = 300,
) -> None:
    """Send records in batches, each until it is counted.

    Each batch is named by what the file holds up to its end, so sending the same file again, or
    one that has grown, counts nothing twice. Keep --batch-records the same for that.
    """
    from flowtally.cli.progress import explained, progress_of, summary
    from flowtally.client.client import FlowClient, Refused
    from flowtally.client.records import read_records
    from flowtally.client.retry import RetryPolicy
    from flowtally.client.sending import keyed_batches, send_batches

    if form not in ("auto", "json", "ndjson"):
        raise typer.BadParameter(f"{form!r} is not auto, json or ndjson")
    if file != "-" and not Path(file).is_file():
        raise typer.BadParameter(f"there is no file {file}")
    began_s = time.monotonic()
    stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")
    with (
        stream,
        FlowClient(url, RetryPolicy(give_up_after_s)) as client,
        progress_of() as on_sent,
    ):
        batches = keyed_batches(read_records(stream, form), batch_records)
        try:
            sent = send_batches(client, batches, connections, on_sent)
        except Refused as error:
            raise explained(error) from error
        print(summary(sent, client, time.monotonic() - began_s))
