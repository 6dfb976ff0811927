"""The power goes while DuckDB's log is written: any pages of what was not synced may be there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.errors import DamagedData
from flowtally.stores.duckdb.database import Database
from flowtally.stores.folder import DataFolder

PAGE = 4096


def opened(folder: Path, applied_min: int = 0) -> Database:
    database = Database(DataFolder(folder))
    database.open("folder", applied_min)
    return database


def apply(database: Database, sequence: int) -> None:
    """A transaction of several pages, which takes the database to this sequence number."""
    writer = database.writer
    writer.begin()
    writer.execute(
        f"INSERT INTO recent SELECT {sequence}, i, 'a' || i, 'b', 'v', i, i, 1 FROM range(400) r(i)"
    )
    writer.execute("UPDATE state SET applied = ?", [sequence])
    writer.commit()


def applied_in(database: Database) -> list[tuple[int, int]]:
    """Each sequence number that rows are there of, with their number."""
    return database.writer.execute(  # type: ignore[no-any-return]
        "SELECT arrival_hour, COUNT(*) FROM recent GROUP BY ALL ORDER BY 1"
    ).fetchall()


class Files:
    """Of a service with two transactions in its log, the first of them synced."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        database = opened(folder)
        database.settle()
        log = folder / "sums.duckdb.wal"
        apply(database, 1)
        self.synced = log.read_bytes()
        apply(database, 2)
        self.written = log.read_bytes()
        self.sums = (folder / "sums.duckdb").read_bytes()
        database.close()

    def leave(self, folder: Path, log: bytes | bytearray) -> Path:
        """Puts them into a folder, with this log. Returns where the log is."""
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        (folder / "sums.duckdb").write_bytes(self.sums)
        place = folder / "sums.duckdb.wal"
        place.write_bytes(log)
        return place


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("log") / "data")


@given(kept=st.sampled_from([0.2, 0.5, 0.9]), seed=st.integers(0, 2**32))
def test_what_was_not_synced_counts_wholly_or_not_at_all(
    files: Files, tmp_path_factory: pytest.TempPathFactory, kept: float, seed: int
) -> None:
    draw = random.Random(seed)
    log = bytearray(files.synced)
    for at in range(len(log) // PAGE * PAGE, len(files.written), PAGE):
        page = files.written[at : at + PAGE]
        if draw.random() < kept:
            log.extend(bytes(max(0, at + len(page) - len(log))))
            log[at : at + len(page)] = page
    whole = bytes(log) == files.written
    folder = tmp_path_factory.mktemp("torn")
    place = files.leave(folder, log)
    database = opened(folder, applied_min=1)
    assert applied_in(database) == ([(1, 400), (2, 400)] if whole else [(1, 400)])
    if not whole:
        apply(database, 2)
    database.settle()
    database.close()
    assert sorted(folder.glob(place.name + "*")) == []
    database = opened(folder, applied_min=2)
    assert applied_in(database) == [(1, 400), (2, 400)]
    database.close()


def test_what_the_journal_let_go_of_may_not_be_cut_off(files: Files, tmp_path: Path) -> None:
    """A log that is damaged in what was synced is named, and left as it is."""
    log = bytearray(files.written)
    log[len(files.synced) + PAGE] ^= 1
    place = files.leave(tmp_path, log)
    with pytest.raises(DamagedData, match=r"ends at batch 1, but the journal.* up to 2"):
        opened(tmp_path, applied_min=2)
    assert place.read_bytes() == log
    assert sorted(tmp_path.glob(place.name + "*")) == [place]
    database = opened(tmp_path, applied_min=1)
    assert applied_in(database) == [(1, 400)]
    database.close()


def test_a_start_that_was_killed_after_the_cut_loses_nothing(files: Files, tmp_path: Path) -> None:
    """The whole log is still beside the one that was cut, and is what a person should look at."""
    log = bytearray(files.written)
    log[len(files.synced) + PAGE] ^= 1
    place = files.leave(tmp_path, files.synced)
    whole = tmp_path / "sums.duckdb.wal.whole"
    whole.write_bytes(log)
    with pytest.raises(DamagedData, match="has lost data"):
        opened(tmp_path, applied_min=2)
    assert place.read_bytes() == log
    assert not whole.exists()
