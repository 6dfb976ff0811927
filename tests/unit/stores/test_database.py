"""DuckDB's file, beside readers that never pause."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import duckdb

from flowtally.stores.duckdb.database import Database
from flowtally.stores.duckdb.reads import snapshot
from flowtally.stores.folder import DataFolder


def test_a_checkpoint_is_made_however_many_read(tmp_path: Path) -> None:
    """A reader may still be tidying up the writer's last transaction, which counts as active."""
    database = Database(DataFolder(tmp_path))
    database.open("folder")
    done = threading.Event()
    reads = [0]

    def read() -> None:
        while not done.is_set():
            with snapshot(database, []) as now:
                now.sums(1)
            reads[0] += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 21):
            database.writer.begin()
            database.writer.execute("INSERT INTO recent VALUES (1, 1, 'a', 'b', 'v', 1, 2, 1)")
            database.writer.execute("UPDATE state SET applied = ?", [number])
            database.writer.commit()
            database.settle()
            assert database.log_bytes() == 0
    finally:
        done.set()
        for reader in readers:
            reader.join()
        database.close()
    assert reads[0] > 0


def test_it_closes_however_many_read(tmp_path: Path) -> None:
    """After a failure it is closed and opened anew: readers that overlap must not prevent it."""
    database = Database(DataFolder(tmp_path))
    database.open("folder")
    done = threading.Event()
    began = threading.Barrier(4)

    def read() -> None:
        began.wait(60)
        while not done.is_set():
            with suppress(duckdb.ConnectionException), database.reading() as cursor:
                cursor.execute("SELECT COUNT(*) FROM range(100000)").fetchall()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    began.wait(60)
    closing = threading.Thread(target=database.close)
    closing.start()
    closing.join(30)
    closed = not closing.is_alive()
    done.set()
    for thread in (*readers, closing):
        thread.join()
    assert closed
