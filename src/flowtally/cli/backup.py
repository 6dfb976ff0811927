"""`flowtally backup` and `flowtally restore`: a copy of everything as of one point, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtally.cli.connection import Ca, TokenFile, client_of
from flowtally.cli.settings_flags import with_settings
from flowtally.cli.verify import print_ledger
from flowtally.config import Loaded, Settings
from flowtally.errors import FolderInUse, NotSupported, SettingsError
from flowtally.model import Account, Ledger
from flowtally.wire.answers import timestamp

if TYPE_CHECKING:
    from flowtally.wire.backup_manifest import Manifest


def _backup(
    loaded: Loaded,
    folder: Annotated[Path, typer.Argument(help="where to: a new folder, or an empty one")],
    url: Annotated[
        str | None, typer.Option(help="ask this running service, and look at no data")
    ] = None,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """Copy everything as of one point, while the service goes on.

    Asks the service that has the data folder, or copies it itself where none runs. All that was
    acknowledged before the backup began is in it, and every batch whole or not at all. Where the
    service wants tokens, it wants one that may admin. Exit code 1 where the backup could not be
    made: then nothing is left in the folder. A PostgreSQL is backed up by its own tools: exit code
    2.
    """
    ask = partial(_of_service, folder=folder, token_file=token_file, ca=ca)
    try:
        found = _of_data(loaded.settings, folder, ask) if url is None else ask(url)
    except NotSupported as error:
        raise SettingsError(str(error)) from error
    total = sum(found.accounts().values(), Account())
    print(f"backed up to {folder}: the store {found.store} at {_point(found)}")
    print(
        f"{total.batches} batches, {total.records} records accepted;"
        f" {sum(one.bytes for one in found.files)} bytes in {len(found.files)} files"
    )


backup_command = with_settings(_backup, only=("store", "data", "sql_url"))


def _of_data(settings: Settings, folder: Path, ask: Callable[[str], Manifest]) -> Manifest:
    from flowtally.client.backup import receive
    from flowtally.compose import stopped_stream

    try:
        with stopped_stream(settings) as stream:
            return receive(stream, folder)
    except FolderInUse as error:
        if error.url is None:
            raise
        return ask(error.url)


def _of_service(url: str, folder: Path, token_file: Path | None, ca: Path | None) -> Manifest:
    from flowtally.client.client import Refused

    with client_of(url, token_file=token_file, ca=ca) as client:
        try:
            found = client.back_up(folder)
        except Refused as refused:
            if refused.is_kind("not-supported"):
                raise NotSupported(str(refused.problem.get("detail"))) from refused
            raise
    print(f"asked the service on {url}")
    return found


def restore_command(
    folder: Annotated[Path, typer.Argument(help="the backup")],
    data: Annotated[
        Path, typer.Option(help="the data folder to make: it must not exist, or be empty")
    ],
) -> None:
    """Make a data folder of a backup, verified.

    Checks every byte, opens the files and holds the ledger against the manifest before the folder
    has its name: exit code 1 where anything is wrong, and then there is none. What was acknowledged
    after the backup's point is not in it. What was sent under a key may be sent again: what is in
    the backup is not counted twice.
    """
    import msgspec

    from flowtally.compose import restore_data

    found = restore_data(folder, data)
    print_ledger(msgspec.json.decode(found.ledger_json, type=Ledger))
    print(f"restored to {data}: the store {found.manifest.store} at {_point(found.manifest)}")
    print("balances, and is what the backup's manifest says")
    print(
        f"What was acknowledged after {_moment(found.manifest)} is NOT in it: have it sent again,"
        " under the same keys"
    )


def _point(manifest: Manifest) -> str:
    return f"sequence number {manifest.sequence}, {_moment(manifest)}"


def _moment(manifest: Manifest) -> str:
    return str(timestamp(manifest.taken_ms))
