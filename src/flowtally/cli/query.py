"""`flowtally query`: the sums of an hour."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Url = Annotated[
    str,
    typer.Option("--url", envvar="FLOWTALLY_URL", help="where the service is reached"),
]
DEFAULT_URL = "http://127.0.0.1:8080"


def command(
    hour: Annotated[int, typer.Option(help="the hour label")],
    url: Url = DEFAULT_URL,
    format_name: Annotated[
        str, typer.Option("--format", help="table, json, ndjson or csv")
    ] = "table",
) -> None:
    """Print the sums of one hour."""
    from flowtally.client.client import FlowClient

    if format_name not in ("table", "json", "ndjson", "csv"):
        raise typer.BadParameter(f"{format_name!r} is not table, json, ndjson or csv")
    with FlowClient(url) as client:
        if format_name == "table":
            _print_table(client.sums(hour))
            return
        sys.stdout.buffer.write(client.sums_text(hour, format_name))
        if format_name == "json":
            print()


def _print_table(sums: list[dict[str, object]]) -> None:
    if not sums:
        print("no flows in this hour")
        return
    names = list(sums[0])
    rows = [[_shown(row[name]) for name in names] for row in sums]
    widths = [
        max(len(cell) for cell in column) for column in zip(names, *rows, strict=True)
    ]
    for cells in (names, *rows):
        print(
            "  ".join(
                f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)
            ).rstrip()
        )


def _shown(value: object) -> str:
    """A name may be hostile: what a terminal would act on is not printed."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
