"""`flowtally send`: a file of records, or standard input, into the service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flowtally.cli.connection import (
    DEFAULT_URL,
    Ca,
    Connections,
    GiveUp,
    KeyPrefix,
    TokenFile,
    Url,
    client_of,
)
from flowtally.cli.inputs import STANDARD_INPUT, require_inputs


def command(
    file: Annotated[str, typer.Argument(help="a file of records, or - for standard input")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca: Ca = None,
    form: Annotated[
        Literal["auto", "json", "ndjson"],
        typer.Option("--format", help="json is an array, ndjson a record in each line"),
    ] = "auto",
    batch_records: Annotated[
        int, typer.Option(min=1, max=100_000, help="records in a batch")
    ] = 1000,
    full_batches_only: Annotated[
        bool,
        typer.Option(
            "--full-batches-only",
            help="leave the last records, too few for a batch, for the next time: for a file that"
            " still grows",
        ),
    ] = False,
    key_prefix: KeyPrefix = "",
    connections: Connections = 4,
    give_up_after_s: GiveUp = 300,
) -> None:
    """Send records in batches, each until it is counted.

    A batch is named by what the input holds up to the batch's end, so sending the same again counts
    nothing twice (with the same --batch-records, and for as long as the service remembers keys: a
    day, by default). A file that still grows: --full-batches-only.
    """
    from flowtally.cli.progress import told
    from flowtally.client.records import read_records
    from flowtally.client.sending import Entry, Sent, keyed_batches, send_batches
    from flowtally.wire.media import BodyFormat

    require_inputs([file])
    stream = sys.stdin.buffer if file == STANDARD_INPUT else Path(file).open("rb")
    # A pipe has no size.
    total_bytes = Path(file).stat().st_size if Path(file).is_file() else None
    sent, read = Sent(), 0
    with stream, client_of(url, give_up_after_s, token_file=token_file, ca=ca) as client:
        with told(client, sent, total_bytes) as on_sent:
            wanted = None if form == "auto" else BodyFormat[form.upper()]
            found, records = read_records(stream, wanted, full_batches_only)

            def entry(record: bytes) -> Entry:
                nonlocal read
                read += 1
                return record, record

            batches = keyed_batches(
                map(entry, records), batch_records, f"send:{key_prefix}", found, full_batches_only
            )
            send_batches(client, batches, connections, sent, on_sent)
        if read > sent.records:
            print(f"{read - sent.records} records left for the next time")
