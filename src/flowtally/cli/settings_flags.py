"""The settings as flags, for the commands that need them: `serve` and `check`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flowtally.config import Loaded, load

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="FLOWTALLY_CONFIG", help="a flowtally.toml"),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="any setting by name; see `flowtally check`"
    ),
]
Store = Annotated[str | None, typer.Option(help="duckdb (default) or memory")]
Data = Annotated[Path | None, typer.Option(help="the data folder (default: data)")]
Host = Annotated[
    str | None, typer.Option(help="the address to listen on (default: 127.0.0.1)")
]
Port = Annotated[int | None, typer.Option(help="the port to listen on (default: 8080)")]
Insecure = Annotated[
    bool | None,
    typer.Option("--insecure", help="listen beyond this machine without tokens"),
]


def load_from(
    config: Path | None, assignments: list[str] | None, **flags: object
) -> Loaded:
    """The effective settings of a call."""
    given: dict[str, object] = dict(flags)
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals or name not in _names():
            raise typer.BadParameter(
                f"{assignment!r} is not NAME=VALUE with one of {', '.join(_names())}"
            )
        given[name] = value
    return load(given, os.environ, config)


def _names() -> list[str]:
    from dataclasses import fields

    from flowtally.config import Settings

    return [one.name for one in fields(Settings)]
