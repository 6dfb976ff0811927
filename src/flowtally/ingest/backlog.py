"""How many bytes of tallies the journal holds that are not yet passed on.

Two threads meet here: one notes what was committed, the other what was passed on. Each writes a
counter of its own that only rises, so neither waits for the other and nothing is counted twice or
forgotten, whichever of the two is first or fails in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Backlog:
    """`committed` is called by the thread that commits, `passed_on` by the one that applies."""

    def __init__(self) -> None:
        self._ends: deque[tuple[int, int]] = deque()
        """Sequence numbers, rising, each with the bytes committed up to it."""
        self._committed_bytes = 0
        self._passed_on_bytes = 0

    @property
    def bytes(self) -> int:
        """The size of all that waits. Read between two writes it may be old, never below zero."""
        passed_on_bytes = self._passed_on_bytes
        return self._committed_bytes - passed_on_bytes

    def committed(self, entries: Iterable[tuple[int, int]]) -> None:
        """Adds sequence numbers, above all earlier ones and rising, with their sizes in bytes."""
        for sequence, tally_bytes in entries:
            self._committed_bytes += tally_bytes
            self._ends.append((sequence, self._committed_bytes))

    def passed_on(self, through: int) -> None:
        """Takes off all up to a sequence number; what was taken off before is not there again."""
        while self._ends and self._ends[0][0] <= through:
            _, self._passed_on_bytes = self._ends.popleft()
