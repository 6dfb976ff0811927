"""Looks at several services at once: how each is, what changed since the last look, what to keep.

A service that cannot be asked is `unreachable`, whatever the reason. One look waits for all of
them, each within its own time limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flowtally.client.client import FlowClient, Health
from flowtally.errors import FlowtallyError

STATES = ("ok", "warning", "error", "unreachable")
"""From best to worst."""
HISTORY_BYTES_MAX = 16 * 1024 * 1024
"""From this size a history is put aside, in the place of the one before."""
_THREADS_MAX = 32


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part that is not ok."""

    part: str
    state: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at one service found. Its fields are those of a line of the history."""

    ts: str
    url: str
    state: str
    took_ms: int
    error: str
    """Why it could not be asked."""
    parts: tuple[Trouble, ...]

    def differs_from(self, other: Look | None) -> bool:
        """Whether it is in another state, or other parts of it are."""
        return other is None or (self.state, _states(self)) != (other.state, _states(other))

    @property
    def what(self) -> str:
        """What is wrong, in a line; empty where nothing is."""
        if self.error:
            return self.error
        return "; ".join(
            f"{one.part} {one.state}: {one.why}" + (f" ({one.hint})" if one.hint else "")
            for one in self.parts
        )


def _states(look: Look) -> list[tuple[str, str]]:
    return [(one.part, one.state) for one in look.parts]


def look_at(
    clients: Mapping[str, FlowClient], ts: str, timeout_s: float, monotonic_s: Callable[[], float]
) -> list[Look]:
    """Asks all services at the same time; returns in the order given."""

    def look(url: str) -> Look:
        began_s = monotonic_s()
        found, error = None, ""
        try:
            found = clients[url].health(timeout_s)
        except FlowtallyError as failure:
            error = str(failure)
        took_ms = int((monotonic_s() - began_s) * 1000)
        if found is None:
            return Look(ts, url, "unreachable", took_ms, error, ())
        # A newer release may know a state that this one does not.
        state = found.status if found.status in STATES else "error"
        return Look(ts, url, state, took_ms, "", _troubles(found))

    with ThreadPoolExecutor(min(len(clients), _THREADS_MAX)) as threads:
        return list(threads.map(look, clients))


def _troubles(found: Health) -> tuple[Trouble, ...]:
    return tuple(
        Trouble(part.name, part.state, part.last_error or part.detail, part.hint)
        for part in found.parts
        if part.state != "ok"
    )


def exit_code(looks: Sequence[Look]) -> int:
    """For cron: 0 all ok, 1 a warning, 2 an error or no answer."""
    return min(max(STATES.index(look.state) for look in looks), 2)


class History:
    """A file of JSON lines, one for each look at each service; never more than twice its bound."""

    def __init__(self, path: Path, bytes_max: int = HISTORY_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max

    def add(self, looks: Sequence[Look]) -> None:
        """Appends them. Raises `OSError` where it cannot."""
        lines = b"".join(msgspec.json.encode(look) + b"\n" for look in looks)
        with self._path.open("ab") as file:
            size = file.tell()
            if size == 0 or size + len(lines) <= self._bytes_max:
                file.write(lines)
                return
        os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        self._path.write_bytes(lines)
