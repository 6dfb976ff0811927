"""`flowtally aggregate`: brings all that was acknowledged into the sums, before it is due."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowtally.cli.connection import client_of
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
) -> None:
    """Sum what the hourly store has taken and not yet summed.

    Asks the service that has the data folder, or does it itself where none runs. On a store whose
    batches are visible at once there is nothing to do.
    """
    print(_in_folder(loaded.settings.data) if url is None else _by_service(url))


command = with_settings(_aggregate, only=("data",))


def _in_folder(data: Path) -> str:
    from flowtally.compose import aggregate_data

    try:
        batches = aggregate_data(data)
    except FolderInUse as error:
        if error.url is None:
            raise
        return _by_service(error.url)
    return f"aggregated {batches} batches in {data}: every acknowledged batch is in the sums"


def _by_service(url: str) -> str:
    with client_of(url, _GIVE_UP_S) as client:
        client.settle()
    return f"asked the service on {url}: every acknowledged batch is in the sums"
