"""`flowtally token ...`: makes, lists and revokes the tokens that a service asks for."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flowtally.cli.settings_flags import with_settings
from flowtally.config import Loaded
from flowtally.errors import SettingsError


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


app = typer.Typer(no_args_is_help=True)
_FILE = ("tokens",)


@app.callback()
def _group() -> None:
    """Make, list and revoke the tokens that clients must have.

    They are kept in the file that --tokens, FLOWTALLY_TOKENS or flowtally.toml names, as hashes
    alone. A running service notices a change within two seconds.
    """


def _add(
    loaded: Loaded,
    name: Annotated[str, typer.Argument(help="what logs call it: 1 to 64 of A-Z a-z 0-9 . _ -")],
    may: Annotated[
        list[Scope],
        typer.Option(help="what it may do, once for each; none implies another"),
    ],
) -> None:
    """Make a token and print it, once: it is kept nowhere.

    It is all that is printed to standard output. The file is made where there is none.
    """
    from flowtally.access.tokens_file import add_token

    file = _file_of(loaded)
    token = add_token(file, name, may, _now())
    scopes = " and ".join(sorted(set(may)))
    print(f"{name} may {scopes}; {file} has its hash. Only now is it shown:", file=sys.stderr)
    print(token)


def _list(loaded: Loaded) -> None:
    """Print the names of all tokens, what they may do, and since when."""
    from flowtally.access.tokens_file import read_tokens

    rows = [
        (one.name, ",".join(sorted(one.may)), one.created, one.revoked or "")
        for one in read_tokens(_file_of(loaded)).entries
    ]
    titles = ("name", "may", "created", "revoked")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for cells in (titles, *rows):
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        print(line.rstrip())


def _revoke(
    loaded: Loaded,
    name: Annotated[str, typer.Argument(help="the name it was made under")],
) -> None:
    """Make a token invalid, for good.

    Its name is kept, so that the log names whoever still uses it.
    """
    from flowtally.access.tokens_file import revoke_token

    file = _file_of(loaded)
    revoke_token(file, name, _now())
    print(f"{name} is revoked; a running service refuses it within two seconds")


def _file_of(loaded: Loaded) -> Path:
    file = loaded.settings.tokens
    if file is None:
        raise SettingsError(
            "which tokens file? name it by --tokens, FLOWTALLY_TOKENS or tokens in flowtally.toml"
        )
    return file


def _now() -> str:
    from flowtally.clock import SystemClock
    from flowtally.wire.answers import timestamp

    return timestamp(SystemClock().now_ms()) or ""


app.command("add")(with_settings(_add, only=_FILE))
app.command("list")(with_settings(_list, only=_FILE))
app.command("revoke")(with_settings(_revoke, only=_FILE))
