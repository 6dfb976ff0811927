"""Makes a data folder of a backup: checked byte by byte, opened, and its ledger held against the
manifest, before it has the name that was asked for.

All of it is done in a folder beside, which is renamed at the end; whatever fails, and a kill, leave
nothing that a service would start on. The data get a new instance: the service that they were
copied from may have gone on, and what it told of later states must not be taken for theirs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flowtally import __version__, limits
from flowtally.clock import Clock
from flowtally.disk import free_bytes, sync_folder
from flowtally.errors import BackupError, DataFolderError
from flowtally.model import Account, Ledger
from flowtally.stores.verifying import verify_store
from flowtally.wire.backup_manifest import (
    NAME,
    FileEntry,
    Manifest,
    ManifestFault,
    decode_manifest,
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What is in a backup, or was restored from one."""

    manifest: Manifest
    ledger: Ledger


def restore(source: Path, target: Path, clock: Clock) -> Checked:
    """Makes the data folder `target`, which must not exist or be empty. Raises `BackupError`."""
    manifest = read_manifest(source)
    target = target.absolute()
    _require_nothing_in(target)
    try:
        with _folder_beside(target) as beside:
            _require_room(beside, manifest)
            for entry in manifest.files:
                _copy_checked(source / entry.name, beside / entry.name, entry)
            ledger = _opened(manifest, beside, clock)
            sync_folder(beside)
            try:
                beside.rename(target)
            except OSError as error:
                raise BackupError(
                    f"{target} cannot be made: {error.strerror} (name a folder that is not there"
                    " yet; where that is a volume of its own, one in it)"
                ) from error
            sync_folder(target.parent)
    except OSError as error:
        raise BackupError(f"{source} could not be restored to {target}: {error}") from error
    return Checked(manifest, ledger)


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """An empty folder that no other restore touches, until it was given the target's name; else it
    is removed. Raises `BackupError` where another one is at work, and `OSError`."""
    beside = target.with_name(f".{target.name}.restoring")
    beside.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def is_ours() -> bool:
        return beside.exists() and os.path.samestat(os.fstat(descriptor), beside.stat())

    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another restore to {target} is under way") from None
        try:
            # It may have got its name since it was opened.
            if not is_ours():
                raise BackupError(f"another restore to {target} was under way")
            for left in beside.iterdir():
                # Of a restore that was killed.
                left.unlink()
            yield beside
        finally:
            if is_ours():
                shutil.rmtree(beside, ignore_errors=True)
    finally:
        os.close(descriptor)


def read_manifest(source: Path) -> Manifest:
    """The manifest of a backup whose files are all there, with the sizes that it says."""
    path = source / NAME
    try:
        with path.open("rb") as file:
            text = file.read(limits.MANIFEST_BYTES_MAX)
        manifest = decode_manifest(text)
        found = {one.name: one.stat().st_size for one in source.iterdir() if one.name != NAME}
    except FileNotFoundError:
        raise BackupError(
            f"{source} is no whole backup: it has no {NAME}, which is written last"
        ) from None
    except ManifestFault as fault:
        raise BackupError(f"{path} {fault} (by flowtally {__version__})") from fault
    except OSError as error:
        raise BackupError(f"{source} cannot be read: {error}") from error
    for entry in manifest.files:
        if found.pop(entry.name, None) != entry.bytes:
            raise BackupError(
                f"{source / entry.name} is damaged: it is missing, or not {entry.bytes} bytes long"
            )
    if found:
        raise BackupError(f"{source / min(found)} is not part of the backup")
    if {one.name for one in manifest.files} != _FILES.get(manifest.store):
        raise BackupError(f"{path} names what no store of this release has")
    return manifest


def _require_nothing_in(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} is not empty: a backup is restored to a folder of its own")


def _require_room(folder: Path, manifest: Manifest) -> None:
    wanted_bytes = sum(entry.bytes for entry in manifest.files) + limits.DISK_FREE_BYTES_MIN
    found_bytes = free_bytes(folder)
    if found_bytes < wanted_bytes:
        raise BackupError(f"no room: {wanted_bytes} bytes are needed, and {found_bytes} are free")


def _copy_checked(path: Path, copy: Path, entry: FileEntry) -> None:
    digest = hashlib.sha256()
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with path.open("rb") as source, open(descriptor, "wb") as target:
        while piece := source.read(limits.BACKUP_READ_BYTES):
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != entry.sha256:
        raise BackupError(f"{path} is damaged: its SHA-256 is not the manifest's")


def _opened(manifest: Manifest, folder: Path, clock: Clock) -> Ledger:
    """Gives the data a new instance, and proves that they are whole and what the manifest says."""
    try:
        _RENEWED[manifest.store](folder)
        report = verify_store(manifest.store, folder, clock, _SQL_URL)
    except (DataFolderError, duckdb.Error, sqlite3.Error) as error:
        raise BackupError(f"the backup cannot be opened: {error}") from error
    if not report.is_sound:
        why = " ".join(report.faults) or "it does not balance"
        raise BackupError(f"the backup is not sound: {why}")
    found = {line.arrival_hour: line.accepted for line in report.ledger.lines}
    wrong = list(_differences(manifest.accounts(), found))
    if wrong:
        raise BackupError(f"the backup does not hold what its manifest says: {wrong[0]}")
    return report.ledger


def _differences(said: dict[int, Account], found: dict[int, Account]) -> Iterator[str]:
    for hour in sorted({*said, *found}):
        ours, theirs = found.get(hour, Account()), said.get(hour, Account())
        if ours != theirs:
            yield f"in arrival hour {hour} there is {ours}, not {theirs}"


def _renew_duckdb(folder: Path) -> None:
    from flowtally.ingest import journal_schema
    from flowtally.stores.duckdb import database

    folder_id = uuid.uuid4().hex
    journal_schema.renew(folder / "journal.sqlite", folder_id)
    database.renew(folder / "sums.duckdb", folder_id)


def _renew_hourly(folder: Path) -> None:
    from flowtally.ingest import journal_schema

    folder_id = uuid.uuid4().hex
    for name in ("journal.sqlite", "results.sqlite"):
        journal_schema.renew(folder / name, folder_id)


def _renew_sql(folder: Path) -> None:
    from flowtally.stores.sql import sqlite_files

    sqlite_files.renew(folder / sqlite_files.FILE)


def _renew_memory(folder: Path) -> None:
    from flowtally.stores import memory_snapshot

    memory_snapshot.renew(folder)


_RENEWED: dict[str, Callable[[Path], None]] = {
    "duckdb": _renew_duckdb,
    "hourly": _renew_hourly,
    "sql": _renew_sql,
    "memory": _renew_memory,
}
_SQL_URL = "sqlite+aiosqlite:///{data}/flows.sqlite"
_FILES = {
    "duckdb": {"journal.sqlite", "sums.duckdb"},
    "hourly": {"journal.sqlite", "results.sqlite"},
    "sql": {"flows.sqlite"},
    "memory": {"memory.parquet"},
}
