"""The one clock. Everything that needs the time is given a `Clock`; nothing else reads it.

`now_ms` may jump when an operator sets the machine's time; `monotonic_s` never goes back. What is
to be forgotten or dropped for its age is told by `Age`, which does not believe a jump at once.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod

from flowtally.model import MILLISECONDS_PER_HOUR

logger = logging.getLogger(__name__)

_JUMP_MS_MIN = 60_000
_JUMP_TOLD_MS_MIN = 5_000
"""No clock that is only slewed, and no late look at it, is that far off between two looks."""
_JUMP_HELD_S = 24 * 3_600.0


class Clock(ABC):
    """Wall time for what is recorded, monotonic time for what is waited for."""

    @abstractmethod
    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""

    @abstractmethod
    def monotonic_s(self) -> float:
        """Seconds from an arbitrary point; never goes back."""

    def arrival_hour(self) -> int:
        """The hour, since 1970 UTC, that what arrives now is accounted and kept under."""
        return self.now_ms() // MILLISECONDS_PER_HOUR


class SystemClock(Clock):
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class Age:
    """The time that ages are measured by: wall time that does not follow a jump ahead at once.

    A clock that is set ahead by mistake would make everything old: batch_ids would be forgotten,
    and their retries counted twice; sums would be dropped. So what wall time gains on monotonic
    time is held back until it has stood for a day. A jump back is followed: it only keeps longer.
    A machine that slept has gained as well; what is due then is done a day later.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._believed_ms = self._offset_ms()
        self._gained_ms = 0
        self._gained_at_s = 0.0

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC, late rather than early."""
        gained_ms = self._offset_ms() - self._believed_ms
        monotonic_s = self._clock.monotonic_s()
        if gained_ms < _JUMP_MS_MIN:
            return self._clock.now_ms()
        if abs(gained_ms - self._gained_ms) >= _JUMP_MS_MIN:
            self._gained_ms, self._gained_at_s = gained_ms, monotonic_s
            logger.warning(
                "the clock was set ahead; nothing is dropped for its age by that for a day",
                extra={"seconds": gained_ms // 1000},
            )
        if monotonic_s - self._gained_at_s < _JUMP_HELD_S:
            return self._clock.now_ms() - gained_ms
        self._believed_ms += gained_ms
        self._gained_ms = 0
        return self._clock.now_ms()

    def _offset_ms(self) -> int:
        return self._clock.now_ms() - int(self._clock.monotonic_s() * 1000)


class Jumps:
    """Whether the wall clock was set while the service runs: `look` regularly, it compares both.

    A jump matters until it was undone, or has stood for a day: then `Age` believes it too. Time
    that a machine slept looks like a jump ahead.
    """

    def __init__(self, clock: Clock) -> None:
        self.jumped_ms = 0
        """How far the clock is from where it would be had it not been set; 0: nowhere."""
        self._clock = clock
        self._offset_ms = self._offset_now_ms()
        self._jumped_at_s = 0.0

    def look(self) -> None:
        """Compares what both clocks have gained since the last look."""
        offset_ms, self._offset_ms = self._offset_ms, self._offset_now_ms()
        step_ms = self._offset_ms - offset_ms
        now_s = self._clock.monotonic_s()
        if abs(step_ms) >= _JUMP_TOLD_MS_MIN:
            self.jumped_ms += step_ms
            self._jumped_at_s = now_s
            logger.warning("the clock was set", extra={"seconds": round(step_ms / 1000)})
        undone = abs(self.jumped_ms) < _JUMP_TOLD_MS_MIN
        if undone or now_s - self._jumped_at_s >= _JUMP_HELD_S:
            self.jumped_ms = 0

    def _offset_now_ms(self) -> int:
        return self._clock.now_ms() - int(self._clock.monotonic_s() * 1000)


class ManualClock(Clock):
    """A clock that stands still until it is told: both readings advance together."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance_ms(self, interval_ms: int) -> None:
        """Lets time pass."""
        self._now_ms += interval_ms
        self._monotonic_s += interval_ms / 1000

    def jump_ms(self, interval_ms: int) -> None:
        """Sets the wall clock forward or back, as an operator or NTP would."""
        self._now_ms += interval_ms
