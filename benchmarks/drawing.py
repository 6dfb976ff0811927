"""What the figures have in common: SVG drawn by hand, so that it needs nothing.

Readable on a light page and on a dark one; the colours are few, so that ours is seen first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape

_STYLE = """
.page { fill: #ffffff }
text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px } .head { font-weight: 600 }
.small { font-size: 11px; fill: #57606a } .ours { font-weight: 600 }
.own { fill: #0969da } .bar { fill: #8c959f } .over { fill-opacity: .4 }
.open { fill: none; stroke: #8c959f; stroke-width: 1.2 }
.grid { stroke: #d8dee4; stroke-width: 1 }
.line { fill: none; stroke-width: 2 } .c0 { stroke: #0969da } .c1 { stroke: #bf8700 }
.c2 { stroke: #6e7781 } .f0 { fill: #0969da } .f1 { fill: #bf8700 } .f2 { fill: #6e7781 }
@media (prefers-color-scheme: dark) { .page { fill: #0d1117 } text { fill: #e6edf3 }
.small { fill: #9198a1 } .own { fill: #4493f8 } .bar { fill: #6e7681 } .open { stroke: #8b949e }
.grid { stroke: #30363d } .c0 { stroke: #4493f8 } .f0 { fill: #4493f8 } .c1 { stroke: #d29922 }
.f1 { fill: #d29922 } .c2 { stroke: #8b949e } .f2 { fill: #8b949e } }
"""


def svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    """A whole figure, with a margin."""
    outer_width, outer_height = f"{width + 24:.0f}", f"{height + 24:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -12 {outer_width} {outer_height}"'
        f' width="{outer_width}" height="{outer_height}" role="img" aria-label="{escape(label)}">'
        f"<style>{_STYLE}</style>"
        f'<rect class="page" x="-12" y="-12" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def text(x: float, y: float, what: str, kind: str = "", anchor: str = "start") -> str:
    """One line of text; `y` is its base line."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(what)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A bar, never too short to be seen."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1.5):.1f}"'
        f' height="{height:.1f}" rx="1.5"/>'
    )


class LogScale:
    """Where a value stands between two powers of ten."""

    def __init__(self, values: Iterable[float], length: float) -> None:
        found = [value for value in values if value > 0] or [1.0]
        self._low = math.floor(math.log10(min(found)) + 1e-9)
        self._high = max(math.ceil(math.log10(max(found)) - 1e-9), self._low + 1)
        self._length = length

    def at(self, value: float) -> float:
        """The distance from the low end."""
        if value <= 0:
            return 0.0
        return self._length * (math.log10(value) - self._low) / (self._high - self._low)

    def ticks(self) -> list[float]:
        """The powers of ten."""
        return [10.0**power for power in range(self._low, self._high + 1)]


class LinearScale:
    """Where a value stands between nothing and a round number."""

    def __init__(self, values: Iterable[float], length: float) -> None:
        most = max((value for value in values if value > 0), default=1.0)
        unit = 10.0 ** math.floor(math.log10(most))
        self._step = next(step for step in (0.25, 0.5, 1.0, 2.0) if most / unit / step <= 5) * unit
        self._steps = math.ceil(most / self._step - 1e-9)
        self._length = length

    def at(self, value: float) -> float:
        """The distance from nothing."""
        return self._length * value / (self._step * self._steps)

    def ticks(self) -> list[float]:
        """Round numbers."""
        return [self._step * number for number in range(self._steps + 1)]


def short(value: float) -> str:
    """A number in about three characters: 3.6 M, 35 k, 147, 8.2, 0.31."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * size:
            return f"{value / size:.{0 if value >= 9.95 * size else 1}f}{unit}".replace(".0 ", " ")
    if value >= 9.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"
