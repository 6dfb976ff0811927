"""The file of a SQLite database beside SQLAlchemy: read at one moment, and given a new identity."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowtally.model import Account, BackupPoint
from flowtally.stores.sql.tables import PREFIX

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


def renew(path: Path) -> None:
    """Gives a restored database that nobody has open a new instance."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"UPDATE {PREFIX}state SET instance = ?", (uuid.uuid4().hex,))
    finally:
        connection.close()
