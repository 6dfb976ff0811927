"""A measuring window, as the clients of a run and whoever started them share it.

A client reads its bodies, says `ready`, waits for a line that says when to begin, and posts until
the window is over: that is told in a small file which all have mapped, and in which each client
notes how many batches were acknowledged to it. So a window can last until enough was acknowledged
to all of them together, and a look costs less than a microsecond.
"""

from __future__ import annotations

import argparse
import mmap
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Seen:
    """What one client saw, or all of them together. Batches that were begun in the warm-up are only
    in `times`."""

    times: list[int]
    """How often each body was acknowledged."""
    waits_s: list[float] = field(default_factory=list)
    """How long each batch took, from when it was sent, or was to be sent where that was set."""
    ends_s: list[float] = field(default_factory=list)
    """When each was acknowledged, on the monotonic clock."""
    begun_s: float = 0.0
    """When the warm-up was over, on the same clock."""


class Window:
    """The shared file: whether it is over, then a number for each client."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 0)
        self._numbers = memoryview(self._mapped).cast("Q")

    @classmethod
    def create(cls, path: Path, clients: int) -> Window:
        """A new one, for so many clients."""
        path.write_bytes(bytes(8 * (1 + clients)))
        return cls(path)

    @property
    def is_over(self) -> bool:
        """Whether no further batch is to be sent."""
        return self._numbers[0] != 0

    def end(self) -> None:
        """Says so."""
        self._numbers[0] = 1

    def note(self, client: int, batches: int) -> None:
        """What a client was acknowledged since the warm-up."""
        self._numbers[1 + client] = batches

    def acknowledged(self) -> int:
        """The sum of what all clients noted."""
        return sum(self._numbers[1:])

    def close(self) -> None:
        """Lets go of the file."""
        self._numbers.release()
        self._mapped.close()


class ClientSide:
    """A client's part in a window: what is to be sent, until when, and the notes of what came."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.bodies: list[bytes] = options.bodies.read_bytes().split(b"\n")
        self.seen = Seen(times=[0] * len(self.bodies))
        self._options = options
        self._window = Window(options.window)
        self._next = options.first
        self.begin_s = 0.0
        self._last_s = 0.0

    def wait_to_begin(self) -> None:
        """Says that all is ready, and waits to be told when to begin."""
        print("ready", flush=True)
        self.begin_s = float(sys.stdin.readline())
        self.seen.begun_s = self.begin_s + self._options.warm_up
        self._last_s = self.seen.begun_s + self._options.seconds_max

    def goes_on(self, now_s: float) -> bool:
        """Whether a batch may still be sent; the time is a bound in case nobody ends the window."""
        return now_s < self._last_s and not self._window.is_over

    def take(self) -> int:
        """The number of the body that is sent next."""
        taken: int = self._next
        self._next = (taken + 1) % len(self.bodies)
        return taken

    def note(self, body: int, began_s: float, ended_s: float) -> None:
        """An acknowledged batch."""
        self.seen.times[body] += 1
        if began_s >= self.seen.begun_s:
            self.seen.waits_s.append(ended_s - began_s)
            self.seen.ends_s.append(ended_s)
            self._window.note(self._options.number, len(self.seen.ends_s))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every client."""
    parser.add_argument("--bodies", type=Path, required=True, help="one on each line")
    parser.add_argument("--first", type=int, default=0, help="the body to begin with")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--seconds-max", type=float, required=True, help="after the warm-up")
    parser.add_argument("--window", type=Path, required=True, help="the file shared by all")
    parser.add_argument("--number", type=int, required=True, help="this client's, from 0")
