"""What the runs have in common as commands: their options, their progress, where results go."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.subject import ROOT

BATCH_RECORDS = (1, 100, 1_000, 10_000)
_RESULTS = ROOT / "benchmarks" / "results"


def parser_of(prog: str, description: str, name: str) -> argparse.ArgumentParser:
    """The options of every run; `name` is of the files that it writes."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run of posts")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before that")
    parser.add_argument("--clients", type=int, default=2, help="processes that post")
    parser.add_argument("--batch-records", type=int, nargs="+", default=BATCH_RECORDS)
    parser.add_argument("--apps", type=int, default=100, help="on each side of the hour read")
    parser.add_argument("--vpcs", type=int, default=5, help="of the hour read")
    parser.add_argument("--repeats", type=int, default=9, help="of each warm read")
    parser.add_argument("--name", default=name, help="of the files in benchmarks/results")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the folder for them")
    parser.add_argument("--folder", type=Path, default=None, help="for the data; a temporary one")
    return parser


def run(
    target: str,
    options: argparse.Namespace,
    arguments: Sequence[str] | None,
    measure_all: Callable[[argparse.Namespace, Path], dict[str, Any]],
    pages: Mapping[str, Callable[[dict[str, Any]], str]],
) -> None:
    """Measures in a temporary folder, keeps the results as JSON and as each of the pages, by their
    suffix, and prints the one in Markdown. `target` is what `make` calls it."""
    with tempfile.TemporaryDirectory(prefix="flowtally-bench-", dir=options.folder) as folder:
        results = measure_all(options, Path(folder))
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    results["command"] = f'make {target} ARGS="{given}"' if given else f"make {target}"
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{options.name}.json").write_text(json.dumps(results, indent=2) + "\n")
    for suffix, page in pages.items():
        (options.results / f"{options.name}.{suffix}").write_text(page(results))
    print(pages["md"](results))


def say(what: str) -> None:
    """A line of progress."""
    print(what, file=sys.stderr, flush=True)
