"""`flowtally import FORMAT FILE...`: other systems' files into the service."""

from __future__ import annotations

import gzip
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from flowtally.cli.query import DEFAULT_URL, Url
from flowtally.cli.send import BatchRecords, Connections, GiveUp

app = typer.Typer(
    help="Read other systems' files and send what they say.", no_args_is_help=True
)
_GZIP_MAGIC = b"\x1f\x8b"


@app.callback()
def _group() -> None:
    """Read other systems' files and send what they say."""


@app.command("aws-vpc")
def aws_vpc(
    files: Annotated[
        list[str], typer.Argument(help="files, plain or gzip, or - for standard input")
    ],
    url: Url = DEFAULT_URL,
    names: Annotated[
        Path | None,
        typer.Option(help="CSV of address or CIDR,name; the longest prefix wins"),
    ] = None,
    action: Annotated[str, typer.Option(help="ACCEPT, REJECT or ALL")] = "ACCEPT",
    vpc_id: Annotated[str, typer.Option(help="for lines that have none")] = "unknown",
    direction: Annotated[
        str,
        typer.Option(
            help="opener: the side with the higher port is src_app; or as-logged"
        ),
    ] = "opener",
    skip_bad: Annotated[
        bool, typer.Option(help="count bad lines instead of stopping")
    ] = False,
    batch_records: BatchRecords = 1000,
    connections: Connections = 4,
    give_up_after_s: GiveUp = 300,
) -> None:
    """Import AWS VPC flow log records, versions 2 to 5, in any field order.

    Importing a file again counts nothing twice, as long as names and options stay the same.
    """
    from flowtally.cli.progress import explained, progress_of, summary
    from flowtally.client.client import FlowClient, Refused
    from flowtally.client.retry import RetryPolicy
    from flowtally.client.sending import Sent, keyed_batches, send_batches
    from flowtally.importers.aws_vpc import Rules, Summary, records_of
    from flowtally.importers.names import Names

    if action not in ("ACCEPT", "REJECT", "ALL"):
        raise typer.BadParameter(f"{action!r} is not ACCEPT, REJECT or ALL")
    if direction not in ("opener", "as-logged"):
        raise typer.BadParameter(f"{direction!r} is not opener or as-logged")
    rules = Rules(
        Names.read(names) if names else Names(),
        action,
        vpc_id,
        by_port=direction == "opener",
    )
    began_s = time.monotonic()
    read, sent = Summary(), Sent()
    with (
        FlowClient(url, RetryPolicy(give_up_after_s)) as client,
        progress_of() as on_sent,
    ):
        for file in files:
            records = records_of(_lines(file), rules, read, file, skip_bad)
            batches = keyed_batches(records, batch_records, "aws-vpc")
            try:
                part = send_batches(client, batches, connections, on_sent)
            except Refused as error:
                raise explained(error) from error
            sent.records += part.records
            sent.batches += part.batches
            sent.batches_repeated += part.batches_repeated
            sent.body_bytes += part.body_bytes
        print(read)
        print(summary(sent, client, time.monotonic() - began_s))


def _lines(file: str) -> Iterator[str]:
    if file != "-" and not Path(file).is_file():
        raise typer.BadParameter(f"there is no file {file}")
    raw: BinaryIO = sys.stdin.buffer if file == "-" else Path(file).open("rb")
    with raw:
        buffered = io.BufferedReader(raw)  # type: ignore[type-var]
        stream = (
            gzip.GzipFile(fileobj=buffered)
            if buffered.peek(2)[:2] == _GZIP_MAGIC
            else buffered
        )
        yield from io.TextIOWrapper(stream, encoding="utf-8", errors="replace")  # type: ignore[arg-type]
