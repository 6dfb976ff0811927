"""The settings as flags, made from the table in `config.py`, for the commands that need them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from flowtally.config import CONFIG_VARIABLE, FILE_NAME, Row, load, table

_CONFIG_HELP = f"the settings file; default: {CONFIG_VARIABLE}, or {FILE_NAME} where it exists"

_METAVARS = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def with_settings(command: Callable[..., None], only: tuple[str, ...] = ()) -> Callable[..., None]:
    """A command whose first parameter is the effective settings (`Loaded`).

    It gets `--config` and a flag for each setting, or for those in `only`; its own further
    parameters stay. Values are left to `load`, so that a wrong one is told as anywhere else.
    """
    rows = [row for row in table() if not only or row.name in only]

    @wraps(command)
    def wrapper(**arguments: Any) -> None:
        config: Path | None = arguments.pop("config")
        flags = {row.name: arguments.pop(row.name) for row in rows}
        command(load(flags, os.environ, config, serves=not only), **arguments)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    made = [_parameter("config", Path, typer.Option("--config", help=_CONFIG_HELP))]
    made += [_flag(row) for row in rows]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *made)]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapper


def _flag(row: Row) -> inspect.Parameter:
    if row.kind is bool:
        no_flag = "--no-" + row.flag.removeprefix("--")
        return _parameter(row.name, bool, typer.Option(f"{row.flag}/{no_flag}", help=_help(row)))
    metavar = "|".join(row.rule.choices) or row.rule.unit.upper() or _METAVARS[row.kind]
    option = typer.Option(row.flag, metavar=metavar, help=_help(row))
    return _parameter(row.name, str, option)


def _parameter(name: str, kind: type, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _help(row: Row) -> str:
    return f"{row.rule.about} (default: {shown(row.default)})"


def shown(value: object) -> str:
    """A value as one would write it in a flag."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
