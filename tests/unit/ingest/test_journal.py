"""The journal by itself: what is in it after each call, and what it says of a damaged file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowtally.clock import ManualClock
from flowtally.errors import DamagedData, DataFolderError, KeyReused, NotAccepting
from flowtally.ingest import journal as journal_module
from flowtally.ingest import journal_rows
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_snapshot import journal_snapshot
from flowtally.model import Account, Batch, Receipt, Tally
from flowtally.wire.blob import decode_tally

DAY_MS = 24 * 3_600_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite", clock)
    journal.open()
    yield journal
    journal.close()


def batch(name: str, rx: int = 1, *, keyed: bool = True, fingerprint: bytes = b"body") -> Batch:
    return Batch(name, keyed, fingerprint, Tally({("a", "b", "v", 1): [rx, 2, 1]}), 1)


def commit_each(journal: Journal, *names: str) -> None:
    """Each in a commit of its own."""
    for name in names:
        journal.commit([batch(name)])


def accounts(journal: Journal) -> list[tuple[Account, int, int]]:
    with journal_snapshot(journal.path) as moment:
        return [
            (line.accepted, line.batches_repeated, line.batches_refused)
            for line in moment.accepted()
        ]


def test_a_commit_keeps_tallies_keys_and_the_ledger(journal: Journal) -> None:
    answers, entry = journal.commit([batch("one", 2**53), batch("two")])
    assert answers == [Receipt("one", 1, 1), Receipt("two", 1, 1)]
    assert entry is not None
    assert (entry.sequence, entry.batches) == (2, 2)
    assert decode_tally(entry.tally).rows == {("a", "b", "v", 1): [2**53 + 1, 4, 2]}
    assert journal.pending(0) == journal.pending(0, 2**20) == [entry]
    assert accounts(journal) == [(Account(2, 2, 2**53 + 1, 4), 0, 0)]


def test_a_repeat_is_told_and_not_counted(journal: Journal) -> None:
    journal.commit([batch("one")])
    answers, entry = journal.commit([batch("one"), batch("one", fingerprint=b"other")])
    assert answers[0] == Receipt("one", 1, 1, repeated=True)
    assert isinstance(answers[1], KeyReused)
    assert entry is None
    assert accounts(journal) == [(Account(1, 1, 1, 2), 1, 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 200])
def test_groups_of_any_size_with_repeats_in_them(journal: Journal, count: int) -> None:
    known = [batch(f"known-{number}") for number in range(count)]
    new = [batch(f"new-{number}", keyed=number % 3 > 0) for number in range(count)]
    journal.commit(known)
    group = [one for three in zip(new, known, new, strict=True) for one in three]
    answers, entry = journal.commit(group)
    repeated = [isinstance(answer, Receipt) and answer.repeated for answer in answers]
    assert repeated == [flag for one in new for flag in (False, True, one.keyed)]
    accepted = sum(not flag for flag in repeated)
    assert entry is not None
    assert (entry.sequence, entry.batches) == (count + accepted, accepted)
    assert sum(entry.batches for entry in journal.pending(0)) == count + accepted
    assert accounts(journal)[0][0].batches == count + accepted


def test_batches_without_a_key_count_each_time(journal: Journal) -> None:
    journal.commit([batch("same", keyed=False), batch("same", keyed=False)])
    assert accounts(journal) == [(Account(2, 2, 2, 4), 0, 0)]


def test_ledger_bytes_pass_every_machine_integer(journal: Journal) -> None:
    for name in range(3):
        journal.commit([batch(str(name), 2**70)])
    assert accounts(journal) == [(Account(3, 3, 3 * 2**70, 6), 0, 0)]


def test_what_was_applied_is_deleted_with_the_next_commit(journal: Journal) -> None:
    commit_each(journal, "one", "two")
    size = journal.pending_bytes
    journal.applied(1)
    assert journal.pending_bytes == size // 2
    assert len(journal.pending(0)) == 2
    journal.commit([batch("three")])
    assert [entry.sequence for entry in journal.pending(0)] == [2, 3]
    assert journal.discarded_through == 1
    assert journal.pending_bytes == size


def test_pending_is_read_in_order_and_in_bounded_parts(journal: Journal) -> None:
    commit_each(journal, *map(str, range(5)))
    for held in (True, False):
        first = journal.pending(0, 1)
        assert [entry.sequence for entry in first] == [1]
        assert [entry.sequence for entry in journal.pending(1, 2**20)] == [2, 3, 4, 5]
        if held:
            journal.close()
            journal.open()


def test_everything_is_there_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "journal.sqlite"
    first = Journal(path, clock)
    first.open()
    commit_each(first, "one", "two")
    first.applied(1)
    first.close()
    second = Journal(path, clock)
    second.open()
    assert (second.last_sequence, second.discarded_through) == (2, 1)
    assert second.folder_id == first.folder_id
    assert second.pending_bytes == first.pending_bytes > 0
    assert second.commit([batch("one")])[0] == [Receipt("one", 1, 1, repeated=True)]
    _, entry = second.commit([batch("new")])
    assert entry is not None
    assert entry.sequence == 3
    second.close()


def test_batch_ids_are_forgotten_when_they_are_old_and_not_before(
    journal: Journal, clock: ManualClock
) -> None:
    journal.commit([batch("old")])
    clock.advance_ms(DAY_MS)
    journal.commit([batch("young")])
    journal.tidy(DAY_MS)
    assert journal.commit([batch("old")])[0] == [Receipt("old", 1, 1, repeated=True)]
    clock.advance_ms(1)
    journal.tidy(DAY_MS)
    assert journal.commit([batch("old")])[0] == [Receipt("old", 1, 1)]
    assert journal.commit([batch("young")])[0] == [Receipt("young", 1, 1, repeated=True)]


def test_batch_ids_from_a_clock_that_was_ahead_stand_in_nobody_s_way(
    journal: Journal, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are at the head of the table, as many as are looked at in one round."""
    monkeypatch.setattr(journal_rows, "TIDY_ROWS", 4)
    clock.jump_ms(1_000 * DAY_MS)
    journal.commit([batch(f"ahead-{number}") for number in range(4)])
    clock.jump_ms(-1_000 * DAY_MS)
    journal.commit([batch("behind")])
    for _ in range(5):
        journal.tidy(DAY_MS)
        clock.advance_ms(DAY_MS)
    assert journal.commit([batch("behind")])[0] == [Receipt("behind", 1, 1)]


def test_no_commit_waits_for_more_than_some_deletes(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "TIDY_ROWS", 3)
    commit_each(journal, *map(str, range(8)))
    journal.applied(8)
    journal.commit([batch("next")])
    assert [entry.sequence for entry in journal.pending(0)] == [4, 5, 6, 7, 8, 9]
    assert journal.tidy()
    assert not journal.tidy()
    assert [entry.sequence for entry in journal.pending(0)] == [9]
    assert journal.discarded_through == 8


def test_a_damaged_tally_is_named(journal: Journal) -> None:
    commit_each(journal, "one", "two")
    other = sqlite3.connect(journal.path)
    [(tally,)] = other.execute("SELECT tally FROM pending WHERE sequence = 2").fetchall()
    damaged = tally[:20] + bytes([tally[20] ^ 1]) + tally[21:]
    with other:
        other.execute("UPDATE pending SET tally = ? WHERE sequence = 2", (damaged,))
    other.close()
    with pytest.raises(DamagedData, match=r"journal\.sqlite is damaged: .* checksum, in batch 2"):
        journal.pending(0)
    journal.close()
    journal.open()
    assert len(journal.pending(0, 1)) == 1


def test_refused_batches_reach_the_ledger_with_the_next_write(journal: Journal) -> None:
    journal.count_refused(2)
    assert accounts(journal) == []
    journal.tidy()
    assert accounts(journal) == [(Account(), 0, 2)]


def test_space_of_passed_on_tallies_is_given_back(journal: Journal) -> None:
    rows = {(f"app-{n:05d}", "b", "v", 1): [n, n, 1] for n in range(6_000)}
    big = Tally(rows)
    for name in range(120):
        journal.commit([Batch(str(name), True, b"f", big, len(rows))])
    journal.fold_log()
    full_bytes = journal.path.stat().st_size
    journal.applied(journal.last_sequence)
    assert journal.pending_bytes == 0
    for _ in range(3):
        journal.tidy()
    journal.fold_log()
    assert journal.path.stat().st_size < full_bytes / 2


def test_nothing_is_written_after_a_fault_that_leaves_doubt(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.commit([batch("one")])
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"

    def fail(name: str) -> None:
        if name == "commit.written":
            raise error

    monkeypatch.setattr(journal, "_on_step", fail)
    with pytest.raises(NotAccepting, match="started again"):
        journal.commit([batch("two")])
    monkeypatch.undo()
    assert not journal.resume()
    with pytest.raises(NotAccepting, match="SQLITE_IOERR_FSYNC"):
        journal.commit([batch("two")])
    assert [entry.sequence for entry in journal.pending(0, 2**20)] == [1]


def test_nothing_stays_open_after_a_fault(journal: Journal) -> None:
    """A connection that closed later than asked for would sync after a failed sync."""
    other = sqlite3.connect(journal.path)
    other.execute("INSERT INTO pending VALUES (1, 0, 0, 1, x'', NULL)")
    other.commit()
    other.close()
    with pytest.raises(NotAccepting, match="UNIQUE constraint failed") as caught:
        journal.commit([batch("one")])
    assert caught.value.__cause__ is not None
    journal.close()
    opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [path for path in opened if path.startswith(str(journal.path))] == []


def test_another_program_s_database_is_refused_and_left_alone(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "journal.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (name TEXT)")
    other.commit()
    other.close()
    with pytest.raises((DamagedData, DataFolderError), match="another program's database"):
        Journal(path, clock).open()
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("things",)]
    other.close()


@pytest.mark.parametrize(("form", "told"), [(1, "before the first release"), (99, "newer release")])
def test_another_format_is_refused(
    tmp_path: Path, clock: ManualClock, form: int, told: str
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, clock)
    journal.open()
    journal.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE state SET format = ?", [form])
    database.commit()
    database.close()
    with pytest.raises(DataFolderError, match=told):
        Journal(path, clock).open()


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("state", "folder_id", "NULL"),
        ("state", "format", "'two'"),
        ("state", "last_sequence", "1.5"),
        ("pending", "tally", "NULL"),
        ("pending", "batches", "x'00'"),
        ("ledger", "bytes_rx", "NULL"),
        ("ledger", "bytes_tx", "'many'"),
        ("ledger", "records", "'many'"),
    ],
)
def test_a_value_of_another_kind_is_damage(
    journal: Journal, table: str, column: str, kind: str
) -> None:
    """As one changed bit in a row's head makes it: the table is made anew without its kinds."""
    commit_each(journal, "one", "two")
    journal.close()
    other = sqlite3.connect(journal.path)
    other.executescript(
        f"CREATE TABLE loose AS SELECT * FROM {table}; UPDATE loose SET {column} = {kind};"
        f"DROP TABLE {table}; ALTER TABLE loose RENAME TO {table};"
    )
    other.close()
    with pytest.raises(DamagedData, match=r"journal\.sqlite .*not as it was written"):
        journal.open()
        journal.pending(0)
        accounts(journal)


def test_a_file_of_noise_is_named(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"noise " * 4_000)
    with pytest.raises(DamagedData, match=r"journal\.sqlite is damaged"):
        Journal(path, clock).open()


@pytest.mark.parametrize(
    ("at_frame", "refused"),
    [
        pytest.param(1, True, id="damage-in-an-early-commit"),
        pytest.param(-1, False, id="torn-tail"),
    ],
)
def test_damage_inside_the_log_is_told_from_a_torn_tail(
    tmp_path: Path, clock: ManualClock, at_frame: int, refused: bool
) -> None:
    """The log of a killed process is copied; one bit of one frame is flipped."""
    journal = Journal(tmp_path / "journal.sqlite", clock)
    journal.open()
    for name in range(6):
        journal.commit([batch(str(name))])
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        source = tmp_path / f"journal.sqlite{suffix}"
        (copy / source.name).write_bytes(source.read_bytes())
    journal.close()
    log = bytearray((copy / "journal.sqlite-wal").read_bytes())
    frame_bytes = 24 + 4096
    frames = (len(log) - 32) // frame_bytes
    log[32 + (at_frame % frames) * frame_bytes + 1_000] ^= 1
    (copy / "journal.sqlite-wal").write_bytes(log)
    reopened = Journal(copy / "journal.sqlite", clock)
    if refused:
        with pytest.raises(DamagedData, match=r"journal\.sqlite-wal is damaged"):
            reopened.open()
        assert (copy / "journal.sqlite-wal").read_bytes() == log
    else:
        reopened.open()
        assert reopened.last_sequence == 5
        reopened.close()
