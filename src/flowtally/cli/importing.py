"""`flowtally import FORMAT FILE...`: other systems' files into the service."""

from __future__ import annotations

import sys
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Literal, cast

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

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Read other systems' files and send what they say."""


@app.command("aws-vpc")
def aws_vpc(
    files: Annotated[
        list[str], typer.Argument(help="files, plain or gzip, or - for standard input")
    ],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca: Ca = None,
    names: Annotated[
        Path | None, typer.Option(help="CSV of address or CIDR,name; the longest prefix wins")
    ] = None,
    action: Annotated[
        Literal["ACCEPT", "REJECT", "ALL"], typer.Option(help="which lines count")
    ] = "ACCEPT",
    vpc_id: Annotated[str, typer.Option(help="for lines that have none")] = "unknown",
    direction: Annotated[
        Literal["opener", "as-logged"],
        typer.Option(help="src_app is the side with the higher port, or the source as logged"),
    ] = "opener",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="count and name bad lines instead of stopping")
    ] = False,
    batch_lines: Annotated[int, typer.Option(min=1, max=10_000, help="lines in a batch")] = 1000,
    key_prefix: KeyPrefix = "",
    connections: Connections = 4,
    give_up_after_s: GiveUp = 300,
) -> None:
    """Import AWS VPC flow log records.

    Versions 2 to 5, with the fields in any order. Each line becomes one record. Importing a file
    again counts nothing twice; with other names or other options it is refused, because its lines
    have been counted under the first ones.
    """
    from flowtally.cli.progress import told
    from flowtally.client.sending import BatchRefused, Sent, keyed_batches, send_batches
    from flowtally.errors import FlowtallyError
    from flowtally.importers.aws_vpc import Rules, Summary, entries_of
    from flowtally.importers.lines import lines_of
    from flowtally.importers.names import Names

    require_inputs(files)
    known = Names.read(names) if names else Names()
    rules = Rules(known, action, vpc_id, direction == "opener", skip_bad)
    read, sent = Summary(), Sent()
    with client_of(url, give_up_after_s, token_file=token_file, ca=ca) as client:
        try:
            with told(client, sent) as on_sent:
                for file in files:
                    # Of standard input, its own buffered reader; typeshed knows less of it.
                    stdin = cast(BufferedReader, sys.stdin.buffer)
                    with stdin if file == STANDARD_INPUT else Path(file).open("rb") as stream:
                        entries = entries_of(lines_of(stream, file), rules, read, file)
                        batches = keyed_batches(entries, batch_lines, f"aws-vpc:{key_prefix}")
                        send_batches(client, batches, connections, sent, on_sent)
        except BatchRefused as error:
            if error.refused.is_kind("key-reused"):
                raise FlowtallyError(
                    f"{file} was imported before with other names or options; to count its lines"
                    " once more, take another --key-prefix"
                ) from error
            raise FlowtallyError(f"{file}: {error}") from error
        finally:
            print(read)
            for bad in read.bad:
                print(f"bad line {bad}", file=sys.stderr)
