"""Takes the memory store's snapshots: at an interval, and once more when the store is closed.

The state is captured on the event loop, in one step between two batches, and written in a thread.
A snapshot that fails leaves the last one in its place; the store goes on, `/health` warns, and the
next one is tried after a minute at the latest, however long the interval is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import DataFolderError
from flowtally.heartbeat import ended_part, how_ended
from flowtally.model import PartHealth
from flowtally.steps import OnStep
from flowtally.stores.memory_snapshot import MemoryFolder
from flowtally.stores.memory_state import Arrival, Captured

logger = logging.getLogger(__name__)

RETRY_S = 60.0
"""How long after a snapshot that failed the next one is tried, where its time would be later."""
_HINT = "docs/runbooks/snapshot-failed.md"
_FLOWS_PER_S_MIN = 20_000
"""A machine that writes fewer is taken for stuck."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Where snapshots are kept, and how often one is taken."""

    folder: Path
    interval_s: float

    @property
    def warning(self) -> str:
        """What can be lost."""
        return (
            "kept in memory: a kill loses what came after the last snapshot, which is taken every"
            f" {self.interval_s:g} s and when the service stops"
        )


@dataclass(frozen=True, slots=True)
class _Last:
    """What is kept of a snapshot; the state itself would keep old rows in memory."""

    taken_ms: int
    sequence: int
    flows: int
    batch_ids: int
    arrivals: dict[int, Arrival]

    @classmethod
    def of(cls, state: Captured) -> _Last:
        """Of a state."""
        return cls(state.taken_ms, state.sequence, state.flows, len(state.known), state.arrivals)

    def is_of_equal(self, other: _Last) -> bool:
        """Whether nothing happened between the two: whatever may has changed one of these."""
        return replace(self, taken_ms=other.taken_ms) == other


class SnapshotTaker:
    """See the module. `open`, `start`, `close`; `capture` gives the state as it is now."""

    def __init__(
        self,
        settings: Snapshots,
        clock: Clock,
        capture: Callable[[], Captured],
        on_step: OnStep,
    ) -> None:
        self.settings = settings
        self.folder = MemoryFolder(settings.folder, on_step)
        self._clock = clock
        self._capture = capture
        self._on_step = on_step
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._last: _Last | None = None
        self._last_bytes = 0
        self._capture_ms = 0.0
        self._error = ""
        self._writing_since_s: float | None = None
        self._writing_s_max = limits.BEAT_AGE_S_MAX

    async def open(self, now_ms: int) -> Captured:
        """Takes the folder; returns the state to start with. Raises `DataFolderError`."""
        return await asyncio.to_thread(self._open, now_ms)

    def _open(self, now_ms: int) -> Captured:
        self.folder.open()
        try:
            found = self.folder.load()
            self._last = None if found is None else _Last.of(found)
            return self.folder.begin(found, now_ms)
        except OSError as error:
            self.folder.close()
            raise DataFolderError(f"{self.settings.folder} cannot be used: {error}") from error
        except BaseException:
            self.folder.close()
            raise

    def start(self) -> None:
        """Begins to take snapshots."""
        self._task = asyncio.create_task(self._take_regularly(), name="memory-snapshots")

    async def _take_regularly(self) -> None:
        while not self._stop.is_set():
            wait_s = self.settings.interval_s
            if self._error:
                wait_s = min(wait_s, RETRY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)
                return
            with suppress(DataFolderError):
                await self.take(unless_equal=True)

    async def take(self, unless_equal: bool = False) -> None:
        """Writes a snapshot now. Raises `DataFolderError` where it cannot; then the last stands.
        With `unless_equal`, not where nothing has happened since the last one."""
        async with self._one_at_a_time:
            began_s = self._clock.monotonic_s()
            try:
                state = self._capture()
                self._capture_ms = (self._clock.monotonic_s() - began_s) * 1000
                taken = _Last.of(state)
                if unless_equal and self._last is not None and self._last.is_of_equal(taken):
                    self._last = taken
                    return
                self._on_step("snapshot.captured")
                rows = state.flows + len(state.known)
                self._writing_s_max = limits.BEAT_AGE_S_MAX + rows / _FLOWS_PER_S_MIN
                self._writing_since_s = self._clock.monotonic_s()
                self._last_bytes = await asyncio.to_thread(self.folder.save, state)
            except Exception as error:
                # Whatever it was (memory runs out where there is most to keep): told, and tried
                # again. Otherwise the task would end, and no snapshot be taken any more.
                why = str(error) or type(error).__name__
                self._error = f"a snapshot could not be written: {why}"
                logger.warning(
                    "snapshot failed",
                    exc_info=error,
                    extra={
                        "purpose": "write a snapshot",
                        "folder": str(self.settings.folder),
                        "error": why,
                    },
                )
                raise DataFolderError(self._error) from error
            finally:
                self._writing_since_s = None
            took_s = self._clock.monotonic_s() - began_s
            self._last, self._error = taken, ""
            logger.info(
                "snapshot taken",
                extra={
                    "flows": state.flows,
                    "batch_ids": len(state.known),
                    "bytes": self._last_bytes,
                    "seconds": round(took_s, 3),
                    "stall_ms": round(self._capture_ms, 1),
                },
            )

    async def close(self) -> None:
        """Takes the last snapshot and gives the folder back. Raises `DataFolderError` where the
        snapshot could not be written: then what came after the one before is lost."""
        self._stop.set()
        if self._task is not None:
            # Never cut off: its thread would go on writing. How it ended is told on /health.
            await asyncio.wait([self._task])
        try:
            await self.take()
            await asyncio.to_thread(self.folder.end)
        finally:
            self.folder.close()

    def health(self) -> PartHealth:
        """How the last snapshot went. A failure is a warning: an error would bring some
        supervisors to kill the process, and with it what only the memory holds."""
        now_s = self._clock.monotonic_s()
        last = self._last
        age_ms = 0 if last is None else max(self._clock.now_ms() - last.taken_ms, 0)
        facts: dict[str, int | float | str | bool | None] = {
            "sequence": 0 if last is None else last.sequence,
            "flows": 0 if last is None else last.flows,
            "bytes": self._last_bytes,
            "stall_ms": round(self._capture_ms, 1),
            "age_ms": None if last is None else age_ms,
        }
        ended = "" if self._stop.is_set() else how_ended(self._task)
        if ended:
            return ended_part("snapshot", now_s, ended, facts)
        return PartHealth(
            "snapshot",
            "warning" if self._error else "ok",
            # Between two of them it is the event loop's timer that lives.
            now_s if self._writing_since_s is None else self._writing_since_s,
            detail="no snapshot yet"
            if last is None
            else f"the last snapshot was taken {age_ms / 1000:.0f} s ago",
            last_error=self._error,
            hint=_HINT if self._error else "",
            facts=facts,
            beat_age_s_max=self._writing_s_max,
        )
