"""DuckDB and SQLite in the client's own process: no server, no network, one writer at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from benchmarks.peers.peer import Connection, Settled, sums_of
from benchmarks.traffic import ExpectedSums

_APPEND = """
INSERT INTO flows SELECT src_app, dest_app, vpc_id, hour, SUM(bytes_rx), SUM(bytes_tx)
FROM (SELECT unnest(from_json_strict(?, '[{"src_app": "VARCHAR", "dest_app": "VARCHAR",
    "vpc_id": "VARCHAR", "hour": "INTEGER", "bytes_rx": "BIGINT", "bytes_tx": "BIGINT"}]'),
    recursive := true))
GROUP BY ALL
"""


class _Embedded:
    """What both have in common: nothing to start, and threads that share one database."""

    lighter = "no HTTP, no batch_ids"
    in_process = True

    def start(self, folder: Path) -> Sequence[int]:
        """There is no server."""
        folder.mkdir(parents=True, exist_ok=True)
        return ()

    def stop(self) -> None:
        """There is none to stop either."""


class DuckDB(_Embedded):
    """A batch's sums appended, summed again when read. It reads the JSON itself: twice as fast, at
    10,000 records, as making columns in Python."""

    name = "duckdb"
    about = "DuckDB in process: it reads a batch's JSON itself and appends its sums, SUM on read"
    durability = "synced"

    def check(self) -> str:
        return f"DuckDB {duckdb.__version__}"

    def connector(self, folder: Path) -> Callable[[], Connection]:
        database = duckdb.connect(str(folder / "flows.duckdb"))
        database.execute(
            "CREATE TABLE IF NOT EXISTS flows (src_app VARCHAR, dest_app VARCHAR, vpc_id VARCHAR,"
            " hour INTEGER, bytes_rx BIGINT, bytes_tx BIGINT)"
        )
        lock = threading.Lock()
        return lambda: _DuckDBConnection(database, lock)


class _DuckDBConnection(Settled):
    def __init__(self, database: duckdb.DuckDBPyConnection, lock: threading.Lock) -> None:
        self._database = database
        self._lock = lock

    def post(self, body: bytes) -> None:
        # Appends from several connections at once conflict when they commit.
        with self._lock:
            self._database.execute(_APPEND, [body.decode()]).fetchall()

    def read(self, hour: int) -> ExpectedSums:
        with self._lock:
            rows = self._database.execute(
                "SELECT src_app, dest_app, vpc_id, hour, SUM(bytes_rx), SUM(bytes_tx) FROM flows"
                " WHERE hour = ? GROUP BY ALL ORDER BY ALL",
                [hour],
            ).fetchall()
        return {row[:4]: row[4:] for row in rows}

    def close(self) -> None:
        """The database is closed with the process."""


class SQLite(_Embedded):
    """One row a flow, added to in place."""

    name = "sqlite"
    about = "SQLite in process: upsert of pre-summed rows, WAL"
    durability = "synced (synchronous=FULL)"

    def check(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def connector(self, folder: Path) -> Callable[[], Connection]:
        database = sqlite3.connect(
            folder / "flows.sqlite", isolation_level=None, check_same_thread=False
        )
        database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE IF NOT EXISTS flows (hour INTEGER, src_app TEXT, dest_app TEXT,"
            " vpc_id TEXT, bytes_rx INTEGER, bytes_tx INTEGER,"
            " PRIMARY KEY (hour, src_app, dest_app, vpc_id)) WITHOUT ROWID"
        )
        lock = threading.Lock()
        return lambda: _SQLiteConnection(database, lock)


class _SQLiteConnection(Settled):
    def __init__(self, database: sqlite3.Connection, lock: threading.Lock) -> None:
        self._database = database
        self._lock = lock

    def post(self, body: bytes) -> None:
        rows = [(*key, *sums) for key, sums in sums_of(body).items()]
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT INTO flows (src_app, dest_app, vpc_id, hour, bytes_rx, bytes_tx)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " bytes_rx = bytes_rx + excluded.bytes_rx,"
                " bytes_tx = bytes_tx + excluded.bytes_tx",
                rows,
            )
            self._database.execute("COMMIT")

    def read(self, hour: int) -> ExpectedSums:
        with self._lock:
            rows = self._database.execute(
                "SELECT src_app, dest_app, vpc_id, hour, bytes_rx, bytes_tx FROM flows"
                " WHERE hour = ? ORDER BY src_app, dest_app, vpc_id",
                (hour,),
            ).fetchall()
        return {row[:4]: row[4:] for row in rows}

    def close(self) -> None:
        """The database is closed with the process."""
