"""The one clock. Everything that needs the time is given a `Clock`; nothing else reads it.

`now_ms` may jump when an operator sets the machine's time; `monotonic_s` never goes back.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from flowtally.model import MILLISECONDS_PER_HOUR


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
