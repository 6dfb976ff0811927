"""What the journal holds that is not yet passed on: how many bytes, and the entries in memory.

Two threads meet here: one notes what was committed, the other what was passed on. Each writes a
counter of its own that only rises, so neither waits for the other and nothing is counted twice or
forgotten, whichever of the two is first or fails in between.

An entry that is committed is usually passed on within the second. It is kept here until then, as
far as there is room, so that it need not be read from the disk that it was just written to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from flowtally.ingest.journal_rows import Pending


class _Waiting(NamedTuple):
    sequence: int
    sequence_before: int
    """Of what was committed before it."""
    bytes_through: int
    """What was committed up to here, all together."""
    entry: Pending | None
    """None where it has to be read from the disk."""


class Backlog:
    """`committed` is called by the thread that commits, the rest by the one that applies."""

    def __init__(self, held_bytes_max: int) -> None:
        self._held_bytes_max = held_bytes_max
        self._waiting: deque[_Waiting] = deque()
        """In the order of sequence numbers, which rise."""
        self._last_sequence = 0
        self._committed_bytes = 0
        self._passed_on_bytes = 0

    @property
    def bytes(self) -> int:
        """The size of all that waits. Read between two writes it may be old, never below zero."""
        passed_on_bytes = self._passed_on_bytes
        return self._committed_bytes - passed_on_bytes

    def committed(self, sequence: int, tally_bytes: int, entry: Pending | None = None) -> None:
        """Adds what stands under a sequence number, above all earlier ones."""
        self._committed_bytes += tally_bytes
        held = entry if self.bytes <= self._held_bytes_max else None
        before, self._last_sequence = self._last_sequence, sequence
        self._waiting.append(_Waiting(sequence, before, self._committed_bytes, held))

    def passed_on(self, through: int) -> None:
        """Takes off all up to a sequence number; what was taken off before is not there again."""
        while self._waiting and self._waiting[0].sequence <= through:
            self._passed_on_bytes = self._waiting.popleft().bytes_through

    def held(self, after: int, tally_bytes_max: int) -> Sequence[Pending]:
        """The entries that come next after a sequence number, as far as they are in memory without
        a gap: up to a size but at least one, or none where the disk has to be read.

        What was passed on may be asked for again: whoever took it may have lost it in a failure.
        """
        found: list[Pending] = []
        tally_bytes = 0
        # A copy: the other thread may add to it meanwhile.
        for waiting in tuple(self._waiting):
            if waiting.sequence <= after:
                continue
            if waiting.entry is None or (not found and waiting.sequence_before > after):
                break
            tally_bytes += len(waiting.entry.tally)
            if found and tally_bytes > tally_bytes_max:
                break
            found.append(waiting.entry)
        return found
