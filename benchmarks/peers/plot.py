"""The figure of a run beside peers, as SVG: records a second by batch size, on a log scale.

Drawn by hand, so that it needs nothing; readable on a light page and on a dark one.
"""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

_LEFT, _TOP, _ROW, _GAP, _WIDTH = 150, 46, 18, 26, 560
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.own { fill: #0969da } .bar { fill: #8c959f }
.head { font-weight: 600 } .grid { stroke: #d0d7de } .figure { fill: #57606a }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .own { fill: #4493f8 }
.bar { fill: #6e7681 } .grid { stroke: #30363d } .figure { fill: #9198a1 } }
"""


def plot(results: dict[str, Any]) -> str:
    """One group of bars for each batch size, one bar for each peer, longest first."""
    rates = [
        sorted(((line[name]["records_per_s"], name) for name in results["peers"]), reverse=True)
        for line in results["writes"]
    ]
    found = [rate for group in rates for rate, _ in group if rate > 0]
    low = math.floor(math.log10(min(found)))
    high = max(math.ceil(math.log10(max(found))), low + 1)

    def at(rate: float) -> float:
        return _WIDTH * (math.log10(rate) - low) / (high - low) if rate > 0 else 0.0

    parts: list[str] = []
    top = _TOP
    for line, group in zip(results["writes"], rates, strict=True):
        parts.append(_text(0, top, f"{line['batch_records']:,} records a batch", "head"))
        for number, (rate, name) in enumerate(group):
            parts += _bar(top + 8 + number * _ROW, name, rate, at(rate))
        top += 8 + len(group) * _ROW + _GAP
    grid = [
        f'<line class="grid" x1="{x:.0f}" x2="{x:.0f}" y1="{_TOP - 14}" y2="{top - _GAP}"/>'
        + _text(x, _TOP - 20, f"{10**power:,}", "figure", "middle")
        for power in range(low, high + 1)
        for x in [_LEFT + at(10.0**power)]
    ]
    title = _text(0, 14, "Records a second, summed and acknowledged (log scale)", "head")
    width = _LEFT + _WIDTH + 90
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {width} {top}" width="{width}"'
        f' role="img" aria-label="Records a second of each peer by batch size">'
        f"<style>{_STYLE}</style>{title}{''.join(grid)}{''.join(parts)}</svg>\n"
    )


def _bar(top: float, name: str, rate: float, length: float) -> list[str]:
    kind = "own" if name.startswith("flowtally") else "bar"
    return [
        _text(_LEFT - 8, top + 12, name, "", "end"),
        f'<rect class="{kind}" x="{_LEFT}" y="{top + 2}" width="{max(length, 1):.1f}"'
        ' height="13"/>',
        _text(_LEFT + length + 5, top + 12, f"{rate:,.0f}" if rate else "failed", "figure"),
    ]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
