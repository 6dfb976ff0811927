"""The backlog's size, whatever the order in which commits and applications are noted."""

from __future__ import annotations

import threading

from flowtally.ingest.backlog import Backlog


def test_what_is_passed_on_is_taken_off_once() -> None:
    backlog = Backlog()
    backlog.committed([(1, 10), (2, 20), (4, 40)])
    assert backlog.bytes == 70
    for _ in range(2):
        backlog.passed_on(2)
        assert backlog.bytes == 40
    backlog.passed_on(3)
    assert backlog.bytes == 40
    backlog.committed([(5, 50)])
    backlog.passed_on(9)
    assert backlog.bytes == 0


def test_a_note_that_came_too_early_is_made_good_by_the_next() -> None:
    backlog = Backlog()
    backlog.passed_on(2)
    backlog.committed([(1, 10), (2, 20), (3, 30)])
    backlog.passed_on(2)
    assert backlog.bytes == 30


def test_two_threads_agree() -> None:
    backlog = Backlog()
    count = 5_000

    def pass_on() -> None:
        for sequence in range(1, count + 1):
            backlog.passed_on(sequence)

    applier = threading.Thread(target=pass_on)
    applier.start()
    lowest = 0
    for sequence in range(1, count + 1):
        backlog.committed([(sequence, 7)])
        lowest = min(lowest, backlog.bytes)
    applier.join()
    backlog.passed_on(count)
    assert (lowest, backlog.bytes) == (0, 0)
