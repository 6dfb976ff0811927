"""How much room is left on the file system of the data, and what that means for taking batches."""

from __future__ import annotations

from collections.abc import Callable

from flowtally import limits
from flowtally.clock import Clock
from flowtally.model import PartHealth

_HINT = "docs/runbooks/disk-full.md"


class DiskSpace:
    """`look` asks the file system, and is called regularly; all else tells what was seen last."""

    def __init__(self, free_bytes: Callable[[], int | None], clock: Clock, bytes_min: int) -> None:
        """`free_bytes` gives None where the data are on another machine: then there is no part.
        Below `bytes_min` nothing is acknowledged."""
        self.free_bytes: int | None = 0
        self._ask = free_bytes
        self._clock = clock
        self._bytes_min = bytes_min
        self._beat_s = clock.monotonic_s()

    def look(self) -> None:
        """Asks how much is left."""
        self.free_bytes = self._ask()
        self._beat_s = self._clock.monotonic_s()

    @property
    def is_nearly_full(self) -> bool:
        """Whether a commit could fill it."""
        return self.free_bytes is not None and self.free_bytes < self._bytes_min

    def refusing(self) -> str | None:
        """Why nothing is taken, or None."""
        if self.is_nearly_full:
            return f"the disk is nearly full: {self.free_bytes} bytes are free"
        return None

    def health(self, beat_age_s_max: float = limits.BEAT_AGE_S_MAX) -> tuple[PartHealth, ...]:
        """One part, or none. `beat_age_s_max` is how long there may be between two looks."""
        if self.free_bytes is None:
            return ()
        state = "ok"
        if self.free_bytes < limits.DISK_FREE_BYTES_WARNING:
            state = "warning"
        if self.is_nearly_full:
            state = "error"
        return (
            PartHealth(
                "disk",
                state,
                self._beat_s,
                detail=f"{self.free_bytes} bytes are free; {self._bytes_min} must be",
                hint="" if state == "ok" else _HINT,
                facts={"free_bytes": self.free_bytes, "free_bytes_min": self._bytes_min},
                beat_age_s_max=beat_age_s_max,
            ),
        )
