"""`flowtally query`: the sums of an hour."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from flowtally.cli.connection import DEFAULT_URL, Ca, TokenFile, Url, client_of


def command(
    hour: Annotated[int, typer.Option(help="the hour label")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca: Ca = None,
    output: Annotated[
        Literal["table", "json", "ndjson", "csv"], typer.Option("--format", help="how to print")
    ] = "table",
) -> None:
    """Print the sums of one hour."""
    with client_of(url, token_file=token_file, ca=ca) as client:
        if output == "table":
            _print_table(client.sums(hour))
            return
        text = client.sums_text(hour, output)
    sys.stdout.buffer.write(text if not text or text.endswith(b"\n") else text + b"\n")
    sys.stdout.buffer.flush()


def _print_table(sums: list[dict[str, object]]) -> None:
    if not sums:
        print("no flows in this hour")
        return
    names = list(sums[0])
    is_number = [isinstance(value, int) for value in sums[0].values()]
    rows = [[_shown(value) for value in row.values()] for row in sums]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for cells in (names, *rows):
        columns = zip(cells, widths, is_number, strict=True)
        print("  ".join(f"{cell:{'>' if right else '<'}{width}}" for cell, width, right in columns))


def _shown(value: object) -> str:
    """A name may be hostile: what a terminal would act on is not printed."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
