"""The clocks: the real one reads the machine, the manual one moves only when told."""

from __future__ import annotations

import time

from flowtally.clock import Age, Jumps, ManualClock, SystemClock

HOUR_MS = 3_600_000


def test_the_manual_clock_stands_still() -> None:
    clock = ManualClock(5)
    assert [clock.now_ms(), clock.now_ms()] == [5, 5]
    assert clock.monotonic_s() == clock.monotonic_s() == 0.0


def test_time_that_passes_moves_both_readings() -> None:
    clock = ManualClock(5)
    clock.advance_ms(1_500)
    assert (clock.now_ms(), clock.monotonic_s()) == (1_505, 1.5)


def test_a_jump_moves_the_wall_clock_alone() -> None:
    clock = ManualClock(HOUR_MS)
    clock.advance_ms(2_000)
    clock.jump_ms(-HOUR_MS)
    assert (clock.now_ms(), clock.monotonic_s()) == (2_000, 2.0)


def test_an_arrival_hour_ends_with_its_last_millisecond() -> None:
    clock = ManualClock(7 * HOUR_MS)
    assert clock.arrival_hour() == 7
    clock.advance_ms(HOUR_MS - 1)
    assert clock.arrival_hour() == 7
    clock.advance_ms(1)
    assert clock.arrival_hour() == 8


def test_the_system_clock_reads_the_machine() -> None:
    clock = SystemClock()
    before_s = time.monotonic()
    assert before_s <= clock.monotonic_s() <= time.monotonic()
    # NTP may set the wall clock back between two readings, but not by a minute.
    assert abs(clock.now_ms() - time.time() * 1000) < 60_000
    assert clock.arrival_hour() in (int(time.time()) // 3600 - 1, int(time.time()) // 3600)


def test_age_follows_the_clock_that_only_runs() -> None:
    clock = ManualClock()
    age = Age(clock)
    clock.advance_ms(1_000 * HOUR_MS)
    clock.jump_ms(59_000)
    assert age.now_ms() == clock.now_ms()


def test_age_believes_a_jump_ahead_a_day_later() -> None:
    clock = ManualClock()
    age = Age(clock)
    clock.jump_ms(1_000 * HOUR_MS)
    assert age.now_ms() == clock.now_ms() - 1_000 * HOUR_MS
    clock.advance_ms(24 * HOUR_MS - 1)
    assert age.now_ms() == clock.now_ms() - 1_000 * HOUR_MS
    clock.jump_ms(10 * HOUR_MS)
    assert age.now_ms() == clock.now_ms() - 1_010 * HOUR_MS
    clock.advance_ms(1)
    assert age.now_ms() == clock.now_ms() - 1_010 * HOUR_MS
    clock.advance_ms(24 * HOUR_MS)
    assert age.now_ms() == clock.now_ms()
    clock.advance_ms(HOUR_MS)
    assert age.now_ms() == clock.now_ms()


def test_age_follows_a_jump_back() -> None:
    clock = ManualClock()
    age = Age(clock)
    clock.jump_ms(-HOUR_MS)
    assert age.now_ms() == clock.now_ms()
    clock.jump_ms(3 * HOUR_MS)
    assert age.now_ms() == clock.now_ms() - 2 * HOUR_MS
    clock.jump_ms(-2 * HOUR_MS)
    assert age.now_ms() == clock.now_ms()


def told_jumps(*steps_ms: int) -> list[int]:
    """How far the clock is said to be off after each step, with a minute between them."""
    clock = ManualClock()
    jumps = Jumps(clock)
    found = []
    for step_ms in steps_ms:
        clock.jump_ms(step_ms)
        clock.advance_ms(60_000)
        jumps.look()
        found.append(jumps.jumped_ms)
    return found


def test_a_clock_that_is_slewed_is_not_set() -> None:
    assert told_jumps(*[4_999] * 100) == [0] * 100


def test_a_jump_is_told_until_it_is_undone() -> None:
    assert told_jumps(7_200_000, 0, -7_200_000, 0) == [7_200_000, 7_200_000, 0, 0]
    assert told_jumps(-10_000, 0, 10_000) == [-10_000, -10_000, 0]


def test_a_jump_is_told_for_a_day() -> None:
    clock = ManualClock()
    jumps = Jumps(clock)
    clock.jump_ms(-3_600_000)
    jumps.look()
    clock.advance_ms(24 * 3_600_000 - 1)
    jumps.look()
    assert jumps.jumped_ms == -3_600_000
    clock.advance_ms(1)
    jumps.look()
    assert jumps.jumped_ms == 0
