"""What a service's process holds while something runs: memory, descriptors, threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """One look; `at_s` is on the monotonic clock."""

    at_s: float
    memory_bytes: int
    descriptors: int
    threads: int


class Watch:
    """Looks at a process at regular times, from a thread, while the `with` block runs."""

    def __init__(self, pid: int, interval_s: float) -> None:
        self._pid = pid
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.samples.append(look(self._pid))
            except (FileNotFoundError, ProcessLookupError):
                return


def look(pid: int) -> Sample:
    """What a process holds now."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Sample(
        time.monotonic(),
        int(status["VmRSS"].split()[0]) * 1024,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(status["Threads"]),
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """By how much a value grows in a second, by least squares."""
    count = len(points)
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def thirds(values: Sequence[float]) -> list[float]:
    """The highest value of each third."""
    third = max(1, len(values) // 3)
    return [max(values[:third]), max(values[third:-third] or values), max(values[-third:])]
