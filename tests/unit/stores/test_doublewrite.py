"""A checkpoint of DuckDB's that is cut short at any byte of what it writes in place."""

from __future__ import annotations

import struct
from pathlib import Path

import duckdb
import pytest

from flowtally.errors import DamagedData
from flowtally.stores.duckdb.database import Database
from flowtally.stores.folder import DataFolder

HEADERS = slice(4096, 3 * 4096)
BLOCK = 262_144
TORN = 8
"""Bytes written after which the block is sure to be torn: its checksum, and nothing else of it."""


def hours(database: Database) -> list[int]:
    found = database.writer.execute("SELECT hour FROM recent ORDER BY hour").fetchall()
    return [hour for (hour,) in found]


def opened(folder: Path) -> Database:
    database = Database(DataFolder(folder))
    database.open("folder")
    return database


def add(database: Database, hour: int) -> None:
    database.writer.execute(f"INSERT INTO recent VALUES (1, {hour}, 'a', 'b', 'v', 1, 2, 1)")


def metadata_place(sums: bytes) -> int:
    """Where the block begins that the newest checkpoint's header points into."""
    found = [struct.unpack_from("<8xQQ", sums, at) for at in (4096, 8192)]
    _, pointer = max(found)
    return 3 * 4096 + BLOCK * int(pointer & (2**56 - 1))


class Cut:
    """The files of a service that was killed while a checkpoint was on its way to its header."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sums = folder / "sums.duckdb"
        database = opened(folder)
        for hour in range(3):
            add(database, hour)
            database.settle()
        self.before = self.sums.read_bytes()
        add(database, 3)
        self.log = Path(f"{self.sums}.wal").read_bytes()
        database.settle()
        self.after = self.sums.read_bytes()
        database.close()
        self.place = metadata_place(self.before)
        assert metadata_place(self.after) == self.place

    def leave(self, written: int) -> None:
        """As it is after `written` bytes of the block that is written again in its place."""
        sums = bytearray(self.after)
        sums[HEADERS] = self.before[HEADERS]
        rest = slice(self.place + written, self.place + BLOCK)
        sums[rest] = self.before[rest]
        self.sums.write_bytes(sums)
        Path(f"{self.sums}.wal").write_bytes(self.log)


@pytest.fixture
def cut(tmp_path: Path) -> Cut:
    return Cut(tmp_path)


@pytest.mark.parametrize("written", [0, 8, 4096, 5000, BLOCK // 2, BLOCK - 4096, BLOCK])
def test_a_checkpoint_that_was_cut_short_is_undone(cut: Cut, written: int) -> None:
    cut.leave(written)
    database = opened(cut.folder)
    assert hours(database) == [0, 1, 2, 3]
    assert database.check() == []
    add(database, 4)
    database.settle()
    database.close()
    database = opened(cut.folder)
    assert hours(database) == [0, 1, 2, 3, 4]
    database.close()


def test_without_the_copy_the_file_is_refused(cut: Cut) -> None:
    """So the one above can fail; should DuckDB stop writing in place, this one will say so."""
    cut.leave(TORN)
    Path(f"{cut.sums}.blocks").unlink()
    with pytest.raises(DamagedData, match="checksum"):
        opened(cut.folder)


def test_a_block_that_is_damaged_otherwise_is_named(cut: Cut) -> None:
    """After a checkpoint that came to its end the copy is of the one before."""
    sums = bytearray(cut.after)
    sums[cut.place + 100] ^= 1
    cut.sums.write_bytes(sums)
    with pytest.raises(DamagedData, match="checksum"):
        opened(cut.folder)
    assert cut.sums.read_bytes() == sums


@pytest.mark.parametrize("kept", [0, 40, 8192, -1])
def test_a_copy_that_is_damaged_itself_is_not_used(cut: Cut, kept: int) -> None:
    cut.leave(TORN)
    copy = Path(f"{cut.sums}.blocks")
    copy.write_bytes(copy.read_bytes()[:kept])
    with pytest.raises(DamagedData, match="checksum"):
        opened(cut.folder)


def test_the_copy_of_another_file_is_not_used(cut: Cut, tmp_path: Path) -> None:
    """Two files can have equal checkpoints, byte for byte; their main headers differ."""
    other = tmp_path / "other"
    other.mkdir()
    theirs = Cut(other)
    cut.leave(TORN)
    theirs.leave(0)
    Path(f"{cut.sums}.blocks").write_bytes(Path(f"{theirs.sums}.blocks").read_bytes())
    with pytest.raises(DamagedData, match="checksum"):
        opened(cut.folder)


def test_a_file_that_is_cut_off_is_named(cut: Cut) -> None:
    cut.sums.write_bytes(cut.after[:5000])
    with pytest.raises(DamagedData):
        opened(cut.folder)


def test_nothing_but_a_guarded_checkpoint_writes_metadata(tmp_path: Path) -> None:
    """Neither a close nor an opening with a log."""
    database = opened(tmp_path)
    add(database, 1)
    database.settle()
    settled = (tmp_path / "sums.duckdb").read_bytes()
    for hour in (2, 3):
        add(database, hour)
        database.close()
        database = opened(tmp_path)
        assert (tmp_path / "sums.duckdb").read_bytes() == settled
    assert hours(database) == [1, 2, 3]
    database.close()


def test_the_copy_holds_what_the_header_points_to(cut: Cut) -> None:
    """The pointers of the last header but one: to the tables, and to the list of free blocks."""
    _, *pointers = max(struct.unpack_from("<8xQQQ", cut.before, at) for at in (4096, 8192))
    copy = Path(f"{cut.sums}.blocks").read_bytes()
    (count,) = struct.unpack_from("<Q", copy, 8192)
    ids = struct.unpack_from(f"<{count}Q", copy, 8200)
    assert {pointer & (2**56 - 1) for pointer in pointers} <= set(ids)


def test_a_folder_that_is_new_has_nothing_to_put_back(tmp_path: Path) -> None:
    (tmp_path / "sums.duckdb.blocks.new").write_bytes(b"half")
    database = opened(tmp_path)
    assert not (tmp_path / "sums.duckdb.blocks.new").exists()
    assert hours(database) == []
    database.close()
    with pytest.raises(duckdb.ConnectionException):
        database.settle()
