"""What processes use: their processor time and memory, with that of their children."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """The processor time that a process and its children, ended ones too, used up to now."""
    used = 0.0
    for one in (pid, *_children(pid)):
        # A child may have ended since; then it is counted with its parent.
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name in front is in brackets and may hold anything.
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            used += sum(map(int, fields[11:15] if one == pid else fields[11:13])) / _TICKS_PER_S
    return used


def idle_s() -> float:
    """How long all cores together were idle up to now, waiting for the disk or not."""
    idle, waiting = Path("/proc/stat").read_text().split("\n", 1)[0].split()[4:6]
    return (int(idle) + int(waiting)) / _TICKS_PER_S


class Memory:
    """The resident memory of some processes and their children, now and at its highest."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self.now_bytes = 0
        self._highest_seen_bytes = 0

    def look(self) -> None:
        """Notes what is resident. Of what several share, each has its part."""
        self.now_bytes = sum(map(_memory_of, self._pids))
        self._highest_seen_bytes = max(self._highest_seen_bytes, self.now_bytes)

    def highest_bytes(self) -> int:
        """Processes without children are asked for their own highest, which misses nothing; of
        others it is the highest that was seen."""
        highest = 0
        for pid in self._pids:
            if _children(pid):
                return self._highest_seen_bytes
            with suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{pid}/status").read_text()
                found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
                highest += int(found[0].split()[1]) * 1024 if found else 0
        return max(highest, self._highest_seen_bytes)


def _memory_of(pid: int) -> int:
    found = 0
    for one in (pid, *_children(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return found


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").glob("*/children")
            for child in task.read_text().split()
        ]
    return []
