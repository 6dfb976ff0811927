"""How the whole service is, gathered from its parts: the worst one decides.

A part proves that it lives by the work that it does. One that is silent for longer than what it is
doing can take is stuck, and in error whatever it last said of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from flowtally.clock import Clock
from flowtally.heartbeat import PART_STUCK
from flowtally.model import PartHealth

STATES = ("ok", "warning", "error")
"""From best to worst."""

HealthSource = Callable[[], Sequence[PartHealth]]


class Health:
    """Asks every source each time: nothing here is remembered, or waited for."""

    def __init__(self, clock: Clock, sources: Iterable[HealthSource]) -> None:
        self._clock = clock
        self._sources = tuple(sources)

    def parts(self) -> list[PartHealth]:
        """Every part as it is now."""
        found = [part for source in self._sources for part in source()]
        return with_stale_beats(found, self._clock.monotonic_s())

    def refusing(self) -> str | None:
        """Why no batch can be acknowledged although the store would take one: a part that it
        needs is stuck. None where there is none."""
        for part in self.parts():
            if part.needed_to_accept and part.is_stuck:
                return f"the {part.name} is stuck: {part.last_error or part.detail}"
        return None


def worst(parts: Iterable[PartHealth]) -> str:
    """The worst state of all; "ok" of none."""
    return max((part.state for part in parts), key=STATES.index, default="ok")


def with_stale_beats(parts: Sequence[PartHealth], now_s: float) -> list[PartHealth]:
    """The parts, those whose last beat is too old turned into errors."""
    return [
        part
        if part.is_stuck or now_s - part.beat_s <= part.beat_age_s_max
        else replace(
            part,
            state="error",
            detail=f"no sign of life for {now_s - part.beat_s:.0f} s; {part.detail}",
            hint=part.hint or PART_STUCK,
            is_stuck=True,
        )
        for part in parts
    ]
