"""The page of the curves, as Markdown."""

from __future__ import annotations

from benchmarks.report import rows, where
from benchmarks.results import Line
from benchmarks.scaling.curve import Curve
from benchmarks.scaling.curves import CURVES


def page(results: Line) -> str:
    """Each curve that was measured: its figure, why it has that shape, its table."""
    sections = "\n".join(
        _section(curve, results) for curve in CURVES.values() if results.get(curve.name)
    )
    return f"""# How Flowtally's figures grow

`flowtally serve` as it comes, on an empty folder for each point; acknowledged = synced. Server and
clients share the machine. Every sum was held against what was sent.

{sections}
{rows(("where", ""), where(results))}
"""


def _section(curve: Curve, results: Line) -> str:
    head, *lines = curve.rows(results)
    summary = curve.summary([line for line in results[curve.name] if "failed" not in line])
    figure = f"![{curve.title}]({results['name']}-{curve.name}.svg)\n\n"
    return f"""## {curve.title}

{figure if curve.figure(results) else ""}{curve.about}

Why it has this shape: {curve.reason}
{summary and f"{chr(10)}{summary}{chr(10)}"}
{rows(head, lines)}
"""
