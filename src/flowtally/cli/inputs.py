"""The files that a command reads, by the names it was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

STANDARD_INPUT = "-"


def require_inputs(files: Sequence[str]) -> None:
    """Raises `typer.BadParameter` for what cannot be read, before anything is sent.

    A pipe that has a name, such as the shell's `<(...)`, is as good as a file.
    """
    for file in files:
        if file == STANDARD_INPUT:
            continue
        if not Path(file).exists():
            raise typer.BadParameter(f"there is no file {file}")
        if Path(file).is_dir():
            raise typer.BadParameter(f"{file} is a folder")
    if list(files).count(STANDARD_INPUT) > 1:
        raise typer.BadParameter("standard input (-) can be read once, and is named twice")
