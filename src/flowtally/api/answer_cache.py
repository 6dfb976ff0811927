"""Encoded answers, kept by hour, format and coding for as long as the hour's revision stands.

Bounded by bytes; the least recently used goes first. One caller makes an answer, the others that
ask for it meanwhile wait for that one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flowtally.model import Revision
from flowtally.wire.media import SumsFormat

Key = tuple[int, SumsFormat, str | None]

_ENTRY_BYTES = 1_000
"""What an entry takes beside its body: an empty hour's is 2 bytes, and there are 2^31 hours."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The sums of an hour, encoded. `coding` is None where the body is not compressed."""

    revision: Revision
    flows: int
    body: bytes
    coding: str | None

    @property
    def size_bytes(self) -> int:
        """What it takes in the cache."""
        return len(self.body) + _ENTRY_BYTES


@dataclass(slots=True)
class _Making:
    lock: asyncio.Lock
    callers: int = 0


class AnswerCache:
    """Used from the event loop only."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._making: dict[Key, _Making] = {}

    async def get(
        self, key: Key, revision: Revision, make: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The answer at this revision or a newer one, made if it is not there."""
        found = self._find(key, revision)
        if found is not None:
            return found
        making = self._making.setdefault(key, _Making(asyncio.Lock()))
        making.callers += 1
        try:
            async with making.lock:
                found = self._find(key, revision)
                if found is None:
                    found = await make()
                    self._keep(key, found)
                return found
        finally:
            making.callers -= 1
            if not making.callers:
                del self._making[key]

    def _find(self, key: Key, revision: Revision) -> Answer | None:
        found = self._answers.get(key)
        if found is None or found.revision.number < revision.number:
            return None
        self._answers.move_to_end(key)
        return found

    def _keep(self, key: Key, answer: Answer) -> None:
        self._drop(key)
        if answer.size_bytes > self._bytes_max:
            return
        self._answers[key] = answer
        self._bytes += answer.size_bytes
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: Key) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.size_bytes
