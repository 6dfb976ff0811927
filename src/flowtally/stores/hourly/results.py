"""The results database: finished sums, and the journal's number up to which they hold everything.

SQLite in WAL mode, like the journal, and opened by the same rules: a damaged log is told from a
torn one, and all of it is written and synced anew before what it says is believed. One thread
writes (the aggregator); any number read, each in a transaction of its own.

Leaves to others: what stands in a part (`parts.py`), and when sums change (`aggregation.py`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowtally import limits
from flowtally.errors import DamagedData, DataFolderError, NotAccepting
from flowtally.ingest.journal_schema import (
    as_written,
    corrupt,
    give_space_back,
    is_damage,
    log_kept,
    newer,
    open_database,
)
from flowtally.ingest.wal_scan import damage_in_log, log_of

APPLICATION_ID = 0x464C5352
""""FLSR", in the file's header: no other database is taken for this one."""
FORMAT = 1
ALL = -1
"""The arrival hour of parts that hold all arrival hours together. An hour of records that came in
one arrival hour has none: the parts of that one are what it serves."""

_SCHEMA = """
CREATE TABLE state (
    format INTEGER NOT NULL,
    folder_id TEXT NOT NULL,
    applied INTEGER NOT NULL,
    expired_revision INTEGER NOT NULL,
    expired_ms INTEGER NOT NULL,
    aggregated_ms INTEGER
) STRICT;
CREATE TABLE hours (
    hour INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE parts (
    part INTEGER PRIMARY KEY,
    hour INTEGER NOT NULL,
    arrival_hour INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    records INTEGER NOT NULL,
    bytes_rx TEXT NOT NULL,
    bytes_tx TEXT NOT NULL,
    first_flow BLOB NOT NULL,
    sums BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX parts_in_order ON parts (hour, arrival_hour, first_flow);
CREATE INDEX parts_by_arrival ON parts (arrival_hour);
CREATE TABLE ledger (
    arrival_hour INTEGER PRIMARY KEY,
    batches_summed INTEGER NOT NULL,
    batches_expired INTEGER NOT NULL,
    records_expired INTEGER NOT NULL,
    bytes_rx_expired TEXT NOT NULL,
    bytes_tx_expired TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class ResultsState:
    """The one row of `state`."""

    format: int
    folder_id: str
    applied: int
    """All of the journal up to this sequence number is in here."""
    expired_revision: int
    expired_ms: int
    aggregated_ms: int | None
    """When the last run that changed anything did so."""


class Results:
    """See the module. Construct, `open`, use, `close`; `open` again after a failure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._changed = threading.Condition()
        self._reading = 0
        self._closing = False

    def open(self, folder_id: str, applied_min: int = 0) -> None:
        """Opens or creates the database. All up to `applied_min`, which the journal has let go of,
        must be in it. Raises `DamagedData` naming what is wrong, or `DataFolderError`."""
        try:
            fault = damage_in_log(self.path)
            if fault is not None:
                raise DamagedData(f"{log_of(self.path)} is damaged: {fault}")
            writer = open_database(self.path)
            try:
                self._require_ours(writer, folder_id, applied_min)
                # Also what a failed sync may have left in memory only is written and synced anew.
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except BaseException:
                writer.close()
                raise
        except UnicodeDecodeError as error:
            # SQLite quotes its damaged schema in an error text that Python cannot decode.
            raise DamagedData(f"{self.path} is damaged: {error}") from error
        except sqlite3.Error as error:
            if is_damage(error):
                raise DamagedData(f"{self.path} is damaged: {error}") from error
            raise DataFolderError(f"{self.path} cannot be opened: {error}") from error
        with self._changed:
            self._writer = writer

    def _require_ours(self, writer: sqlite3.Connection, folder_id: str, applied_min: int) -> None:
        """Makes the tables of a new file; of another one, that it is of this folder and format."""
        if writer.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,):
            writer.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {_SCHEMA}"
                f"INSERT INTO state VALUES ({FORMAT}, '{folder_id}', 0, 0, 0, NULL); COMMIT;"
            )
        if writer.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            raise DamagedData(f"{self.path} is another program's database")
        state = state_of(writer)
        if state.format > FORMAT:
            raise DataFolderError(newer(self.path, state.format, FORMAT))
        if state.folder_id != folder_id:
            raise DamagedData(
                f"{self.path} belongs to another data folder than journal.sqlite beside it"
            )
        if state.applied < applied_min:
            raise DamagedData(
                f"{self.path} has lost data: it ends at batch {state.applied}, but the journal"
                f" passed on and let go of all up to {applied_min}"
            )

    def close(self) -> None:
        """Waits for the reads under way, lets no new one begin, and closes. May be called twice.

        The log stays beside the file: bringing it in would sync, after a failed sync too, and the
        next `open` does it in any case.
        """
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: self._reading == 0)
            writer, self._writer = self._writer, None
            idle, self._idle = self._idle, []
            self._closing = False
            if writer is not None:
                with log_kept(self.path):
                    for connection in (*idle, writer):
                        with suppress(sqlite3.Error):
                            connection.close()

    @property
    def writer(self) -> sqlite3.Connection:
        """The aggregator's connection."""
        if self._writer is None:
            raise NotAccepting("the results are closed")
        return self._writer

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """All of it or nothing; whoever opens it commits by the cursor."""
        writer = self.writer
        cursor = writer.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
        finally:
            with suppress(sqlite3.Error):
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
            cursor.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for one read, in a transaction: all of it is of one moment, that
        of entering here."""
        connection = self._take_reader()
        try:
            connection.execute("BEGIN")
            # A transaction has its moment from its first statement on.
            connection.execute("SELECT applied FROM state").fetchall()
            yield connection
        finally:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            with self._changed:
                self._idle.append(connection)
                self._reading -= 1
                self._changed.notify_all()

    def _take_reader(self) -> sqlite3.Connection:
        with self._changed:
            if self._closing or self._writer is None:
                raise NotAccepting("the results are closed")
            connection = self._idle.pop() if self._idle else _reader_of(self.path)
            self._reading += 1
        return connection

    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        wal = log_of(self.path)
        return wal.stat().st_size if wal.exists() else 0

    def fold(self, emptied: bool = False) -> None:
        """Gives free pages back, as many as are worth it, and brings the log into the file.

        Readers are not waited for, unless it is to be `emptied`: what they hold up is brought in
        the next time.
        """
        free = self._free_pages()
        while free:
            give_space_back(self.writer)
            free, before = self._free_pages(), free
            if free == before:
                break
        [(_, frames, folded)] = self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        large = frames == folded and self.log_bytes() > limits.WAL_CHECKPOINT_BYTES
        if emptied or large:
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def fold_long_log(self) -> None:
        """The same between two transactions of a run, once the log is long: each of them may write
        most of an hour anew, and all of them together many times what the file is."""
        if self.log_bytes() > limits.WAL_CHECKPOINT_BYTES:
            self.fold()

    def _free_pages(self) -> int:
        [(free,)] = self.writer.execute("PRAGMA freelist_count").fetchall()
        return int(free)


def state_of(connection: sqlite3.Connection) -> ResultsState:
    """The state, as this transaction sees it."""
    row = connection.execute("SELECT * FROM state").fetchone()
    if row is None:
        raise corrupt("its state is missing")
    kinds: Any = tuple[int, str, int, int, int, int | None]
    return ResultsState(*as_written(row, kinds, "its state"))


def is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite found no room. What it could not write it has undone."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another program has the file locked. Nothing was written then."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _reader_of(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
