"""`flowtally check`: the effective settings, and where each came from."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from flowtally.cli.settings_flags import shown, with_settings
from flowtally.config import Loaded, Settings, table


def _check(
    loaded: Loaded,
    output: Annotated[
        Literal["table", "toml"],
        typer.Option("--format", help="table, or toml: a settings file with these values"),
    ] = "table",
) -> None:
    """Validate the settings and print each with its source.

    A password in a URL is masked. Exit code 2 where one is wrong, where the tokens file or the
    certificate cannot be used, or where the service would be open to strangers.
    """
    _require_files(loaded.settings)
    rows = [(row.name, row.public(getattr(loaded.settings, row.name))) for row in table()]
    if output == "toml":
        for name, value in rows:
            # TOML has no word for nothing.
            line = f"# {name} is not set" if value is None else f"{name} = {_toml(value)}"
            print(f"{line}  # {loaded.sources[name]}")
        return
    name_width = max(len(name) for name, _ in rows)
    value_width = max(len(shown(value)) for _, value in rows)
    for name, value in rows:
        print(f"{name:{name_width}}  {shown(value):{value_width}}  {loaded.sources[name]}")


def _require_files(settings: Settings) -> None:
    from flowtally.access.tls import read_certificate
    from flowtally.access.tokens_file import read_tokens

    if settings.tokens is not None:
        read_tokens(settings.tokens)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        read_certificate(settings.tls_certificate, settings.tls_key)


def _toml(value: object) -> str:
    # JSON's numbers, booleans and strings are TOML's too.
    return json.dumps(value if isinstance(value, (bool, int, float)) else str(value))


command = with_settings(_check)
