"""The file of a SQLite database beside SQLAlchemy: read at one moment, and given a new identity."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowtally.ingest.journal_schema import log_kept
from flowtally.model import Account, BackupPoint
from flowtally.stores.sql.tables import PREFIX, VERSION_TABLE

FILE = "flows.sqlite"
"""How it is named where nothing else is asked for, and in every backup."""


@contextmanager
def sqlite_moment(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads the database as it is now, whatever is committed meanwhile."""
    reader = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        reader.execute("BEGIN")
        yield reader
    finally:
        reader.close()


def point_in(reader: sqlite3.Connection, now_ms: int) -> BackupPoint:
    """Which state it is of."""
    instance, sequence = reader.execute(f"SELECT instance, sequence FROM {PREFIX}state").fetchone()
    lines = reader.execute(
        f"SELECT arrival_hour, batches, records, bytes_rx, bytes_tx FROM {PREFIX}ledger"
        " ORDER BY arrival_hour"
    )
    accepted = {hour: Account(*map(int, account)) for hour, *account in lines}
    return BackupPoint("sql", instance, sequence, now_ms, accepted)


def revision_in(path: Path) -> str | None:
    """Which form its tables have; None where it does not say so. Nothing is written, and the log is
    left as it is."""
    with log_kept(path):
        try:
            with sqlite_moment(path) as reader:
                row = reader.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        except sqlite3.Error:
            # Whatever is wrong with it is told by who opens it.
            return None
    return None if row is None else str(row[0])


def renew(path: Path) -> None:
    """Gives a restored database that nobody has open a new instance."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"UPDATE {PREFIX}state SET instance = ?", (uuid.uuid4().hex,))
    finally:
        connection.close()
