"""Looks at several services at once: how each is, what changed since the last look, what to keep.

A service that cannot be asked is `unreachable`, whatever the reason. A look is over when the time
is up that each of them has, whatever any of them does meanwhile.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flowtally.client.client import FlowClient, Health, Unreachable
from flowtally.errors import FlowtallyError

STATES = ("ok", "warning", "error", "unreachable")
"""From best to worst."""
HISTORY_BYTES_MAX = 16 * 1024 * 1024
"""From this size a history is put aside, in the place of the one before."""
SERVICES_MAX = 1_000
"""Each is asked by a thread of its own."""
_GRACE_S = 0.25
"""For who is asked to say himself that he took too long."""


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


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of a service that was asked, or why there is none."""

    found: Health | Exception
    took_s: float


class HealthWatch:
    """Asks services through their clients. Whatever a client waits for (a name, a handshake, a head
    that drips), it is not waited for longer than `timeout_s`: its thread is left to itself, and
    asks again when it has come to an end."""

    def __init__(
        self,
        clients: Mapping[str, FlowClient],
        timeout_s: float,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._clients = clients
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._asked: dict[str, Future[_Answer]] = {}

    def look(self, ts: str) -> list[Look]:
        """Asks all services at the same time; returns in the order given."""
        began_s = self._monotonic_s()
        for url, client in self._clients.items():
            if url not in self._asked or self._asked[url].done():
                self._asked[url] = self._ask(client)
        wait(self._asked.values(), self._timeout_s + _GRACE_S)
        took_s = self._monotonic_s() - began_s
        late = _Answer(Unreachable(f"no whole answer within {self._timeout_s:g} s"), took_s)
        looks = []
        for url in self._clients:
            asked = self._asked[url]
            answer = asked.result() if asked.done() else late
            # To the look before, it may be.
            if answer.took_s > self._timeout_s + _GRACE_S:
                answer = late
            looks.append(_look_of(ts, url, answer))
        return looks

    def _ask(self, client: FlowClient) -> Future[_Answer]:
        answer: Future[_Answer] = Future()
        began_s = self._monotonic_s()

        def ask() -> None:
            found: Health | Exception
            try:
                found = client.health(self._timeout_s)
            except Exception as error:
                # Nothing that one of them answers may keep the others from being looked at.
                found = error
            answer.set_result(_Answer(found, self._monotonic_s() - began_s))

        try:
            # At an end of this process it is not waited for either.
            threading.Thread(target=ask, daemon=True, name="health").start()
        except RuntimeError as error:
            # There are as many threads as the machine allows.
            answer.set_result(_Answer(error, 0.0))
        return answer


def _look_of(ts: str, url: str, answer: _Answer) -> Look:
    took_ms = int(answer.took_s * 1000)
    found = answer.found
    if isinstance(found, Health):
        # A newer release may know a state that this one does not.
        state = found.status if found.status in STATES else "error"
        return Look(ts, url, state, took_ms, "", _troubles(found))
    why = str(found) if isinstance(found, FlowtallyError) else repr(found)
    return Look(ts, url, "unreachable", took_ms, why, ())


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
        try:
            size_bytes = self._path.stat().st_size
        except FileNotFoundError:
            size_bytes = 0
        if size_bytes and size_bytes + len(lines) > self._bytes_max:
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        _append(self._path, lines)


def _append(path: Path, lines: bytes) -> None:
    """All of them or none: half a line would spoil the next one as well."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size_bytes = os.fstat(descriptor).st_size
        if lines and os.write(descriptor, lines) < len(lines):
            os.ftruncate(descriptor, size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)
