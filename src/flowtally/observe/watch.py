"""Watches what has no thread of its own: the event loop and the clock.

One task wakes every second. How much later than that it wakes is how long the event loop let
everybody wait; what the wall clock gained on the monotonic one meanwhile is how far it was set.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from flowtally import limits
from flowtally.clock import Clock, Jumps
from flowtally.heartbeat import ended_part, how_ended
from flowtally.model import PartHealth

_INTERVAL_S = 1.0
_LAGS_KEPT = 60


class Watch:
    """`start`, `close`. `observe_lag(seconds)` is called each second, for metrics."""

    def __init__(self, clock: Clock, observe_lag: Callable[[float], None] = lambda _: None) -> None:
        self._clock = clock
        self._observe_lag = observe_lag
        self._jumps = Jumps(clock)
        self._lags_s: deque[float] = deque([0.0], _LAGS_KEPT)
        """Of the last minute."""
        self._beat_s = clock.monotonic_s()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch, from the clock as it is now."""
        self._jumps = Jumps(self._clock)
        self._beat_s = self._clock.monotonic_s()
        self._task = asyncio.create_task(self._watch(), name="watch")

    async def close(self) -> None:
        """Ends it. May be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            now_s = self._clock.monotonic_s()
            lag_s = max(now_s - self._beat_s - _INTERVAL_S, 0.0)
            self._beat_s = now_s
            self._lags_s.append(lag_s)
            self._observe_lag(lag_s)
            self._jumps.look()

    def health(self) -> Sequence[PartHealth]:
        """How the event loop and the clock are."""
        if self._task is None:
            return ()
        ended = how_ended(self._task)
        if ended:
            return (
                ended_part("event_loop", self._beat_s, ended),
                ended_part("clock", self._beat_s, ended),
            )
        return (self._event_loop(), self._clock_part())

    def _event_loop(self) -> PartHealth:
        lag_s = max(self._lags_s)
        is_slow = lag_s > limits.EVENT_LOOP_LAG_S_MAX
        return PartHealth(
            "event_loop",
            "warning" if is_slow else "ok",
            self._beat_s,
            detail=f"in the last minute nobody waited for it longer than {lag_s * 1000:.0f} ms",
            hint="docs/runbooks/slow-writes.md" if is_slow else "",
            facts={"lag_ms_max": round(lag_s * 1000, 1)},
        )

    def _clock_part(self) -> PartHealth:
        jumped_s = self._jumps.jumped_ms / 1000
        way = "ahead" if jumped_s > 0 else "back"
        return PartHealth(
            "clock",
            "warning" if jumped_s else "ok",
            self._beat_s,
            detail=f"it was set {way} by {abs(jumped_s):.0f} s, or the machine slept"
            if jumped_s
            else "it runs as the monotonic one does",
            hint="docs/runbooks/clock-jumped.md" if jumped_s else "",
            facts={"jumped_s": round(jumped_s, 1)},
        )
