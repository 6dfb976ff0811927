"""What is DuckDB's alone: compaction, checkpoint, reads that do not wait, and what a start refuses.

The contract of a store is tested in `tests/conformance/`.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from flowtally import limits
from flowtally.clock import ManualClock
from flowtally.errors import DamagedData, DataFolderError, FolderInUse, NotAccepting
from flowtally.ingest import journal_snapshot
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_rows import AcceptedLine, read_ledger
from flowtally.model import Batch, Tally
from flowtally.stores.duckdb import compaction
from flowtally.stores.duckdb.store import DuckdbSettings, DuckdbStore
from flowtally.stores.duckdb.verify import verify_folder

HOUR_MS = 3_600_000


def batch(number: int) -> Batch:
    rows = {
        ("a", "b", "v", 1): [2**53 - 1, number, 1],
        (f"app-{number % 7}", "b", "v", 2): [number, 1, 1],
    }
    return Batch(f"key-{number}", True, b"body", Tally(rows), 2)


async def rows(store: DuckdbStore, hour: int) -> dict[tuple[str, str, str], tuple[int, int]]:
    table = (await store.sums(hour)).table
    return {
        (row["src_app"], row["dest_app"], row["vpc_id"]): (
            int(row["bytes_rx"]),
            int(row["bytes_tx"]),
        )
        for row in table.to_pylist()
    }


def expected(numbers: range, hour: int) -> dict[tuple[str, str, str], tuple[int, int]]:
    if hour == 1:
        return {("a", "b", "v"): ((2**53 - 1) * len(numbers), sum(numbers))}
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for number in numbers:
        key = (f"app-{number % 7}", "b", "v")
        rx, tx = found.get(key, (0, 0))
        found[key] = (rx + number, tx + 1)
    return found


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def test_compaction_changes_no_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "ROWS_MIN", 10)
    clock = ManualClock()

    async def story() -> None:
        store = DuckdbStore(tmp_path, clock)
        await store.start()
        for number in range(40):
            await store.write([batch(number)])
            if number == 20:
                clock.advance_ms(HOUR_MS)
            if number % 10 == 0:
                assert await rows(store, 1) == expected(range(number + 1), 1)
        assert await rows(store, 1) == expected(range(40), 1)
        assert await rows(store, 2) == expected(range(40), 2)
        assert (await store.ledger()).balances
        assert store.applier.compactions > 0
        await store.close()

    in_loop(story)


def test_a_read_that_cannot_wait_adds_what_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The applier is held inside a transaction; reads go on and miss nothing."""
    monkeypatch.setattr(limits, "READ_BARRIER_S", 0.01)
    clock = ManualClock()

    async def story() -> None:
        release = threading.Event()
        held = threading.Event()

        def hold(name: str) -> None:
            if name == "apply.read" and not release.is_set():
                held.set()
                release.wait(60)

        store = DuckdbStore(tmp_path, clock, on_step=hold)
        await store.start()
        await store.write([batch(number) for number in range(5)])
        assert await rows(store, 1) == expected(range(5), 1)
        assert held.wait(60)
        await store.write([batch(number) for number in range(5, 9)])
        assert await rows(store, 2) == expected(range(9), 2)
        assert (await store.sums(2)).revision == await store.revision(2)
        assert [line.records for line in await store.hours()] == [9, 9]
        release.set()
        await store.applier.wait_applied(9, 60)
        assert await rows(store, 2) == expected(range(9), 2)
        await store.close()

    in_loop(story)


def test_no_bound_on_what_is_pending_cuts_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One group may pass the bound by far: it is one for admission, not for what is read."""
    monkeypatch.setattr(limits, "READ_BARRIER_S", 0.01)

    async def story() -> None:
        release = threading.Event()

        def hold(name: str) -> None:
            if name == "apply.read":
                release.wait(60)

        store = DuckdbStore(
            tmp_path, ManualClock(), DuckdbSettings(pending_bytes_max=100), on_step=hold
        )
        await store.start()
        await store.write([batch(number) for number in range(50)])
        reads = await asyncio.gather(*(rows(store, hour) for hour in (1, 2, 1, 2)))
        assert reads == [expected(range(50), hour) for hour in (1, 2, 1, 2)]
        refusing = store.refusing()
        assert refusing is not None and "behind" in refusing
        release.set()
        await store.applier.wait_applied(50, 60)
        assert (await store.ledger()).balances
        await store.close()

    in_loop(story)


def test_a_commit_in_the_middle_of_a_ledger_is_wholly_in_it_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just before the ledger reads what was accepted, one more batch is."""

    async def story() -> None:
        store = DuckdbStore(tmp_path, ManualClock())
        await store.start()
        await store.write([batch(1)])
        loop = asyncio.get_running_loop()

        def after_a_commit(reader: sqlite3.Connection) -> list[AcceptedLine]:
            asyncio.run_coroutine_threadsafe(store.write([batch(2)]), loop).result()
            return read_ledger(reader)

        monkeypatch.setattr(journal_snapshot, "read_ledger", after_a_commit)
        ledger = await store.ledger()
        assert ledger.balances, ledger
        assert ledger.total().accepted.batches == 1
        monkeypatch.undo()
        assert (await store.ledger()).total().accepted.batches == 2
        await store.close()

    in_loop(story)


def test_no_revision_from_before_an_expiry_comes_back(tmp_path: Path) -> None:
    """A read that began before it notes what it found after it."""
    clock = ManualClock()

    async def story() -> None:
        store = DuckdbStore(tmp_path, clock)
        await store.start()
        await store.write([batch(1)])
        await rows(store, 1)
        found, as_of = await store.revision(1), store.applier.applied
        clock.advance_ms(9 * 24 * HOUR_MS)
        await store.keeper.tidy()
        await store.applier.wait_applied(store.journal.last_sequence, 60)
        store.revisions.touch([1], found, as_of)
        assert await store.revision(1) == (await store.sums(1)).revision != found
        await store.close()

    in_loop(story)


def test_a_damaged_tally_is_named_and_nothing_is_read_as_if_it_were_not_there(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        begun = Journal(tmp_path / "journal.sqlite", ManualClock())
        begun.open()
        begun.commit([batch(1)])
        begun.close()
        other = sqlite3.connect(tmp_path / "journal.sqlite")
        with other:
            other.execute("UPDATE pending SET tally = zeroblob(length(tally))")
        other.close()
        store = DuckdbStore(tmp_path, ManualClock())
        await store.start()
        for read in (store.sums(1), store.hours(), store.ledger()):
            with pytest.raises(NotAccepting, match="cannot be read now"):
                await read
        refusing = store.refusing()
        assert refusing is not None
        assert str(tmp_path / "journal.sqlite") in refusing and "batch 1" in refusing
        await store.close()
        report = verify_folder(tmp_path, ManualClock())
        assert ["in batch 1" in fault for fault in report.faults] == [True]

    in_loop(story)


def test_each_start_writes_the_same_sums_anew(tmp_path: Path) -> None:
    """The checkpoint before it may have written a header and failed to sync it."""
    path = tmp_path / "sums.duckdb"
    written: set[int] = set()
    contents: set[bytes] = set()

    async def story() -> None:
        store = DuckdbStore(tmp_path, ManualClock())
        await store.start()
        # The applier does it before anything else, and reads need not wait for that.
        await store.applier.run_between(lambda: None)
        assert not await store.hours()
        written.add(path.stat().st_mtime_ns)
        await store.close()
        contents.add(path.read_bytes())

    for _ in range(3):
        in_loop(story)
    assert (len(written), len(contents)) == (3, 1)


def test_what_duckdb_holds_in_memory_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        store = DuckdbStore(tmp_path, ManualClock())
        await store.start()
        before = store.applier.health().facts["duckdb_memory_bytes"]
        rows = {(f"app-{number}", "b", "v", 1): [1, 1, 1] for number in range(100_000)}
        await store.write([Batch("many", True, b"body", Tally(rows), len(rows))])
        await store.applier.wait_applied(1, 60)
        await store.applier.run_between(lambda: None)
        held = store.applier.health().facts["duckdb_memory_bytes"]
        assert isinstance(before, int) and isinstance(held, int)
        assert held > before + 1_000_000
        await store.close()

    in_loop(story)


def test_a_second_store_on_the_same_folder_is_refused_by_name(tmp_path: Path) -> None:
    async def story() -> None:
        first = DuckdbStore(tmp_path, ManualClock())
        await first.start()
        first.folder.sign("http://127.0.0.1:8080")
        second = DuckdbStore(tmp_path, ManualClock())
        with pytest.raises(FolderInUse, match=r"process \d+, which serves on http://127"):
            await second.start()
        await second.close()
        await first.write([batch(1)])
        await first.close()

    in_loop(story)


def test_data_files_are_their_owner_s_only(tmp_path: Path) -> None:
    async def story() -> None:
        store = DuckdbStore(tmp_path / "data", ManualClock())
        await store.start()
        await store.write([batch(1)])
        assert await rows(store, 1) == expected(range(1, 2), 1)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
        assert {name for name in modes if modes[name] != 0o600} == set()
        assert {"journal.sqlite", "sums.duckdb", "lock"} <= set(modes)
        await store.close()

    in_loop(story)


def _filled(path: Path) -> None:
    async def story() -> None:
        store = DuckdbStore(path, ManualClock())
        await store.start()
        await store.write([batch(1), batch(2)])
        await rows(store, 1)
        await store.close()

    in_loop(story)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda one, two: (one / "sums.duckdb").unlink(),
            "sums.duckdb is missing",
            id="store-deleted",
        ),
        pytest.param(
            lambda one, two: (one / "journal.sqlite").unlink(),
            "journal.sqlite is missing",
            id="journal-deleted",
        ),
        pytest.param(
            lambda one, two: shutil.copy(two / "sums.duckdb", one / "sums.duckdb"),
            "belongs to another data folder",
            id="store-of-another-folder",
        ),
        pytest.param(
            lambda one, two: (one / "sums.duckdb").write_bytes(b"noise " * 4_000),
            "sums.duckdb is damaged",
            id="store-overwritten",
        ),
        pytest.param(
            lambda one, two: (one / "journal.sqlite").write_bytes(b"noise " * 4_000),
            "journal.sqlite is damaged",
            id="journal-overwritten",
        ),
    ],
)
def test_a_folder_that_lost_something_is_refused_and_the_file_named(
    tmp_path: Path, damage: Callable[[Path, Path], None], message: str
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    _filled(one)
    _filled(two)
    damage(one, two)
    with pytest.raises(DamagedData, match=message):
        in_loop(DuckdbStore(one, ManualClock()).start)
    with pytest.raises(DamagedData, match=message):
        verify_folder(one, ManualClock())


def test_an_older_store_beside_a_newer_journal_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _filled(data)
    old = (data / "sums.duckdb").read_bytes()

    async def story() -> None:
        store = DuckdbStore(data, ManualClock())
        await store.start()
        await store.write([batch(3)])
        await rows(store, 1)
        await store.close()

    in_loop(story)
    (data / "sums.duckdb").write_bytes(old)
    with pytest.raises(DamagedData, match=r"sums\.duckdb has lost data: it ends at batch 2"):
        in_loop(DuckdbStore(data, ManualClock()).start)


def test_verify_finds_a_changed_byte_count(tmp_path: Path) -> None:
    import duckdb

    _filled(tmp_path)
    assert verify_folder(tmp_path, ManualClock()).is_sound
    with duckdb.connect(str(tmp_path / "sums.duckdb")) as connection:
        connection.execute("UPDATE recent SET bytes_rx = bytes_rx + 1 WHERE hour = 1")
    report = verify_folder(tmp_path, ManualClock())
    assert not report.is_sound
    assert report.ledger.total().difference.bytes_rx == -1


def test_verify_of_no_data_folder_says_so_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="is not a data folder"):
        verify_folder(tmp_path / "nothing", ManualClock())
    assert not (tmp_path / "nothing").exists()
