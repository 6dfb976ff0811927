"""`make bench`: the same work given to Flowtally and to the service everyone writes first.

Each size of batch is posted to a fresh service on an empty folder, acknowledged = synced, over
each of the numbers of connections, of which the best counts; the sums are held against what was
sent, and only then is a figure kept. Prints a table and writes it to `benchmarks/results/`, with
machine, versions, commit and command.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.clients import Posting, measure, over_http
from benchmarks.command import say
from benchmarks.report import table
from benchmarks.results import Results
from benchmarks.subject import SUBJECTS, Running, Subject, assert_sums, disk_bytes, running
from benchmarks.traffic import HOUR_OF_READS, Pool, Record, body_of, hour_of_flows, summed

_POST_RECORDS = 10_000


def measure_writes(
    subject: Subject, pool: Pool, bodies: Path, posting: Posting, folder: Path
) -> dict[str, Any]:
    """Posts batches of one size for a while, and checks every sum."""
    with running(subject, folder) as started:
        empty_bytes = _beside_bytes(started)
        measured, seen = measure(over_http(started), pool.batch_records, bodies, posting)
        expected = pool.sums(seen.times)
        started.settle()
        assert_sums(started, expected)
    flows = len(expected)
    written = disk_bytes(started.data) - empty_bytes
    return {
        **asdict(measured),
        "flows": flows,
        "disk_bytes": written,
        "disk_bytes_per_flow": written / flows,
        "disk_bytes_per_record": written / (sum(seen.times) * pool.batch_records),
    }


def measure_reads(
    subject: Subject, records: Sequence[Record], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Reads one hour of many flows: after restarts, after each change, and unchanged."""
    with running(subject, folder) as started:
        empty_bytes = _beside_bytes(started)
        post_hour(started, records)
    written = disk_bytes(started.data) - empty_bytes
    cold_s = []
    for _ in range(options.restarts - 1):
        with running(subject, folder) as started:
            cold_s.append(timed_read(started))
    with running(subject, folder) as started:
        cold_s.append(timed_read(started))
        warm = warm_reads(started, records, options.repeats)
    return {
        "flows": len(set(records)),
        "disk_bytes_per_flow": written / len(records),
        "cold_ms": median_ms(cold_s),
        **warm,
    }


def _beside_bytes(started: Running) -> int:
    """What is on the disk of an empty service and is no part of the flows' share: the system tables
    of a database server that it needs."""
    return disk_bytes(started.data) if started.subject.pids else 0


def post_hour(started: Running, records: Sequence[Record]) -> None:
    """Posts the hour that is read, and checks it."""
    for body in bodies_of(records):
        started.post(body)
    started.settle()
    assert_sums(started, summed((record, 1) for record in records))


def warm_reads(started: Running, records: Sequence[Record], repeats: int) -> dict[str, float]:
    """Reads of that hour, each after a change and then unchanged; checks what was read at last."""
    changed_s = []
    for _ in range(repeats):
        started.post(body_of(records[:1]))
        started.settle()
        changed_s.append(timed_read(started))
    unchanged_s = [timed_read(started) for _ in range(repeats)]
    expected = [(record, 1) for record in records]
    expected[0] = (records[0], 1 + repeats)
    assert_sums(started, summed(expected))
    return {"changed_ms": median_ms(changed_s), "unchanged_ms": median_ms(unchanged_s)}


def bodies_of(records: Sequence[Record]) -> list[bytes]:
    """The hour that is read, in batches."""
    return [
        body_of(records[start : start + _POST_RECORDS])
        for start in range(0, len(records), _POST_RECORDS)
    ]


def timed_read(started: Running) -> float:
    """How long a read of the large hour takes, on a new connection."""
    began_s = time.perf_counter()
    started.sums(HOUR_OF_READS)
    return time.perf_counter() - began_s


def median_ms(waits_s: Sequence[float]) -> float:
    """The median of some waits."""
    return 1000 * sorted(waits_s)[len(waits_s) // 2]


def measure_all(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Every part that the results do not hold."""
    for batch_records in options.batch_records:
        pool = Pool(batch_records)
        bodies = folder / f"bodies-{batch_records}"
        pool.write(bodies)
        for subject, connections in product(SUBJECTS, options.connections):
            posting = Posting(options.clients, connections, options.warm_up, options.seconds)
            place = folder / f"{subject.name}-{batch_records}-{connections}"
            results.add(
                "writes",
                {
                    "who": subject.name,
                    "batch_records": batch_records,
                    "connections": connections,
                },
                partial(measure_writes, subject, pool, bodies, posting, place),
                say,
            )
    records = hour_of_flows(options.apps, options.vpcs)
    for subject in SUBJECTS:
        place = folder / f"{subject.name}-reads"
        results.add(
            "reads",
            {"who": subject.name},
            partial(measure_reads, subject, records, options, place),
            say,
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser_of(
        "python -m benchmarks.run",
        "Measures Flowtally beside the service everyone writes first.",
        "latest",
    )
    parser.add_argument("--batch-records", type=int, nargs="+", default=command.BATCH_RECORDS)
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        default=[8, 64],
        help="of all clients together; of several, the best counts",
    )
    parser.add_argument("--restarts", type=int, default=3, help="each with one cold read")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    command.run("bench", parse(arguments), arguments, measure_all, {".md": table})


if __name__ == "__main__":
    main()
