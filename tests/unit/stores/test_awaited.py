"""Which hours wait for a run."""

from __future__ import annotations

from flowtally.stores.hourly.awaited import AwaitedHours


def test_an_hour_waits_until_its_last_batch_is_taken_in() -> None:
    awaited = AwaitedHours(hours_max=10)
    awaited.note([1, 2], 1)
    awaited.note([1], 2)
    assert [awaited.holds(hour) for hour in (1, 2, 3)] == [True, True, False]
    awaited.taken_in(1)
    assert [awaited.holds(hour) for hour in (1, 2)] == [True, False]
    awaited.taken_in(2)
    assert not awaited.holds(1)


def test_a_batch_that_a_run_was_faster_with_is_not_waited_for() -> None:
    awaited = AwaitedHours(hours_max=10)
    awaited.taken_in(5)
    awaited.note([1], 5)
    assert not awaited.holds(1)


def test_an_older_note_does_not_end_the_wait_for_a_newer_one() -> None:
    """At a start the journal is read beside commits."""
    awaited = AwaitedHours(hours_max=10)
    awaited.note([1], 9)
    awaited.note([1], 3)
    awaited.taken_in(3)
    assert awaited.holds(1)


def test_any_hour_waits_until_it_is_known_which() -> None:
    awaited = AwaitedHours(hours_max=10)
    awaited.any_through(4)
    awaited.note([1], 4)
    assert awaited.holds(1) and awaited.holds(7)
    awaited.known_through(4)
    assert awaited.holds(1) and not awaited.holds(7)


def test_more_hours_than_find_room_are_not_forgotten_once_all_is_read() -> None:
    """At a start: what was noted then found no room, and so any hour still waits."""
    awaited = AwaitedHours(hours_max=3)
    awaited.any_through(4)
    awaited.note(range(4), 3)
    awaited.note([9], 4)
    awaited.known_through(4)
    assert awaited.holds(0)
    awaited.taken_in(4)
    assert not awaited.holds(0)


def test_beyond_the_bound_all_hours_wait() -> None:
    awaited = AwaitedHours(hours_max=3)
    awaited.note(range(4), 7)
    assert awaited.holds(100)
    awaited.known_through(6)
    awaited.taken_in(6)
    assert awaited.holds(100)
    awaited.taken_in(7)
    assert not awaited.holds(0) and not awaited.holds(100)
