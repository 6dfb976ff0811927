"""DuckDB's file: its tables, how it is opened, and what must hold between it and the journal.

Two tables hold the sums: `recent`, which the applier appends to, and `base`, which compaction sums
it into. Both are keyed by flow and arrival hour; every read adds up both. `state` has one row and
changes in every transaction: `applied` is the journal's sequence number up to which everything is
in here. `hours` has the revision of each hour, `ledger` what is no longer, or not, in the rows.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from flowtally import __version__
from flowtally.errors import DamagedData, DataFolderError
from flowtally.ingest.journal_schema import newer
from flowtally.stores.duckdb.doublewrite import HEADERS_BYTES, Doublewrite
from flowtally.stores.duckdb.log_tail import LogTail
from flowtally.stores.folder import DataFolder

logger = logging.getLogger(__name__)

FORMAT = 1
_NEWER_DUCKDB = "storage version number"
"""What DuckDB says of a file that it is too old for."""
_CHECKPOINT_ROOM_BYTES = 4 * 1024 * 1024

_SUMS_COLUMNS = """(
    arrival_hour INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    src_app VARCHAR NOT NULL,
    dest_app VARCHAR NOT NULL,
    vpc_id VARCHAR NOT NULL,
    bytes_rx HUGEINT NOT NULL,
    bytes_tx HUGEINT NOT NULL,
    records BIGINT NOT NULL
)"""

_SCHEMA = f"""
CREATE TABLE base {_SUMS_COLUMNS};
CREATE TABLE recent {_SUMS_COLUMNS};
CREATE TABLE hours (hour INTEGER NOT NULL, revision BIGINT NOT NULL, changed_ms BIGINT NOT NULL);
CREATE TABLE ledger (
    arrival_hour INTEGER NOT NULL,
    batches_summed BIGINT NOT NULL,
    batches_expired BIGINT NOT NULL,
    records_expired BIGINT NOT NULL,
    bytes_rx_expired HUGEINT NOT NULL,
    bytes_tx_expired HUGEINT NOT NULL
);
CREATE TABLE state (
    format INTEGER NOT NULL,
    folder_id VARCHAR NOT NULL,
    applied BIGINT NOT NULL,
    expired_revision BIGINT NOT NULL,
    expired_ms BIGINT NOT NULL
);
"""

TABLES = ("base", "recent", "hours", "ledger", "state")
SUMS = "(SELECT * FROM base UNION ALL SELECT * FROM recent)"
"""Every row that a read is answered from."""

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Checkpoints are made by the applier, between transactions: an automatic one inside a commit
    # was measured to stall it for 77-140 ms.
    "checkpoint_threshold": "1TB",
    # Nothing is fetched or loaded at run time.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class Database:
    """The open DuckDB file. One thread writes (the applier); any number read, each by a cursor.

    After `open`, what is read may be newer than what a power cut would leave: a failed sync of the
    last run can have left it in memory only. `settle` mends that, and must have returned before
    the journal is told that anything is applied.
    """

    def __init__(self, folder: DataFolder, memory_bytes_max: int | None = None) -> None:
        self.path = folder.sums
        self._folder = folder
        self._doublewrite = Doublewrite(folder)
        self._log_tail = LogTail(folder)
        # The other half is for those who wait for an acknowledgement: beside a compaction that had
        # both of two processors their p99 was a third higher, and no more was stored.
        self._config = {**_CONFIG, "threads": max(1, len(os.sched_getaffinity(0)) // 2)}
        if memory_bytes_max is not None:
            self._config["memory_limit"] = f"{memory_bytes_max}B"
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._idle = threading.Condition()
        self._unchanged = threading.Lock()
        self._reading = 0
        self._closing = False

    def open(self, folder_id: str, applied_min: int = 0) -> None:
        """Opens or creates the file, mending what a kill or a power cut left half written.

        All up to `applied_min`, which the journal has let go of, must be in it. Raises
        `DamagedData` or `DataFolderError`; the files are then as they were.
        """
        connection = None
        try:
            connection = self._connect()
            # Only `settle` makes checkpoints: one that DuckDB made at its close would be unguarded.
            connection.execute("PRAGMA disable_checkpoint_on_shutdown")
            self._require_ours(connection, folder_id)
            applied = applied_of(connection)
            if applied < applied_min:
                raise DamagedData(
                    f"{self.path} has lost data: it ends at batch {applied}, but the journal"
                    f" passed on and let go of all up to {applied_min}"
                )
            self._log_tail.accept()
        except BaseException as error:
            if connection is not None:
                _close(connection)
            self._log_tail.put_back()
            if isinstance(error, duckdb.Error | OSError):
                raise _cannot_open(self.path, error) from error
            raise
        with self._idle:
            self._connection = connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        blocks = self._doublewrite.put_back()
        if blocks:
            logger.warning(
                "a checkpoint was cut short: metadata is put back as it was before it",
                extra={"file": str(self.path), "blocks": blocks},
            )
        try:
            return duckdb.connect(str(self.path), config=self._config)
        except duckdb.Error as error:
            left_out = self._log_tail.cut(error)
            if not left_out:
                raise
            logger.warning(
                "the end of the store's log was not written whole, and is left out",
                extra={"file": str(self.path), "bytes": left_out},
            )
        return duckdb.connect(str(self.path), config=self._config)

    def _require_ours(self, connection: duckdb.DuckDBPyConnection, folder_id: str) -> None:
        """Makes the tables of a new file; of another one, that it is of this folder and format."""
        if not connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE table_name = 'state'"
        ).fetchall():
            connection.begin()
            connection.execute(_SCHEMA)
            connection.execute("INSERT INTO state VALUES (?, ?, 0, 0, 0)", [FORMAT, folder_id])
            connection.commit()
        rows = connection.execute("SELECT format, folder_id FROM state").fetchall()
        if len(rows) != 1:
            raise DamagedData(f"{self.path} is damaged: its state is missing")
        if rows[0][0] > FORMAT:
            raise DataFolderError(newer(self.path, rows[0][0], FORMAT))
        if rows[0][1] != folder_id:
            raise DamagedData(
                f"{self.path} belongs to another data folder than journal.sqlite beside it"
            )

    def settle(self) -> None:
        """Brings the log into the file: all of it is written and synced anew.

        Raises `OSError` where there is no room for that: DuckDB would be unusable after trying.
        """
        log_bytes = self.log_bytes()
        if log_bytes == 0:
            return
        if self._folder.free_bytes() < log_bytes + _CHECKPOINT_ROOM_BYTES:
            raise OSError(errno.ENOSPC, "no room to bring the store's log into its file")
        with self._unchanged:
            self._doublewrite.save(self.writer)
            # FORCE waits where a plain one fails: the transaction that this thread ended last may
            # still be tidied up by a reader's, and counts as active until then. Nobody else writes.
            self.writer.execute("FORCE CHECKPOINT")

    def write_headers_again(self) -> None:
        """The same bytes, and synced; called by the applier's thread, which alone makes
        checkpoints. The last run's checkpoint may have written its header and failed to sync it:
        then memory has it and the disk does not, and a sync alone would report success for what
        the kernel has given up. Raises `OSError`."""
        with self.path.open("r+b") as file:
            headers = file.read(HEADERS_BYTES)
            file.seek(0)
            file.write(headers)
            file.flush()
            os.fsync(file.fileno())

    @property
    def is_held(self) -> bool:
        """Whether `settle` would wait."""
        return self._unchanged.locked()

    def hold(self) -> int:
        """Settles, and keeps what that wrote as it is until `release`, while transactions go on:
        they are in the log, and what they may write ahead of it goes where a checkpoint has
        nothing. So the file by itself is what it was at this moment. Returns its size. Called by
        the applier's thread; `release` by any. Raises `OSError`."""
        self.settle()
        self._unchanged.acquire()
        return self.path.stat().st_size

    def release(self) -> None:
        """Lets checkpoints be made again."""
        self._unchanged.release()

    def close(self) -> None:
        """Waits for the reads under way, lets no new one begin, and closes the file. May be called
        twice.

        DuckDB keeps one instance for as long as anyone holds a connection to it, so a reader left
        over would hand the old, perhaps invalidated one to whoever opens the file next.
        """
        with self._idle:
            # Readers that overlap would otherwise keep it open for as long as they please.
            self._closing = True
            self._idle.wait_for(lambda: self._reading == 0)
            connection, self._connection = self._connection, None
            self._closing = False
            if connection is not None:
                _close(connection)

    @property
    def writer(self) -> duckdb.DuckDBPyConnection:
        """The applier's connection."""
        connection = self._connection
        if connection is None:
            raise duckdb.ConnectionException("the database is closed")
        return connection

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for one read."""
        with self._idle:
            if self._closing:
                raise duckdb.ConnectionException("the database is being closed")
            cursor = self.writer.cursor()
            self._reading += 1
        try:
            yield cursor
        finally:
            with suppress(duckdb.Error):
                cursor.close()
            with self._idle:
                self._reading -= 1
                self._idle.notify_all()

    def memory_bytes(self) -> int:
        """What DuckDB holds in memory, of what it may: its blocks, and what queries need."""
        [(held,)] = self.writer.execute(
            "SELECT COALESCE(SUM(memory_usage_bytes), 0)::BIGINT FROM duckdb_memory()"
        ).fetchall()
        return int(held)

    def log_bytes(self) -> int:
        """The size of DuckDB's write-ahead log."""
        wal = self.path.with_name(self.path.name + ".wal")
        return wal.stat().st_size if wal.exists() else 0

    def check(self) -> list[str]:
        """Reads every column of every row; each block has a checksum: a line for each table
        that cannot be read whole."""
        faults = []
        with self.reading() as cursor:
            for table in TABLES:
                try:
                    cursor.sql(f"SELECT BIT_XOR(HASH(COLUMNS(*))) FROM {table}").fetchall()
                except duckdb.Error as error:
                    faults.append(f"table {table}: {str(error).splitlines()[0]}")
        return faults


def refuse_newer(folder: DataFolder) -> None:
    """Raises `DataFolderError` for a file of a newer format, of ours or of DuckDB's, before
    anything of the folder is written.

    Its log is not read: DuckDB looks for one by the file's name, and here that is another. What was
    never in a checkpoint is found by `Database.open`, and so is whatever else is wrong.
    """
    try:
        folder.staging.mkdir(mode=0o700)
        look = folder.staging / folder.sums.name
        os.link(folder.sums, look)
        found = _format_in(look)
    except (OSError, duckdb.Error) as error:
        if _NEWER_DUCKDB in str(error):
            text = str(error).replace(str(look), str(folder.sums))
            raise DataFolderError(
                f"{folder.sums} was written by a newer release than flowtally {__version__}:"
                f" {text.splitlines()[0]}"
            ) from error
        return
    finally:
        shutil.rmtree(folder.staging, ignore_errors=True)
    if found is not None and found > FORMAT:
        raise DataFolderError(newer(folder.sums, found, FORMAT))


def _format_in(path: Path) -> int | None:
    connection = duckdb.connect(str(path), read_only=True, config=dict(_CONFIG))
    try:
        row = connection.execute("SELECT format FROM state").fetchone()
    finally:
        _close(connection)
    return None if row is None else int(row[0])


def renew(path: Path, folder_id: str) -> None:
    """Gives a file that nobody has open another folder's id, durably."""
    connection = duckdb.connect(str(path), config=dict(_CONFIG))
    try:
        connection.execute("UPDATE state SET folder_id = ?", [folder_id])
        connection.execute("CHECKPOINT")
    finally:
        _close(connection)


def applied_of(connection: duckdb.DuckDBPyConnection) -> int:
    """The sequence number up to which everything is in here, as this transaction sees it."""
    [(applied,)] = connection.execute("SELECT applied FROM state").fetchall()
    return int(applied)


def _cannot_open(path: Path, error: Exception) -> DataFolderError:
    text = (str(error) or repr(error)).splitlines()[0]
    if isinstance(error, OSError) or "Cannot open file" in text or "No space" in text:
        return DataFolderError(f"{path} cannot be opened: {text}")
    return DamagedData(f"{path} is damaged or not a DuckDB file: {text}")


def _close(connection: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):
        connection.close()
