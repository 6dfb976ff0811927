"""Starts the real service with a death built in: `python -m tests.crash.launcher < launch.json`.

It calls what the command line calls. The service itself knows nothing of being killed: it only
says at which step it is, and the function given to it here sends the signal. Thresholds are made
small, so that compaction, checkpoints and expiries in several pieces come up in seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import ModuleType

import msgspec

from flowtally import limits
from flowtally.cli.serve import run
from flowtally.clock import SystemClock
from flowtally.config import DEFAULT, Settings, load
from flowtally.errors import FlowtallyError
from flowtally.steps import STEPS
from flowtally.stores import journal_keeper, memory_taker
from flowtally.stores.duckdb import applier, compaction
from flowtally.stores.hourly import aggregator, gathering, hour_parts
from flowtally.stores.sql import store as sql_store
from tests.crash.service import TROUBLE, Launch, Trouble

_SMALL: tuple[tuple[ModuleType, str, float], ...] = (
    (compaction, "ROWS_MIN", 60),
    (applier, "QUIET_S", 0.3),
    (applier, "CHECKPOINT_BYTES", 64 * 1024),
    (aggregator, "RETRY_S", 0.3),
    (memory_taker, "RETRY_S", 0.3),
    (gathering, "FLOWS_MAX", 60),
    (hour_parts, "PART_FLOWS_MAX", 20),
    (limits, "SQL_PIECE_ROWS", 40),
)


class ShiftedClock(SystemClock):
    """The machine's clock, set ahead."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class Death:
    """Kills this process when a step comes up for the so-manieth time."""

    def __init__(self, step: str | None, count: int) -> None:
        assert step is None or step in STEPS, step
        self._step = step
        self._left = count
        self._lock = Lock()

    def __call__(self, step: str) -> None:
        if step != self._step:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Steps:
    """What comes up at the steps: a death, or, once it is ordered, a thread that goes no further.

    Trouble is ordered while the service runs, by a file and SIGUSR1: see `Service.trouble`.
    """

    def __init__(self, death: Death, clock: ShiftedClock, ordered: Path) -> None:
        self._death = death
        self._clock = clock
        self._ordered = ordered
        self._trouble = Trouble()
        self._free = Event()

    def __call__(self, step: str) -> None:
        self._death(step)
        if step == self._trouble.block_at:
            self._free.wait()

    def listen(self) -> None:
        """Begins to take orders."""
        signal.signal(signal.SIGUSR1, lambda *_: self._take_order())

    def _take_order(self) -> None:
        self._trouble = msgspec.json.decode(self._ordered.read_bytes(), type=Trouble)
        self._clock.ahead_ms = self._trouble.clock_ahead_ms
        # Whoever waits goes on; whoever comes to the step that is named now waits anew.
        free, self._free = self._free, Event()
        free.set()
        if self._trouble.cancel is not None:
            found = [one for one in asyncio.all_tasks() if one.get_name() == self._trouble.cancel]
            assert len(found) == 1, f"{len(found)} tasks are named {self._trouble.cancel}"
            found[0].cancel()


def make_thresholds_small() -> None:
    """Before the service is made."""
    for module, name, value in _SMALL:
        assert hasattr(module, name), name
        setattr(module, name, value)


def set_disk_free_bytes_min(count: int) -> None:
    """No setting of the product, as nobody but a test would want to change it."""
    periods = journal_keeper.KeepingPeriods
    journal_keeper.KeepingPeriods = partial(periods, disk_free_bytes_min=count)  # type: ignore[assignment,misc]
    sql_defaults = sql_store.SqlSettings
    sql_store.SqlSettings = partial(  # type: ignore[assignment,misc]
        sql_defaults, disk_free_bytes_min=count
    )


def settings_of(wanted: Launch) -> Settings:
    """The order's, and what its file says. Raises `SettingsError` where that cannot be used."""
    settings = Settings(
        store=wanted.store,
        sql_url=wanted.sql_url,
        snapshot_interval_s=wanted.snapshot_interval_s,
        aggregate_interval_s=wanted.aggregate_interval_s,
        data=Path(wanted.data),
        port=wanted.port,
        in_flight_bytes_max=wanted.in_flight_bytes_max,
        request_deadline_s=wanted.request_deadline_s,
        access_log=wanted.access_log,
        tokens=Path(wanted.tokens) if wanted.tokens is not None else None,
    )
    if wanted.settings_file is None:
        return settings
    found = load({}, {}, Path(wanted.settings_file))
    given = (name for name, source in found.sources.items() if source != DEFAULT)
    return replace(settings, **{name: getattr(found.settings, name) for name in given})


def launch(order: bytes) -> int:
    """As `flowtally serve` does it: a folder that cannot be used is one line and exit code 1."""
    wanted = msgspec.json.decode(order, type=Launch)
    make_thresholds_small()
    set_disk_free_bytes_min(wanted.disk_free_bytes_min)
    limits.SQL_CHANGE_S = wanted.sql_change_s
    limits.SQL_LOCK_WAIT_S = wanted.sql_lock_wait_s
    clock = ShiftedClock(wanted.clock_ahead_ms)
    try:
        settings = settings_of(wanted)
        steps = Steps(
            Death(wanted.die_at, wanted.die_at_count), clock, Path(wanted.data).parent / TROUBLE
        )
        steps.listen()
        run(settings, steps, clock)
    except FlowtallyError as error:
        print(f"flowtally: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.stdin.buffer.read()))
