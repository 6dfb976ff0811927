"""The executable `flowtally`: names the commands, and turns errors into one line and an exit code.

Exit codes: 0 done; 1 it failed, or what was verified does not hold; 2 the call or a setting is
wrong; 130 interrupted. `health` has its own: 1 a warning, 2 an error or no answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated

import typer

from flowtally.access.tokens import without_tokens
from flowtally.cli import (
    aggregate,
    backup,
    check,
    copy,
    demo,
    health,
    importing,
    query,
    send,
    serve,
    token,
    verify,
    version,
)
from flowtally.errors import FlowtallyError, SettingsError

_DEBUG = "--debug"
app = typer.Typer(
    name="flowtally",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Boxes cut long flags off at 80 columns, and cost the import of rich.
    rich_markup_mode=None,
)
app.command("serve")(serve.command)
app.command("send")(send.command)
app.add_typer(importing.app, name="import")
app.command("query")(query.command)
app.command("copy")(copy.command)
app.command("aggregate")(aggregate.command)
app.command("backup")(backup.backup_command)
app.command("restore")(backup.restore_command)
app.command("verify")(verify.command)
app.add_typer(token.app, name="token")
app.command("check")(check.command)
app.command("health")(health.command)
app.command("demo")(demo.command)
app.command("version")(version.command)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="show where an error came from, for a bug report")
    ] = False,
) -> None:
    """Sums the bytes of network flows, exactly once, and serves them by hour."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and ends the process with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What typer has parsed is gone by the time that an error arrives here.
    debug = _DEBUG in takewhile(lambda argument: argument.startswith("-"), given)
    try:
        app(given, prog_name="flowtally")
    except Exception as error:
        if debug:
            raise
        sys.exit(_told(error))


def _told(error: Exception) -> int:
    """Says on standard error what happened; returns the exit code."""
    if isinstance(error, (FlowtallyError, OSError)):
        text = str(error)
    else:
        text = f"a fault of flowtally itself: {type(error).__name__}: {error} (see {_DEBUG})"
    print(f"flowtally: {without_tokens(text)}", file=sys.stderr)
    return 2 if isinstance(error, SettingsError) else 1


if __name__ == "__main__":
    main()
