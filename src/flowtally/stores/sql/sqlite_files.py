"""The file of a SQLite database beside SQLAlchemy: which state it is of, and a new identity."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

from flowtally.ingest.journal_schema import log_kept
from flowtally.ingest.journal_snapshot import database_moment
from flowtally.model import Account, BackupPoint
from flowtally.stores.sql.tables import PREFIX, VERSION_TABLE

FILE = "flows.sqlite"
"""How it is named where nothing else is asked for, and in every backup."""


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
            with database_moment(path) as reader:
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
