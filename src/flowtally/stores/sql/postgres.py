"""PostgreSQL behind the sql store: shared by as many services as there are.

Each commit is synced by the server before it returns (`synchronous_commit`). Rows go in by COPY. A
service that dies in a transaction is noticed by the server, which undoes it and lets go of the
lock: by the closed connection, or within half a minute where the whole machine went. Room of
deleted rows is left to autovacuum, as the first migration sets it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from decimal import Decimal
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pyarrow as pa
import pyarrow.csv
from sqlalchemy import Connection, Table, event, literal_column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from flowtally import limits
from flowtally.errors import DataFolderError, NotSupported
from flowtally.model import Backup
from flowtally.stores.sql.address import Address
from flowtally.stores.sql.backend import Backend, Failure, Row
from flowtally.stores.sql.rows import COLUMNS
from flowtally.stores.sql.tables import Digits, tallies

if TYPE_CHECKING:
    import psycopg

_MIGRATIONS_LOCK = 0x464C4F57
"""An advisory lock, "FLOW"."""
_SESSION = {
    "synchronous_commit": "on",
    # The lock is waited for no longer than a sender waits.
    "lock_timeout": f"{limits.SQL_LOCK_WAIT_S}s",
    # A service that is gone without a word must not keep the lock from all others.
    "idle_in_transaction_session_timeout": f"{limits.SQL_IDLE_S}s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_CHANGING = {**_SESSION, "statement_timeout": f"{limits.SQL_STATEMENT_S}s"}
"""Reads may take long: a ledger is counted from all rows, and whoever asks has a deadline."""
_ARRAYS = {int: "bigint", str: "text", bytes: "bytea"}
_CSV = pyarrow.csv.WriteOptions(include_header=False)
_COPY = f"COPY {tallies.name} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT csv)"


class PostgresBackend(Backend):
    """See the module."""

    name = "postgresql"
    others_write = True
    locks_at_begin = False
    place = literal_column("ctid")

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._engines: list[AsyncEngine] = []
        self._connections: WeakSet[psycopg.AsyncConnection] = WeakSet()

    def _engine(self, connections: int, session: dict[str, str]) -> AsyncEngine:
        # The operator's own options come last, and so have the last word.
        options = [f"-c {name}={value}" for name, value in session.items()]
        given = self.address.url.query.get("options", ())
        options += [given] if isinstance(given, str) else given
        engine = create_async_engine(
            self.address.url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=limits.SQL_READ_WAIT_S,
            # Asked before each use whether it is still there: a restart of the server is unseen.
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": limits.SQL_CONNECT_S,
                "client_encoding": "utf8",
                "application_name": "flowtally",
                "options": " ".join(options),
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": limits.SQL_IDLE_S * 1000,
            },
        )
        self._engines.append(engine)

        def on_connect(connection: Any, record: Any) -> None:
            self._connections.add(connection.driver_connection)

        event.listen(engine.sync_engine, "connect", on_connect)
        return engine

    async def open(self, create: bool = True) -> None:
        import psycopg

        self.errors = (*Backend.errors, psycopg.Error)
        self.writing = self._engine(1, _CHANGING).execution_options(
            isolation_level="READ COMMITTED"
        )
        self.reading = self._engine(limits.SQL_READERS, _SESSION).execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self.glancing = self._engine(limits.SQL_GLANCES, _SESSION).execution_options(
            isolation_level="AUTOCOMMIT"
        )
        try:
            async with self.reading.connect() as connection:
                encoding = (await connection.execute(text("SHOW server_encoding"))).scalar_one()
        except (DBAPIError, OSError) as error:
            await self.close()
            raise DataFolderError(
                f"{self.address.shown} cannot be reached: {self.address.told(error)}"
            ) from None
        if encoding != "UTF8":
            await self.close()
            raise DataFolderError(f"{self.address.shown} is encoded in {encoding}, not in UTF8")

    async def close(self) -> None:
        for engine in self._engines:
            await engine.dispose()

    def lock_migrations(self, connection: Connection) -> None:
        # A change of large tables takes its time, and so does waiting for the one who makes it.
        for limit in ("statement_timeout", "lock_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATIONS_LOCK})

    async def insert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Row], on_conflict: str
    ) -> int:
        if not rows:
            return 0
        arrays = ", ".join(f"%s::{_array_of(one.type)}[]" for one in table.columns)
        found = await connection.exec_driver_sql(
            f"INSERT INTO {table.name} SELECT * FROM unnest({arrays}) ON CONFLICT {on_conflict}",
            tuple(list(column) for column in zip(*rows, strict=True)),
        )
        return found.rowcount

    def digits(self, value: int) -> Decimal:
        return Decimal(value)

    async def insert_tallies(self, connection: AsyncConnection, rows: pa.Table) -> None:
        if not len(rows):
            return
        written = io.BytesIO()
        pyarrow.csv.write_csv(rows, written, _CSV)
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        async with raw.driver_connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            await copy.write(written.getbuffer())

    def failure_of(self, error: Exception) -> Failure:
        return Failure(f"the database failed: {self.address.told(error)}", False)

    async def fold_log(self) -> None:
        """The server's concern, as ..."""

    async def give_space_back(self) -> None:
        """... this is autovacuum's."""

    def backed_up(self, now_ms: int) -> AbstractAsyncContextManager[Backup]:
        del now_ms
        raise NotSupported(
            "PostgreSQL has its own tools for that: pg_dump, or an archive of its log for any point"
            " in time (docs/guides/backup.md)"
        )

    def cut(self) -> None:
        for connection in self._connections:
            if not connection.closed:
                # The driver would wait for the server even to cancel what it waits for.
                with socket(fileno=os.dup(connection.fileno())) as cut, suppress(OSError):
                    cut.shutdown(SHUT_RDWR)


def _array_of(kind: TypeEngine[Any]) -> str:
    return "numeric" if isinstance(kind, Digits) else _ARRAYS[kind.python_type]
