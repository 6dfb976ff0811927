"""PostgreSQL 15 in two designs: upsert of sums, and COPY of raw records summed when read."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import (
    Connection,
    Server,
    Settled,
    columns_of,
    free_port,
    is_listening,
    package,
    program,
    rows_of,
    unprivileged,
)
from benchmarks.traffic import ExpectedSums

_BIN = "/usr/lib/postgresql/15/bin"
_CONNECTIONS_MAX = 300
_UPSERT = """
INSERT INTO flows (src_app, dest_app, vpc_id, hour, bytes_rx, bytes_tx)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[])
ON CONFLICT (hour, src_app, dest_app, vpc_id) DO UPDATE SET
    bytes_rx = flows.bytes_rx + excluded.bytes_rx, bytes_tx = flows.bytes_tx + excluded.bytes_tx
"""
_COPY = "COPY flows (src_app, dest_app, vpc_id, hour, bytes_rx, bytes_tx) FROM STDIN"
_READ = """
SELECT src_app, dest_app, vpc_id, hour, SUM(bytes_rx)::bigint, SUM(bytes_tx)::bigint FROM flows
WHERE hour = %s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3
"""
_TABLE = """
CREATE TABLE flows (hour int, src_app text COLLATE "C", dest_app text COLLATE "C",
    vpc_id text COLLATE "C", bytes_rx bigint, bytes_tx bigint{key})
"""


class PostgresServer:
    """A cluster of its own, with the settings that Debian ships, but for more connections."""

    def __init__(self) -> None:
        self._server = Server("PostgreSQL")
        self.port = 0

    def check(self) -> str:
        """The version. Raises `Missing`."""
        package("psycopg")
        postgres = program(f"{_BIN}/postgres", "postgres")
        return subprocess.run(
            [postgres, "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()

    def start(self, folder: Path, schema: str = "") -> int:
        """Starts it on a folder, with the schema if the folder is new; returns its process."""
        data = folder / "postgres"
        data.mkdir(parents=True, exist_ok=True)
        as_whom = unprivileged(data)
        self.port = free_port()
        fresh = not (data / "PG_VERSION").exists()
        if fresh:
            subprocess.run(
                [program(f"{_BIN}/initdb", "initdb"), "-D", data, "-A", "trust", "-U", "flowtally"]
                + ["--encoding=UTF8", "--locale=C"],
                check=True,
                capture_output=True,
                **as_whom,  # type: ignore[call-overload]
            )
        command = [program(f"{_BIN}/postgres", "postgres"), "-D", str(data), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        command += ["-c", f"max_connections={_CONNECTIONS_MAX}"]
        pid = self._server.start(
            command, folder / "postgres.log", lambda: _answers(self.port), **as_whom
        )
        if fresh and schema:
            with _connect(self.port) as connection:
                connection.execute(schema)
        return pid

    def stop(self) -> None:
        """Stops it in order; whoever is connected is hung up on."""
        self._server.stop(signal.SIGINT)


class _Postgres:
    """What both designs have in common."""

    in_process = False
    lighter = "no HTTP, no batch_ids"
    durability = "synced (fsync and synchronous_commit on, as shipped)"
    name: str
    about: str
    table: str
    upsert: bool

    def __init__(self) -> None:
        self._server = PostgresServer()

    def check(self) -> str:
        return self._server.check()

    def start(self, folder: Path) -> Sequence[int]:
        pid = self._server.start(folder, self.table)
        (folder / "port").write_text(str(self._server.port))
        return (pid,)

    def stop(self) -> None:
        self._server.stop()

    def connector(self, folder: Path) -> Callable[[], Connection]:
        port = int((folder / "port").read_text())
        return lambda: _PostgresConnection(_connect(port), self.upsert)


class PostgresUpsert(_Postgres):
    """One row a flow, added to in place."""

    name = "postgres-upsert"
    about = "PostgreSQL 15: INSERT ... ON CONFLICT DO UPDATE of a batch's sums (psycopg 3)"
    table = _TABLE.format(key=", PRIMARY KEY (hour, src_app, dest_app, vpc_id)")
    upsert = True


class PostgresCopy(_Postgres):
    """One row a record, summed when read."""

    name = "postgres-copy"
    about = "PostgreSQL 15: COPY of raw records, an index on the hour, SUM on read (psycopg 3)"
    table = _TABLE.format(key="") + "; CREATE INDEX ON flows (hour)"
    upsert = False


def _answers(port: int) -> bool:
    """It listens before it has recovered, and refuses everybody until then."""
    if not is_listening(port):
        return False
    psycopg = package("psycopg")
    try:
        _connect(port).close()
    except psycopg.OperationalError:
        return False
    return True


def _connect(port: int) -> Any:
    return package("psycopg").connect(
        f"host=127.0.0.1 port={port} user=flowtally dbname=postgres", autocommit=True
    )


class _PostgresConnection(Settled):
    def __init__(self, connection: Any, upsert: bool) -> None:
        self._connection = connection
        self._upsert = upsert

    def post(self, body: bytes) -> None:
        if self._upsert:
            self._connection.execute(_UPSERT, columns_of(body))
            return
        with self._connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in rows_of(body):
                copy.write_row(row)

    def read(self, hour: int) -> ExpectedSums:
        rows = self._connection.execute(_READ, [hour]).fetchall()
        return {row[:4]: row[4:] for row in rows}

    def close(self) -> None:
        self._connection.close()
