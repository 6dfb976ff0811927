"""DuckDB's file while it is held: by itself it stays what it was, whatever is committed meanwhile.

It is copied in pieces, and between every two of them come large transactions: appends that DuckDB
writes into the file ahead of their commit, also over blocks that were free, and compactions that
leave none of the rows where they were.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from flowtally.stores.duckdb.database import SUMS, TABLES, Database
from flowtally.stores.folder import DataFolder

_ROWS = 150_000
"""More than a row group: what DuckDB appends by whole ones is written at once."""
_PIECES = 6


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """With rows in both tables, and free blocks between them: a checkpoint after each change."""
    folder = DataFolder(tmp_path / "data")
    folder.open()
    database = Database(folder)
    database.open("an-id")
    for change in (_append, _append, _compact, _append):
        change(database, 1)
        database.settle()
    yield database
    database.close()
    folder.close()


def _append(database: Database, seed: int) -> None:
    writer = database.writer
    writer.begin()
    writer.execute(
        f"INSERT INTO recent SELECT 1, {seed}, 'src-' || hash(i + {seed}), 'dest-' || hash(i), 'v',"
        f" hash(i) % 1000, i, 1 FROM range({_ROWS}) AS rows(i)"
    )
    writer.execute("UPDATE state SET applied = applied + 1")
    writer.commit()


def _compact(database: Database, _: int) -> None:
    writer = database.writer
    writer.begin()
    writer.execute(f"CREATE TEMP TABLE summed AS SELECT * FROM {SUMS} ORDER BY hash(src_app)")
    writer.execute("DELETE FROM base")
    writer.execute("DELETE FROM recent")
    writer.execute("INSERT INTO base SELECT * FROM summed")
    writer.commit()
    writer.execute("DROP TABLE summed")


def _content(connection: duckdb.DuckDBPyConnection) -> list[object]:
    """All of what is in it: a copy that has lost or mixed up anything has another."""
    return [
        connection.sql(f"SELECT COUNT(*), BIT_XOR(HASH(COLUMNS(*))) FROM {table}").fetchall()
        for table in TABLES
    ]


def _copied(database: Database, size_bytes: int, between: Callable[[int], None]) -> Path:
    copy = database.path.with_name("copy.duckdb")
    piece_bytes = size_bytes // _PIECES + 1
    with database.path.open("rb") as source, copy.open("wb") as target:
        for piece in range(_PIECES):
            target.write(source.read(min(piece_bytes, size_bytes - target.tell())))
            between(piece)
    assert copy.stat().st_size == size_bytes
    return copy


@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_what_it_was_whatever_is_committed(database: Database, seed: int) -> None:
    draw = random.Random(seed)
    size_bytes = database.hold()
    before = _content(database.writer)
    whole = database.path.read_bytes()

    def change(piece: int) -> None:
        for work in draw.choices((_append, _compact), k=2):
            work(database, piece)
        assert database.is_held and database.log_bytes() > 0

    copy = _copied(database, size_bytes, change)
    database.release()
    assert database.path.read_bytes()[:size_bytes] != whole, "nothing was written ahead"
    assert _content(database.writer) != before
    with duckdb.connect(str(copy), read_only=True) as opened:
        assert _content(opened) == before
    database.settle()
    assert not database.is_held and database.log_bytes() == 0


def test_a_checkpoint_in_the_middle_would_be_seen(database: Database) -> None:
    """That the test above can fail: without the hold the copy is another, or none at all."""
    database.settle()
    before = _content(database.writer)

    def change(piece: int) -> None:
        (_append, _compact)[piece % 2](database, piece)
        database.settle()

    copy = _copied(database, database.path.stat().st_size, change)
    try:
        with duckdb.connect(str(copy), read_only=True) as opened:
            found = _content(opened)
    except duckdb.Error:
        return
    assert found != before
