"""Which hours have acknowledged batches that no run has taken in yet: their reads are partial.

Noted before a batch is answered, so whoever was answered finds its hour here until a run has it.
Bounded: beyond a number of hours all of them are taken to be waited for, which is never wrong for
long, as the next run ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class AwaitedHours:
    """Safe to use from any thread."""

    def __init__(self, hours_max: int) -> None:
        self._hours_max = hours_max
        self._last: dict[int, int] = {}
        """The last batch that touches an hour, by its sequence number."""
        self._any_through = 0
        """Up to this batch not all hours that are touched found room: it may be any."""
        self._unread_through = 0
        """Up to this batch it is not known yet which hours are touched: it may be any."""
        self._taken_in = 0
        self._lock = threading.Lock()

    def any_through(self, sequence: int) -> None:
        """Notes that batches up to this one may touch any hour."""
        with self._lock:
            self._unread_through = max(self._unread_through, sequence)

    def known_through(self, sequence: int) -> None:
        """Takes that back: what they touch was noted one by one."""
        with self._lock:
            if self._unread_through <= sequence:
                self._unread_through = 0

    def note(self, hours: Iterable[int], sequence: int) -> None:
        """Notes a batch by the hours that it touches."""
        with self._lock:
            if sequence <= self._taken_in:
                return
            for hour in hours:
                self._last[hour] = max(sequence, self._last.get(hour, 0))
            if len(self._last) > self._hours_max:
                self._any_through = max(self._any_through, *self._last.values())
                self._last.clear()

    def taken_in(self, through: int) -> None:
        """Notes that a run has taken in all batches up to this one."""
        with self._lock:
            self._taken_in = max(self._taken_in, through)
            self._last = {hour: last for hour, last in self._last.items() if last > through}

    def holds(self, hour: int) -> bool:
        """Whether something of this hour waits, or may."""
        with self._lock:
            any_through = max(self._any_through, self._unread_through)
            return any_through > self._taken_in or hour in self._last
