"""A backup of a data folder that no service has: its own files, once nothing is left in their logs.

Opens the files as a start would, so that what a kill left in the logs is in them, and lets go of
all but the folder's lock: nobody can start on it before the backup is over. Nothing expires.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from flowtally.clock import Clock
from flowtally.errors import BackupError, DamagedData, DataFolderError
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_snapshot import journal_snapshot
from flowtally.ingest.wal_scan import damage_in_log, log_of
from flowtally.model import Backup, BackupPoint
from flowtally.stores.folder import DataFolder, owner_of
from flowtally.stores.journal_pair import point_of


@contextmanager
def stopped_backup(path: Path, store: str, clock: Clock) -> Iterator[Backup]:
    """The files of a folder of that store, or of whichever it is found to be of. Raises
    `FolderInUse` where a service has it, and `DataFolderError`."""
    owner = owner_of(path)
    if owner is None and not (path / "journal.sqlite").exists():
        raise DataFolderError(f"{path} is not a data folder of flowtally: there is nothing in it")
    store = owner or store
    folder = DataFolder(path, store)
    folder.open(create=False)
    try:
        point, files = _SETTLED[store](folder, clock)
        left = [log for file in files for log in _logs(file) if _is_filled(log)]
        if left:
            raise BackupError(f"{left[0]} could not be brought into its file")
        yield Backup(point, tuple(str(file) for file in files))
    finally:
        folder.close()


def _settled_duckdb(folder: DataFolder, clock: Clock) -> tuple[BackupPoint, list[Path]]:
    from flowtally.stores.duckdb.database import Database
    from flowtally.stores.duckdb.store import open_files

    journal, database = Journal(folder.journal, clock), Database(folder)
    try:
        open_files(folder, journal, database)
        database.settle()
        with journal_snapshot(journal.path) as moment:
            return point_of(moment, "duckdb", clock.now_ms()), [folder.journal, folder.sums]
    except duckdb.Error as error:
        raise DamagedData(f"{folder.sums} cannot be read: {error}") from error
    finally:
        database.close()
        journal.close()


def _settled_hourly(folder: DataFolder, clock: Clock) -> tuple[BackupPoint, list[Path]]:
    from flowtally.stores.hourly.files import open_files
    from flowtally.stores.hourly.results import Results

    journal, results = Journal(folder.journal, clock), Results(folder.results)
    try:
        open_files(folder, journal, results)
        results.fold(emptied=True)
        with journal_snapshot(journal.path) as moment:
            return point_of(moment, "hourly", clock.now_ms()), [folder.journal, folder.results]
    except sqlite3.Error as error:
        raise DamagedData(f"{folder.results} cannot be read: {error}") from error
    finally:
        results.close()
        journal.close()


def _settled_sql(folder: DataFolder, clock: Clock) -> tuple[BackupPoint, list[Path]]:
    from flowtally.ingest.journal_schema import open_database
    from flowtally.stores.sql.migrate import refuse_newer
    from flowtally.stores.sql.sqlite_files import FILE, point_in

    path = folder.path / FILE
    fault = damage_in_log(path)
    if fault is not None:
        raise DamagedData(f"{log_of(path)} is damaged: {fault}")
    refuse_newer(path)
    try:
        connection = open_database(path)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return point_in(connection, clock.now_ms()), [path]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DamagedData(f"{path} cannot be read: {error}") from error


def _settled_memory(folder: DataFolder, clock: Clock) -> tuple[BackupPoint, list[Path]]:
    from flowtally.stores.memory_snapshot import SNAPSHOT, read_snapshot

    state = read_snapshot(folder.path / SNAPSHOT)
    if state is None:
        raise DataFolderError(f"there is no snapshot in {folder.path}")
    accepted = {hour: arrival.accepted for hour, arrival in state.arrivals.items()}
    point = BackupPoint("memory", state.instance, state.sequence, state.taken_ms, accepted)
    return point, [folder.path / SNAPSHOT]


_SETTLED = {
    "duckdb": _settled_duckdb,
    "hourly": _settled_hourly,
    "sql": _settled_sql,
    "memory": _settled_memory,
}


def _logs(file: Path) -> tuple[Path, ...]:
    return (log_of(file), file.with_name(f"{file.name}.wal"))


def _is_filled(log: Path) -> bool:
    return log.exists() and log.stat().st_size > 0
