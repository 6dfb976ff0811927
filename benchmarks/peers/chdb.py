"""ClickHouse, as chDB: the engine in the client's process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Connection, Settled, package
from benchmarks.traffic import ExpectedSums

_TABLE = """
CREATE TABLE IF NOT EXISTS flows (src_app String, dest_app String, vpc_id String, hour UInt32,
    bytes_rx UInt64, bytes_tx UInt64)
ENGINE = SummingMergeTree ORDER BY (hour, src_app, dest_app, vpc_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


class ChDB:
    """Bodies inserted as they are: ClickHouse parses JSON itself, and merges in the background."""

    name = "chdb"
    about = "ClickHouse as chDB in process: JSON inserted as it comes, SummingMergeTree"
    durability = "synced (fsync_after_insert, fsync_part_directory)"
    lighter = "no HTTP, no batch_ids"
    in_process = True

    def check(self) -> str:
        chdb = package("chdb")
        return f"chDB {chdb.__version__} (ClickHouse {chdb.engine_version})"

    def start(self, folder: Path) -> Sequence[int]:
        """There is no server."""
        folder.mkdir(parents=True, exist_ok=True)
        return ()

    def stop(self) -> None:
        """There is none to stop either."""

    def connector(self, folder: Path) -> Callable[[], Connection]:
        session = package("chdb.session").Session(str(folder / "chdb"))
        session.query(_TABLE)
        lock = threading.Lock()
        return lambda: _ChDBConnection(session, lock)


class _ChDBConnection(Settled):
    def __init__(self, session: Any, lock: threading.Lock) -> None:
        self._session = session
        self._lock = lock

    def post(self, body: bytes) -> None:
        # One session is one connection: chDB runs its queries one after the other.
        with self._lock:
            self._session.query(f"INSERT INTO flows FORMAT JSONEachRow {body.decode()}")

    def read(self, hour: int) -> ExpectedSums:
        with self._lock:
            answer = self._session.query(
                "SELECT src_app, dest_app, vpc_id, hour, SUM(bytes_rx), SUM(bytes_tx) FROM flows"
                f" WHERE hour = {hour:d} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3",
                "JSONCompactEachRow",
            )
        rows = [json.loads(line) for line in str(answer).splitlines()]
        return {(*row[:3], int(row[3])): (int(row[4]), int(row[5])) for row in rows}

    def close(self) -> None:
        """The session is closed with the process."""
