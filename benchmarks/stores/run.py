"""`make bench-stores`: the same work on each store, and on the service everyone writes first.

Ingest at four sizes of batch, reads of an hour of 50,000 flows, memory, disk, and what a kill
loses. A store that this program does not know, or whose database is not installed, is left out and
named.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.clients import Posting
from benchmarks.command import say
from benchmarks.peers.peer import Missing
from benchmarks.results import Results
from benchmarks.run import measure_reads, measure_writes, post_hour, warm_reads
from benchmarks.stores.killing import measure_kills
from benchmarks.stores.known import STORES, Store
from benchmarks.stores.report import page
from benchmarks.subject import Subject, SubjectFailed, running
from benchmarks.traffic import Pool, Record, hour_of_flows

_FAULTS = (SubjectFailed, OSError, subprocess.SubprocessError)


def measure_all(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Every part that the results do not hold."""
    found = results.found
    found["stores"], found["left_out"] = {}, {}
    chosen = []
    for name in options.only or STORES:
        try:
            STORES[name].check()
        except Missing as error:
            found["left_out"][name] = str(error)
            say(f"{name} is left out: {error}")
        else:
            found["stores"][name] = STORES[name].subject.about
            chosen.append(STORES[name])
    for size in options.batch_records:
        pool = Pool(size)
        bodies = folder / f"bodies-{size}"
        pool.write(bodies)
        for store in chosen:
            for connections in options.connections:
                posting = Posting(options.clients, connections, options.warm_up, options.seconds)
                place = folder / f"{store.subject.name}-{size}-{connections}"
                what = {"batch_records": size, "connections": connections}
                write = partial(
                    measure_writes, pool=pool, bodies=bodies, posting=posting, folder=place
                )
                _add(results, "writes", store, what, write, place)
    # What agents report again and again: each pass is in batches of its own.
    records = hour_of_flows(options.apps, options.vpcs) * options.records_per_flow
    for store in chosen:
        place = folder / f"{store.subject.name}-reads"
        reads = measure_reads if store.keeps else measure_warm_reads
        read = partial(reads, records=records, options=options, folder=place)
        _add(results, "reads", store, {}, read, place)
    for store in chosen:
        place = folder / f"{store.subject.name}-kills"
        kill = partial(
            measure_kills, kills=options.kills, seconds_max=options.kill_after, folder=place
        )
        _add(results, "kills", store, {}, kill, place)


def _add(
    results: Results,
    kind: str,
    store: Store,
    what: dict[str, Any],
    measure: Callable[[Subject], dict[str, Any]],
    place: Path,
) -> None:
    def measured() -> dict[str, Any]:
        with store.placed(place) as subject:
            return measure(subject)

    results.add(kind, {"who": store.subject.name, **what}, measured, say, _FAULTS)


def measure_warm_reads(
    subject: Subject, records: Sequence[Record], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Reads of what keeps nothing over a restart."""
    with running(subject, folder) as started:
        post_hour(started, records)
        return {"flows": len(set(records)), **warm_reads(started, records, options.repeats)}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser_of(
        "python -m benchmarks.stores.run",
        "Measures what each store gives and costs.",
        "latest-stores",
    )
    parser.add_argument("--batch-records", type=int, nargs="+", default=command.BATCH_RECORDS)
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[8, 64], help="of several, the best counts"
    )
    parser.add_argument("--only", nargs="+", choices=STORES, help="the stores to measure")
    parser.add_argument(
        "--records-per-flow",
        type=int,
        default=4,
        help="of the hour that is read, in as many batches",
    )
    parser.add_argument("--restarts", type=int, default=3, help="each with one cold read")
    parser.add_argument("--kills", type=int, default=5, help="of each store")
    parser.add_argument("--kill-after", type=float, default=6.0, help="seconds, at most")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    command.run("bench-stores", parse(arguments), arguments, measure_all, {".md": page})


if __name__ == "__main__":
    main()
