"""`flowtally aggregate`: brings all that was acknowledged into the sums, before it is due."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flowtally.cli.connection import Ca, TokenFile, client_of
from flowtally.cli.settings_flags import with_settings
from flowtally.config import Loaded
from flowtally.errors import FolderInUse

_GIVE_UP_S = 120.0
"""More than one request may take; a run goes on while it is waited for by several."""


def _aggregate(
    loaded: Loaded,
    url: Annotated[
        str | None, typer.Option(help="ask this running service, and look at no folder")
    ] = None,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """Sum what the hourly store has taken and not yet summed.

    Asks the service that has the data folder, or does it itself where none runs. On a store whose
    batches are visible at once there is nothing to do.
    """
    ask = partial(_by_service, token_file=token_file, ca=ca)
    print(_in_folder(loaded.settings.data, ask) if url is None else ask(url))


command = with_settings(_aggregate, only=("data",))


def _in_folder(data: Path, ask: Callable[[str], str]) -> str:
    from flowtally.compose import aggregate_data

    try:
        batches = aggregate_data(data)
    except FolderInUse as error:
        if error.url is None:
            raise
        return ask(error.url)
    return f"aggregated {batches} batches in {data}: every acknowledged batch is in the sums"


def _by_service(url: str, token_file: Path | None, ca: Path | None) -> str:
    with client_of(url, _GIVE_UP_S, token_file=token_file, ca=ca) as client:
        client.settle()
    return f"asked the service on {url}: every acknowledged batch is in the sums"
