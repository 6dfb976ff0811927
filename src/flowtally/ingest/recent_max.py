"""The largest of what was measured in the last seconds, for `/health`.

A histogram tells how things were since the start; this tells how they are now. One number for each
second in which anything was noted, so it is bounded by its span.
"""

from __future__ import annotations

from collections import deque


class RecentMax:
    """Used from the event loop only. Times are those of the monotonic clock."""

    def __init__(self, span_s: int) -> None:
        self._span_s = span_s
        self._by_second: deque[tuple[int, float]] = deque(maxlen=span_s)

    def note(self, now_s: float, value: float) -> None:
        """Takes one more into account, for the span from now on."""
        second = int(now_s)
        if self._by_second and self._by_second[-1][0] == second:
            value = max(value, self._by_second.pop()[1])
        self._by_second.append((second, value))

    def at(self, now_s: float) -> float:
        """The largest of the span that ends now; 0 where there is none."""
        before = int(now_s) - self._span_s
        return max((value for second, value in self._by_second if second > before), default=0.0)
