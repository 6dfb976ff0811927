"""`asyncio.timeout` for a task that sets one deadline after the other, a thousand times a second.

Setting the loop's timer and taking it away again for each request cost more than reading it. Here
the timer is left running, looks at the deadline when it goes off, and is set anew: once in some
seconds, however many deadlines there were. Deadlines of one task do not nest.
"""

from __future__ import annotations

import asyncio
from math import inf
from types import TracebackType
from typing import Any

_LOOK_S = 5.0
"""How often the timer looks, where no deadline comes before."""


class Deadline:
    """Belongs to one task. There, `with deadline.within(s):` raises `TimeoutError`."""

    __slots__ = ("_at_s", "_looks_at_s", "_loop", "_passed", "_task", "_timer")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._loop = task.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at_s = inf
        self._looks_at_s = inf
        self._passed = False

    def within(self, interval_s: float) -> Deadline:
        """Sets the deadline; it holds until the end of the `with` block."""
        self._at_s = self._loop.time() + interval_s
        self._passed = False
        if self._at_s < self._looks_at_s:
            self._look_at(self._at_s)
        return self

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._at_s = inf
        # As asyncio.timeout has it: a cancellation by somebody else comes first.
        if self._passed and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look_at(self, at_s: float) -> None:
        self.close()
        self._looks_at_s = min(at_s, self._loop.time() + _LOOK_S)
        self._timer = self._loop.call_at(self._looks_at_s, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looks_at_s = inf
        if self._at_s == inf:
            return
        if self._loop.time() < self._at_s:
            self._look_at(self._at_s)
        else:
            self._at_s = inf
            self._passed = True
            self._task.cancel()
