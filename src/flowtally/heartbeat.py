"""What a part says of a background task or thread that should be running and is not.

A task that fails, or is cancelled by mistake, is missed by nobody: its work is simply not done any
more. So each part that has one says how it ended, and is in error from then on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from flowtally.model import PartHealth

PART_STUCK = "docs/runbooks/part-stuck.md"


def how_ended(running: asyncio.Task[Any] | threading.Thread | None) -> str:
    """Why nothing runs there any more; empty while it runs, and before it was started."""
    if isinstance(running, threading.Thread):
        return "" if running.is_alive() or running.ident is None else "its thread has ended"
    if running is None or not running.done():
        return ""
    if running.cancelled():
        return "its background task was cancelled"
    error = running.exception()
    if error is None:
        return "its background task has ended"
    return f"its background task failed: {str(error) or type(error).__name__}"


def ended_part(
    name: str, beat_s: float, ended: str, facts: Mapping[str, int | float | str | bool | None] = {}
) -> PartHealth:
    """The part whose task or thread has ended. It does not come back by itself."""
    return PartHealth(
        name,
        "error",
        beat_s,
        detail="nothing does its work until the service is started again",
        last_error=ended,
        hint=PART_STUCK,
        facts=dict(facts),
        is_stuck=True,
    )
