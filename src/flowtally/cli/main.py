"""The executable `flowtally`: names the commands, and turns errors into one line and an exit code.

Exit codes: 0 done; 1 it failed, or what was verified does not hold; 2 the call or a setting is wrong.
"""

from __future__ import annotations

import sys

import typer

from flowtally.cli import check, demo, importing, query, send, serve, verify, version
from flowtally.errors import FlowtallyError, SettingsError

app = typer.Typer(
    name="flowtally",
    help="Sums the bytes of network flows, exactly once, and serves them by hour.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.command)
app.command("send")(send.command)
app.add_typer(importing.app, name="import")
app.command("query")(query.command)
app.command("verify")(verify.command)
app.command("check")(check.command)
app.command("demo")(demo.command)
app.command("version")(version.command)


def main() -> None:
    """Runs the command line."""
    try:
        app()
    except SettingsError as error:
        _fail(error, 2)
    except FlowtallyError as error:
        _fail(error, 1)


def _fail(error: Exception, code: int) -> None:
    print(f"flowtally: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
