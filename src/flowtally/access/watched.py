"""A value that is read from files, and read anew when they change or when it is asked for.

What cannot be read leaves the last good value in place and turns the part to an error: a service
must not stop, or open its doors, because somebody is in the middle of editing a file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from flowtally import limits
from flowtally.access.tokens import without_tokens
from flowtally.clock import Clock
from flowtally.errors import SettingsError
from flowtally.heartbeat import ended_part, how_ended
from flowtally.model import PartHealth

# Not by this module's name, which is that of the access log: whoever wants no line for each request
# wants to hear of this all the same.
logger = logging.getLogger("flowtally.serve.credentials")

Value = TypeVar("Value")
_Signature = tuple[tuple[int, int, int, int], ...]


class Watched(Generic[Value]):
    """`start` reads; then `value` is the last good one. `close` ends its task."""

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        read: Callable[[], Value],
        clock: Clock,
        hint: str,
        condition: Callable[[Value], tuple[str, str]] = lambda _: ("ok", ""),
    ) -> None:
        """`condition(value)` is the state of a value that was read, and in words why or what."""
        self.name = name
        self._paths = tuple(paths)
        self._read = read
        self._clock = clock
        self._hint = hint
        self._condition = condition
        self._value: Value | None = None
        self._signature: _Signature = ()
        self._error = ""
        self._beat_s = 0.0
        self._changes = 0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def value(self) -> Value:
        """The last one that could be read."""
        assert self._value is not None, "it is read at the start"
        return self._value

    async def start(self) -> None:
        """Reads, and watches from now on. Raises `SettingsError` where it cannot be read."""
        self._signature, self._value = await asyncio.to_thread(self._look)
        self._beat_s = self._clock.monotonic_s()
        self._task = asyncio.create_task(self._watch(), name=f"watching {self.name}")

    def reload(self) -> None:
        """Reads again now, changed or not."""
        self._signature = ()
        self._wanted.set()

    async def close(self) -> None:
        """Stops watching; may be called twice."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def health(self) -> PartHealth:
        """How it is. The part beats each time that the files were looked at."""
        ended = how_ended(self._task)
        if ended:
            return ended_part(self.name, self._beat_s, ended)
        state, detail = self._condition(self.value)
        if self._error:
            state, detail = "error", "what was read last is in force"
        return PartHealth(
            self.name,
            state,
            self._beat_s,
            detail=detail,
            last_error=self._error,
            hint="" if state == "ok" else self._hint,
            facts={"changes": self._changes},
        )

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.FILES_LOOK_S):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._look_again()
            except SettingsError as error:
                # What is in the wrong place of a file may be a token.
                self._note(without_tokens(str(error)))
            except Exception as error:
                # This is the only one who looks: it may not die of what nobody thought of.
                logger.exception("files could not be looked at", extra={"part": self.name})
                self._error = without_tokens(f"{type(error).__name__}: {error}")
            self._beat_s = self._clock.monotonic_s()

    async def _look_again(self) -> None:
        signature = await asyncio.to_thread(self._signature_now)
        if signature == self._signature and not self._error:
            return
        # Taken before the files are read: a change in between is seen the next time.
        signature, value = await asyncio.to_thread(self._look)
        self._signature, self._value = signature, value
        self._changes += 1
        self._error = ""
        logger.info("read anew", extra={"part": self.name, "files": self._named()})

    def _note(self, error: str) -> None:
        if error != self._error:
            logger.error(
                "files cannot be used; what was read last is in force",
                extra={"part": self.name, "error": error},
            )
        self._error = error

    def _look(self) -> tuple[_Signature, Value]:
        return self._signature_now(), self._read()

    def _signature_now(self) -> _Signature:
        try:
            found = [path.stat() for path in self._paths]
        except OSError as error:
            raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from error
        return tuple((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino) for one in found)

    def _named(self) -> str:
        return ", ".join(map(str, self._paths))
