"""`make bench-overload`: ten times more than the service can carry, by several loads, and a soak.

Each part can be measured by itself (`--only`); a run that was cut off goes on with `--resume`.
Every sum is held against what was acknowledged before a part is kept."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import command
from benchmarks.command import say
from benchmarks.overload.flooding import measure_load
from benchmarks.overload.loads import LOADS
from benchmarks.overload.report import figure, page
from benchmarks.overload.soaking import measure_soak
from benchmarks.results import Results
from benchmarks.subject import SubjectFailed

_SOAK = "soak"


def measure_all(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Every part that the results do not hold."""
    results.found["name"] = options.name
    for name in options.only or (*LOADS, _SOAK):
        place = folder / name
        if name == _SOAK:
            kind, measure = "soaks", partial(measure_soak, options, place)
        else:
            kind, measure = "floods", partial(measure_load, LOADS[name], options, place)
        results.add(kind, {"load": name}, measure, say, (SubjectFailed,))
        shutil.rmtree(place, ignore_errors=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser_of(
        "python -m benchmarks.overload.run",
        "Puts ten times more on the service than it can carry, and half of it for long.",
        "latest-overload",
    )
    parser.set_defaults(seconds=60.0, warm_up=1.0)
    parser.add_argument("--only", nargs="+", choices=(*LOADS, _SOAK), help="what to measure")
    parser.add_argument("--peak-seconds", type=float, default=4.0, help="of each try at the peak")
    parser.add_argument("--calm-seconds", type=float, default=10.0, help="before and after a flood")
    parser.add_argument("--soak-seconds", type=float, default=600.0)
    parser.add_argument("--look-every", type=float, default=0.25, help="seconds, at the memory")
    parser.add_argument("--connections-max", type=int, default=4_000, help="of one kind of client")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    pages = {".md": page, ".svg": figure}
    command.run("bench-overload", parse(arguments), arguments, measure_all, pages)


if __name__ == "__main__":
    main()
