"""What the runs have in common as commands: their options, their progress, where results go."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.results import Results
from benchmarks.subject import ROOT

BATCH_RECORDS = (1, 100, 1_000, 10_000)
_RESULTS = ROOT / "benchmarks" / "results"
_SAME = ("seconds", "warm_up", "clients", "apps", "vpcs", "records_per_flow", "repeats", "small")
"""Options that every part of the same results was measured with."""


def parser_of(prog: str, description: str, name: str) -> argparse.ArgumentParser:
    """The options of every run; `name` is of the files that it writes."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run of posts, at least")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before that")
    parser.add_argument("--clients", type=int, default=2, help="processes that post")
    parser.add_argument("--apps", type=int, default=100, help="on each side of the hour read")
    parser.add_argument("--vpcs", type=int, default=5, help="of the hour read")
    parser.add_argument("--repeats", type=int, default=9, help="of each warm read")
    parser.add_argument("--name", default=name, help="of the files in the folder of results")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the folder for them")
    parser.add_argument("--folder", type=Path, default=None, help="for the data; a temporary one")
    parser.add_argument(
        "--resume", action="store_true", help="measure only what the results do not hold yet"
    )
    return parser


def run(
    target: str,
    options: argparse.Namespace,
    arguments: Sequence[str] | None,
    measure_all: Callable[[argparse.Namespace, Path, Results], None],
    pages: Mapping[str, Callable[[dict[str, Any]], str | None]],
) -> None:
    """Measures in a temporary folder, keeps the results as JSON after each part and, at the end,
    as each of the pages, by their names' ends; prints the one in Markdown. `target` is what `make`
    calls it."""
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    with (
        _ended_in_order(),
        tempfile.TemporaryDirectory(prefix="flowtally-bench-", dir=options.folder) as folder,
    ):
        results = begun(options, Path(folder))
        results.found.setdefault("command", f'make {target} ARGS="{given}"'.replace(' ARGS=""', ""))
        results.keep()
        measure_all(options, Path(folder), results)
    results.keep()
    for end, page in pages.items():
        if (text := page(results.found)) is not None:
            (options.results / f"{options.name}{end}").write_text(text)
    print(pages[".md"](results.found))


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """A run that is told to end leaves no server behind, and no folder."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def begun(options: argparse.Namespace, folder: Path) -> Results:
    """Results with nothing in them but the machine and the options; or, resumed, as they were left,
    with a note of where they go on."""
    path = options.results / f"{options.name}.json"
    same = {name: value for name, value in vars(options).items() if name in _SAME}
    if not options.resume or not path.exists():
        return Results(path, {"machine": machine(folder), "options": same, "resumed": []})
    found = json.loads(path.read_text())
    other = [name for name, value in same.items() if found["options"].get(name) != value]
    if other:
        raise SystemExit(f"{path} was measured with other values of {', '.join(other)}")
    now = machine(folder)
    found["resumed"].append({name: now[name] for name in ("commit", "load_before")})
    return Results(path, found)


def say(what: str) -> None:
    """A line of progress."""
    print(what, file=sys.stderr, flush=True)
