"""`make bench-scaling`: each curve by points, kept one by one; a page, and a figure for each curve.

A curve can be measured by itself (`--only`), and a run that was cut off goes on with `--resume`.
Every sum is held against what was sent before a point is kept.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import command
from benchmarks.command import say
from benchmarks.results import Results
from benchmarks.scaling.curves import CURVES
from benchmarks.scaling.report import page
from benchmarks.subject import SubjectFailed


def measure_all(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Every point that the results do not hold."""
    results.found["name"] = options.name
    for name in options.only or CURVES:
        for number, point in enumerate(CURVES[name].points(options, folder)):
            place = folder / f"{name}-{number}"
            results.add(name, point.what, partial(point.measure, place), say, (SubjectFailed,))
            shutil.rmtree(place, ignore_errors=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser_of(
        "python -m benchmarks.scaling.run",
        "Measures how Flowtally's figures grow with flows, batches, connections, hours and time.",
        "latest-scaling",
    )
    parser.add_argument("--only", nargs="+", choices=CURVES, help="the curves to measure")
    parser.add_argument("--small", action="store_true", help="few and small points, as a trial")
    parser.add_argument("--long-seconds", type=float, default=600.0, help="of the run that lasts")
    parser.add_argument(
        "--half-load-connections",
        type=int,
        nargs="+",
        default=[8, 64],
        help="with which the most is looked for that is taken",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    figures = {f"-{name}.svg": curve.figure for name, curve in CURVES.items()}
    command.run("bench-scaling", parse(arguments), arguments, measure_all, {".md": page, **figures})


if __name__ == "__main__":
    main()
