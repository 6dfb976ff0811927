"""SQLite behind the sql store: one file, of one process, written by one connection at a time.

Everything that decides how durable a commit is stands in `_on_connect`: WAL, synchronous=FULL. The
folder of the file is taken by the same lock as any data folder, so what this process knows of its
revisions is true. The log is brought into the database in the background; after a failed sync it is
never synced again, but written anew at the next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Table, event, literal_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from flowtally import limits
from flowtally.errors import DamagedData, DataFolderError
from flowtally.ingest.journal_schema import log_kept
from flowtally.ingest.journal_snapshot import copy_database, database_moment
from flowtally.ingest.wal_scan import damage_in_log, log_of
from flowtally.model import Backup, BackupPoint
from flowtally.stores.folder import DataFolder
from flowtally.stores.sql.address import Address
from flowtally.stores.sql.backend import Backend, Failure, Row
from flowtally.stores.sql.migrate import refuse_newer
from flowtally.stores.sql.rows import COLUMNS, NAMES
from flowtally.stores.sql.sqlite_files import FILE, point_in
from flowtally.stores.sql.tables import tallies
from flowtally.stores.staging import GoOn, require_room, staged

APPLICATION_ID = 0x464C5351
"""Written by the first migration."""
_FREE_PAGES_KEPT = 2_000
_CAN_RECOVER = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
_PASSES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteBackend(Backend):
    """See the module."""

    name = "sqlite"
    others_write = False
    locks_at_begin = True
    place = literal_column("rowid")
    errors = (*Backend.errors, sqlite3.Error)

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.path = address.path
        self.folder = DataFolder(self.path.parent, "sql")
        self._failed_for_good = False
        self._engines: list[AsyncEngine] = []

    async def open(self, create: bool = True) -> None:
        if not create and not self.path.exists():
            raise DataFolderError(f"{self.path} is not there")
        self.folder.open(create)
        try:
            self._look_at_file()
            self.writing = self._engine("BEGIN IMMEDIATE", 1)
            self.reading = self._engine("BEGIN", limits.SQL_READERS)
            self.glancing = self._engine("BEGIN", limits.SQL_GLANCES)
            await self._begin()
        except UnicodeDecodeError as error:
            # SQLite quotes its damaged schema in an error text that Python cannot decode.
            await self.close()
            raise DamagedData(f"{self.path} is damaged: {error}") from error
        except (DBAPIError, sqlite3.Error) as error:
            await self.close()
            cause = getattr(error, "orig", error)
            if _code(cause) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise DamagedData(f"{self.path} is damaged: {cause}") from error
            raise DataFolderError(f"{self.path} cannot be opened: {cause}") from error
        except OSError as error:
            await self.close()
            raise DataFolderError(f"{self.path} cannot be used: {error.strerror}") from error
        except BaseException:
            await self.close()
            raise

    def _look_at_file(self) -> None:
        """Before anything is opened for writing, which would fold the log and with it evidence."""
        if self.path.exists() and self.path.stat().st_size:
            fault = damage_in_log(self.path)
            if fault is not None:
                raise DamagedData(f"{log_of(self.path)} is damaged: {fault}")
            refuse_newer(self.path)

    async def _begin(self) -> None:
        async with self.writing.connect() as connection:
            tables = (await connection.exec_driver_sql("SELECT COUNT(*) FROM sqlite_schema")).one()
            owner = (await connection.exec_driver_sql("PRAGMA application_id")).one()
            if tables[0] and owner[0] != APPLICATION_ID:
                raise DataFolderError(f"{self.path} is another program's database")
        # This also makes durable what a failed sync of the last run may have left in memory only:
        # all of the log is written and synced anew, and no old frame can be met again.
        await self._script(self.writing, "PRAGMA wal_checkpoint(TRUNCATE)")
        self.folder.sync()

    def _engine(self, begin: str, connections: int) -> AsyncEngine:
        engine = create_async_engine(
            self.address.url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=limits.SQL_READ_WAIT_S,
            hide_parameters=True,
            connect_args={"timeout": limits.SQL_LOCK_WAIT_S},
        )
        self._engines.append(engine)
        event.listen(engine.sync_engine, "connect", _on_connect)

        def on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        event.listen(engine.sync_engine, "begin", on_begin)
        return engine

    async def close(self) -> None:
        with log_kept(self.path) if self._failed_for_good else nullcontext():
            for engine in self._engines:
                await engine.dispose()
        self.folder.close()

    def announce(self, url: str) -> None:
        self.folder.sign(url)

    def lock_migrations(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE was that."""

    async def insert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Row], on_conflict: str
    ) -> int:
        columns = list(zip(*rows, strict=True))
        end = f" ON CONFLICT {on_conflict} RETURNING 1"
        return sum(
            [len(await _run(connection, *one)) for one in _insertions(table.name, columns, end)]
        )

    def digits(self, value: int) -> str:
        return str(value)

    async def insert_tallies(self, connection: AsyncConnection, rows: pa.Table) -> None:
        columns = [_values(rows, name) for name in COLUMNS]
        for one in _insertions(tallies.name, columns):
            await _run(connection, *one)

    def failure_of(self, error: Exception) -> Failure:
        cause = getattr(error, "orig", None) or error
        if not isinstance(cause, sqlite3.Error):
            return Failure(f"the database cannot be used: {self.address.told(error)}", False)
        code, name = _code(cause), getattr(cause, "sqlite_errorname", "")
        if code in _CAN_RECOVER:
            return Failure(
                f"the disk takes no more data ({name}); writing resumes when it does", False
            )
        if code & 0xFF in _PASSES:
            return Failure(f"another program has {self.path.name} locked ({name})", False)
        self._failed_for_good = True
        return Failure(
            f"the database failed ({name}: {cause}); nothing is accepted until the cause is mended"
            " and the service is started again",
            True,
        )

    async def fold_log(self) -> None:
        if self.log_bytes() > limits.WAL_CHECKPOINT_BYTES:
            await self._script(self.glancing, "PRAGMA wal_checkpoint(PASSIVE)")

    async def give_space_back(self) -> None:
        log_bytes = self.log_bytes()
        if log_bytes > limits.WAL_CHECKPOINT_BYTES:
            # Folded a moment ago, so little is left to copy; whether a reader is still in it is
            # asked, and as a rule not waited for.
            wait_s = limits.SQL_LOCK_WAIT_S if log_bytes > limits.SQL_LOG_BYTES_MAX else 0
            await self._script(
                self.writing,
                f"PRAGMA busy_timeout = {wait_s * 1000}; PRAGMA wal_checkpoint(TRUNCATE);"
                f" PRAGMA busy_timeout = {limits.SQL_LOCK_WAIT_S * 1000}",
            )
        async with self.glancing.connect() as connection:
            free = (await connection.exec_driver_sql("PRAGMA freelist_count")).scalar_one()
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        # Freed pages are used again by the next commits: to give all of them back at once would
        # only make the file breathe.
        if free > max(_FREE_PAGES_KEPT, pages // 4):
            await self._script(self.writing, f"PRAGMA incremental_vacuum({_FREE_PAGES_KEPT})")

    def backed_up(self, now_ms: int) -> AbstractAsyncContextManager[Backup]:
        def copy(staging: Path, go_on: GoOn) -> BackupPoint:
            require_room(staging, self.path.stat().st_size + self.log_bytes())
            with database_moment(self.path) as reader:
                point = point_in(reader, now_ms)
                copy_database(reader, staging / FILE, go_on)
            return point

        return staged(self.folder.staging, copy)

    def cut(self) -> None:
        """There is no server."""

    async def _script(self, engine: AsyncEngine, statement: str) -> None:
        """Runs a statement outside of any transaction, and to its end: an `execute` would step
        once, and a vacuum would free one page."""
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            assert raw.driver_connection is not None
            await raw.driver_connection.executescript(statement)

    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        wal = log_of(self.path)
        return wal.stat().st_size if wal.exists() else 0

    def room(self) -> int:
        return self.folder.free_bytes()

    def facts(self) -> dict[str, int | float | str | bool | None]:
        return {"log_bytes": self.log_bytes()}

    async def check(self) -> list[str]:
        async with self.reading.connect() as connection:
            rows = (await connection.exec_driver_sql("PRAGMA integrity_check")).all()
        return [] if [tuple(row) for row in rows] == [("ok",)] else [str(row[0]) for row in rows]


def _on_connect(connection: Any, record: Any) -> None:
    # Transactions are begun by us, and by nobody else.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_count")
    if cursor.fetchone() == (0,):
        # Lets the space of deleted rows be given back bit by bit; counts before the first table.
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for setting in (
        "journal_mode = WAL",
        # Each commit is synced before it returns. NORMAL would sync at checkpoints only.
        "synchronous = FULL",
        # Checkpoints are made in the background: in a commit they would delay its answers.
        "wal_autocheckpoint = 0",
        # What a read sorts beyond that goes to a temporary file.
        "cache_size = -32768",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _code(error: BaseException | None) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)


async def _run(connection: AsyncConnection, statement: str, values: Sequence[Any]) -> Sequence[Any]:
    """Runs a statement in one turn of the driver's thread, where SQLAlchemy's cursors take four."""
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None
    rows: Sequence[Any] = await raw.driver_connection.execute_fetchall(statement, values)
    return rows


def _insertions(
    table: str, columns: Sequence[Sequence[Any]], end: str = ""
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements for many rows, with their values. Each has as many rows as the next power of two,
    the last of them empty: so SQLite has all that there are prepared."""
    width = len(columns)
    count = len(columns[0]) if columns else 0
    for at in range(0, count, limits.SQL_STATEMENT_ROWS_MAX):
        some = [column[at : at + limits.SQL_STATEMENT_ROWS_MAX] for column in columns]
        filled = 1 << (len(some[0]) - 1).bit_length()
        nothing = (None,) * (width * (filled - len(some[0])))
        values = (*chain.from_iterable(zip(*some, strict=True)), *nothing)
        yield _insertion(table, width, filled) + end, values


@lru_cache
def _insertion(table: str, width: int, rows: int) -> str:
    """One statement for many rows: at each statement the thread lets go of the interpreter's lock,
    and waits to have it back."""
    row = f"({', '.join('?' * width)})"
    return (
        f"INSERT INTO {table} SELECT * FROM (VALUES {', '.join([row] * rows)})"
        " WHERE column1 IS NOT NULL"
    )


def _values(table: pa.Table, name: str) -> list[Any]:
    """A column as Python's values; of the names, each distinct one is made once."""
    column = table.column(name)
    if name not in NAMES:
        found: list[Any] = []
        for chunk in column.chunks:
            values = memoryview(chunk.buffers()[1]).cast("q")
            found += values[chunk.offset : chunk.offset + len(chunk)].tolist()
        return found
    encoded = column.combine_chunks().dictionary_encode()
    return list(map(encoded.dictionary.to_pylist().__getitem__, encoded.indices.to_pylist()))
