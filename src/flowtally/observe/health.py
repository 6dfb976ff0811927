"""The state of the whole service from the states of its parts: the worst one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowtally.model import PartHealth

STATES = ("ok", "warning", "error")
"""From best to worst."""


def worst(parts: Iterable[PartHealth]) -> str:
    """The worst state of all; "ok" of none."""
    return max((part.state for part in parts), key=STATES.index, default="ok")


def with_stale_beats(
    parts: Sequence[PartHealth], now_ms: int, beat_ms_max: int
) -> list[PartHealth]:
    """The parts, those whose last beat is too old turned into errors."""
    return [
        part
        if now_ms - part.beat_ms <= beat_ms_max
        else PartHealth(
            part.name,
            "error",
            part.beat_ms,
            detail=f"no sign of life for {(now_ms - part.beat_ms) / 1000:.0f} s; {part.detail}",
            last_error=part.last_error,
            hint=part.hint or "docs/guides/operating.md#a-part-is-stuck",
            facts=part.facts,
        )
        for part in parts
    ]
