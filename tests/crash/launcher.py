"""Starts the real service with a death built in: `python -m tests.crash.launcher < launch.json`.

It calls what the command line calls. The service itself knows nothing of being killed: it only
says at which step it is, and the function given to it here sends the signal. Thresholds are made
small, so that compaction, checkpoints and expiries in several pieces come up in seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from threading import Lock
from types import ModuleType

import msgspec

from flowtally import limits
from flowtally.cli.serve import run
from flowtally.clock import SystemClock
from flowtally.config import Settings
from flowtally.errors import FlowtallyError
from flowtally.steps import STEPS
from flowtally.stores import journal_keeper
from flowtally.stores.duckdb import applier, compaction
from flowtally.stores.hourly import aggregator, gathering, hour_parts
from flowtally.stores.sql import store as sql_store
from tests.crash.service import Launch

_SMALL: tuple[tuple[ModuleType, str, float], ...] = (
    (compaction, "ROWS_MIN", 60),
    (applier, "QUIET_S", 0.3),
    (applier, "CHECKPOINT_BYTES", 64 * 1024),
    (aggregator, "RETRY_S", 0.3),
    (gathering, "FLOWS_MAX", 60),
    (hour_parts, "PART_FLOWS_MAX", 20),
    (limits, "SQL_PIECE_ROWS", 40),
    (limits, "SQL_LOCK_WAIT_S", 3),
)


class ShiftedClock(SystemClock):
    """The machine's clock, set ahead."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._ahead_ms


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


def launch(order: bytes) -> int:
    """As `flowtally serve` does it: a folder that cannot be used is one line and exit code 1."""
    wanted = msgspec.json.decode(order, type=Launch)
    make_thresholds_small()
    set_disk_free_bytes_min(wanted.disk_free_bytes_min)
    limits.SQL_CHANGE_S = wanted.sql_change_s
    settings = Settings(
        store=wanted.store,
        sql_url=wanted.sql_url,
        snapshot_interval_s=wanted.snapshot_interval_s,
        aggregate_interval_s=wanted.aggregate_interval_s,
        data=Path(wanted.data),
        port=wanted.port,
        access_log=False,
    )
    clock = ShiftedClock(wanted.clock_ahead_ms)
    try:
        run(settings, Death(wanted.die_at, wanted.die_at_count), clock)
    except FlowtallyError as error:
        print(f"flowtally: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.stdin.buffer.read()))
