"""Lines over an axis, as panels of one figure: what the scaling curves are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import drawing
from benchmarks.drawing import LinearScale, LogScale, short

_WIDTH, _HEIGHT, _LEFT, _GAP = 214, 130, 44, 22
_TOP = 62
_TICKS_X_MAX = 6


class Series(NamedTuple):
    """One line."""

    name: str
    points: Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """What is drawn in one pair of axes."""

    title: str
    series: Sequence[Series]
    log_x: bool = True
    log_y: bool = False


def figure(title: str, x_label: str, panels: Sequence[Panel]) -> str:
    """A figure of some panels side by side, over the same axis."""
    parts = [drawing.text(0, 4, title, "title")]
    for number, panel in enumerate(panels):
        parts += _drawn(_LEFT + number * (_LEFT + _WIDTH + _GAP), panel, x_label)
    width = max(len(panels) * (_LEFT + _WIDTH + _GAP) - _GAP, 8 * len(title))
    return drawing.svg(width, _TOP + _HEIGHT + 36, title, parts)


def _drawn(left: float, panel: Panel, x_label: str) -> list[str]:
    xs = sorted({x for series in panel.series for x, _ in series.points})
    ys = [y for series in panel.series for _, y in series.points]
    x_scale = (LogScale if panel.log_x else LinearScale)(xs, _WIDTH)
    y_scale = (LogScale if panel.log_y else LinearScale)(ys, _HEIGHT)
    bottom = _TOP + _HEIGHT
    parts = [drawing.text(left - _LEFT + 6, 30, panel.title, "head")]
    parts += _legend(left, panel.series)
    for tick in y_scale.ticks():
        y = bottom - y_scale.at(tick)
        parts.append(drawing.line(left, y, left + _WIDTH, y))
        parts.append(drawing.text(left - 6, y + 4, short(tick), "small", "end"))
    for tick in _thinned(x_scale.ticks()):
        x = left + x_scale.at(tick)
        parts.append(drawing.line(x, bottom, x, bottom + 4))
        parts.append(drawing.text(x, bottom + 17, short(tick), "small", "middle"))
    parts.append(drawing.text(left + _WIDTH / 2, bottom + 33, x_label, "small", "middle"))
    for number, series in enumerate(panel.series):
        places = [(left + x_scale.at(x), bottom - y_scale.at(y)) for x, y in sorted(series.points)]
        parts += _line(places, number)
    return parts


def _legend(left: float, series: Sequence[Series]) -> list[str]:
    """The names of the lines, in their colours; one alone needs none."""
    parts: list[str] = []
    x = left
    for number, one in enumerate(series if len(series) > 1 else ()):
        parts.append(f'<circle class="f{number}" cx="{x + 4:.1f}" cy="{_TOP - 17}" r="4"/>')
        parts.append(drawing.text(x + 11, _TOP - 13, one.name, "small"))
        x += 24 + 6.2 * len(one.name)
    return parts


def _line(places: Sequence[tuple[float, float]], number: int) -> list[str]:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [
        f'<circle class="f{number}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
        for x, y in (places if len(places) <= 30 else ())
    ]
    return [f'<polyline class="line c{number}" points="{joined}"/>', *dots]


def _thinned(ticks: Sequence[float]) -> Sequence[float]:
    """So few that their labels do not touch."""
    return ticks[:: -(-len(ticks) // _TICKS_X_MAX)]
