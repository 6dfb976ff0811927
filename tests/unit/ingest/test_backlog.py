"""The backlog's size and entries, whatever the order in which two threads note them."""

from __future__ import annotations

import threading

from flowtally.ingest.backlog import Backlog
from flowtally.ingest.journal_rows import Pending


def backlog_of(*entries: tuple[int, int], held_bytes_max: int = 2**20) -> Backlog:
    backlog = Backlog(held_bytes_max)
    for entry in entries:
        commit(backlog, *entry)
    return backlog


def commit(backlog: Backlog, sequence: int, tally_bytes: int) -> None:
    entry = Pending(sequence, 0, 0, 1, bytes(tally_bytes))
    backlog.committed(sequence, tally_bytes, entry)


def held(backlog: Backlog, after: int, tally_bytes_max: int = 2**20) -> list[int]:
    return [entry.sequence for entry in backlog.held(after, tally_bytes_max)]


def test_what_is_passed_on_is_taken_off_once() -> None:
    backlog = backlog_of((1, 10), (2, 20), (4, 40))
    assert backlog.bytes == 70
    for _ in range(2):
        backlog.passed_on(2)
        assert backlog.bytes == 40
    backlog.passed_on(3)
    assert backlog.bytes == 40
    commit(backlog, 5, 50)
    backlog.passed_on(9)
    assert backlog.bytes == 0


def test_a_note_that_came_too_early_is_made_good_by_the_next() -> None:
    backlog = Backlog(0)
    backlog.passed_on(2)
    for entry in ((1, 10), (2, 20), (3, 30)):
        commit(backlog, *entry)
    backlog.passed_on(2)
    assert backlog.bytes == 30


def test_entries_come_in_order_and_in_bounded_parts() -> None:
    backlog = backlog_of((3, 10), (4, 20), (9, 30))
    assert held(backlog, after=0) == [3, 4, 9]
    assert held(backlog, after=3) == [4, 9]
    assert held(backlog, after=9) == []
    assert held(backlog, after=0, tally_bytes_max=30) == [3, 4]
    assert held(backlog, after=0, tally_bytes_max=1) == [3]


def test_entries_are_held_while_there_is_room() -> None:
    backlog = backlog_of((1, 10), (2, 20), (3, 30), held_bytes_max=30)
    assert held(backlog, after=0) == [1, 2]
    assert held(backlog, after=2) == []
    backlog.passed_on(3)
    commit(backlog, 4, 30)
    assert held(backlog, after=3) == [4]


def test_an_entry_of_the_last_run_is_on_disk_alone() -> None:
    backlog = Backlog(2**20)
    backlog.committed(7, 10)
    commit(backlog, 8, 10)
    assert held(backlog, after=0) == []
    assert held(backlog, after=7) == [8]


def test_what_was_passed_on_and_lost_is_not_skipped() -> None:
    """After a failed sync the store may stand before what it said that it had."""
    backlog = backlog_of((1, 10), (2, 10), (3, 10))
    backlog.passed_on(2)
    assert held(backlog, after=1) == []
    assert held(backlog, after=2) == [3]


def test_two_threads_agree() -> None:
    backlog = Backlog(0)
    count = 5_000

    def pass_on() -> None:
        for sequence in range(1, count + 1):
            backlog.passed_on(sequence)
            backlog.held(sequence, 7)

    applier = threading.Thread(target=pass_on)
    applier.start()
    lowest = 0
    for sequence in range(1, count + 1):
        commit(backlog, sequence, 7)
        lowest = min(lowest, backlog.bytes)
    applier.join()
    backlog.passed_on(count)
    assert (lowest, backlog.bytes) == (0, 0)
