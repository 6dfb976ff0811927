"""What a curve is: points that are measured one by one, and how they are drawn and written down."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import chart
from benchmarks.drawing import short
from benchmarks.results import Line


class Point(NamedTuple):
    """One point of a curve: what it is told by, and how it is measured in a folder of its own."""

    what: Mapping[str, Any]
    measure: Callable[[Path], Mapping[str, Any]]


class Column(NamedTuple):
    """A column of the table."""

    title: str
    key: str
    scale: float = 1.0


class Axes(NamedTuple):
    """A panel of the figure: a line for each of `keys`, or for each value of `split_by`."""

    title: str
    keys: Mapping[str, str]
    """The key of each line's values, by the line's name."""
    split_by: str = ""
    log_y: bool = False


@dataclass(frozen=True)
class Curve:
    """One curve. Constructing it is inert."""

    name: str
    title: str
    about: str
    """How it was measured."""
    reason: str
    """Why it has the shape that it has."""
    x: Column
    columns: Sequence[Column]
    panels: Sequence[Axes]
    points: Callable[[argparse.Namespace, Path], Iterator[Point]]
    """All points, for these options; the folder is for what several of them share."""
    log_x: bool = True
    spread: Callable[[Sequence[Line]], list[Line]] = list
    """What is drawn and tabled of what was measured, where that is not the points themselves."""
    summary: Callable[[Sequence[Line]], str] = lambda lines: ""

    def figure(self, results: Line) -> str | None:
        """The figure; none where no point was measured."""
        lines = self._lines(results)
        if not lines:
            return None
        panels = [
            chart.Panel(axes.title, self._series(axes, lines), self.log_x, axes.log_y)
            for axes in self.panels
        ]
        return chart.figure(self.title, self.x.title, panels)

    def rows(self, results: Line) -> Iterator[tuple[str, ...]]:
        """The table's head, then a row for each point."""
        columns = (self.x, *self.columns)
        yield tuple(column.title for column in columns)
        for line in results.get(self.name, []):
            if "failed" in line:
                yield (
                    _cell(self.x, line),
                    f"failed: {line['failed'][:80]}",
                    *[""] * (len(columns) - 2),
                )
        for line in self._lines(results):
            yield tuple(_cell(column, line) for column in columns)

    def _lines(self, results: Line) -> list[Line]:
        return self.spread([line for line in results.get(self.name, []) if "failed" not in line])

    def _series(self, axes: Axes, lines: Sequence[Line]) -> list[chart.Series]:
        found = []
        for name, key in axes.keys.items():
            of = sorted({line[axes.split_by] for line in lines}) if axes.split_by else [None]
            for value in of:
                points = [
                    (line[self.x.key], line[key])
                    for line in lines
                    if value is None or line[axes.split_by] == value
                ]
                found.append(chart.Series(name.format(value=value), points))
        return found


def _cell(column: Column, line: Line) -> str:
    value = line.get(column.key, "")
    if not isinstance(value, int | float):
        return str(value)
    value /= column.scale
    if value >= 1_000 or value == int(value):
        return f"{value:,.0f}"
    return short(value) if value < 0.1 else f"{value:,.1f}"
