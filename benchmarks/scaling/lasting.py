"""The points of two curves: a load that lasts, and one that comes at half the rate of the most.

The second is held against DuckDB's commit alone on the same disk, measured by this module as a
process of its own: `python -m benchmarks.scaling.lasting`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.clients import Posting, measure, over_http
from benchmarks.peers.peer import FIELDS, columns_of
from benchmarks.results import Line
from benchmarks.run import measure_writes
from benchmarks.subject import FLOWTALLY, ROOT, Running, SubjectFailed, assert_sums, running
from benchmarks.traffic import Pool

_WINDOW_S = 10.0
_LOOK_EVERY_S = 0.2
_HALF_LOAD_CONNECTIONS = 64
"""More than are ever busy at half load: none that is due waits for a connection."""
_BATCHES_ALONE_MAX = 1_000
"""Made into columns beforehand, and committed in turn."""
_TABLE = (
    "CREATE TABLE flows (src_app VARCHAR, dest_app VARCHAR, vpc_id VARCHAR, hour INTEGER,"
    " bytes_rx BIGINT, bytes_tx BIGINT)"
)


class _Compactions:
    """Asks the service, while a load runs, how often it has compacted; remembers when that grew."""

    def __init__(self, started: Running) -> None:
        self._started = started
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.spans: list[tuple[float, float]] = []
        """Each in which one ended, on the monotonic clock."""

    def __enter__(self) -> _Compactions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        before, before_s = self._count(), time.monotonic()
        while not self._stop.wait(_LOOK_EVERY_S):
            count, now_s = self._count(), time.monotonic()
            if count > before:
                self.spans.append((before_s, now_s))
            before, before_s = count, now_s

    def _count(self) -> int:
        return int(self._started.facts("applier").get("compactions", 0))


def measure_lasting(
    batch_records: int, connections: int, seconds: float, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """A load as fast as it goes for a long time, told in windows of ten seconds."""
    pool = Pool(batch_records)
    folder.mkdir(parents=True, exist_ok=True)
    bodies = folder / "bodies"
    pool.write(bodies)
    posting = Posting(options.clients, connections, options.warm_up, seconds)
    with running(FLOWTALLY, folder) as started:
        with _Compactions(started) as compactions:
            measured, seen = measure(over_http(started), batch_records, bodies, posting)
        assert_sums(started, pool.sums(seen.times))
    acks = sorted(zip(seen.ends_s, seen.waits_s, strict=True))
    windows = windows_between(acks, seen.begun_s, seconds, batch_records, compactions.spans)
    third = max(1, len(windows) // 3)
    first, last = (
        sum(window["records_per_s"] for window in some) / third
        for some in (windows[:third], windows[-third:])
    )
    busy = [window for window in windows if window["compactions"]]
    return {
        "seconds": measured.seconds,
        "records_per_s": measured.records_per_s,
        "drift": last / first - 1 if first else 0.0,
        "worst_ms": measured.worst_ms,
        "silence_ms": max(window["silence_ms"] for window in windows),
        "compacting_worst_ms": max((window["worst_ms"] for window in busy), default=0.0),
        "compacting_silence_ms": max((window["silence_ms"] for window in busy), default=0.0),
        "compactions": len(compactions.spans),
        "memory_bytes_highest": measured.memory_bytes_highest,
        "windows": windows,
    }


def windows_between(
    acks: Sequence[tuple[float, float]],
    begun_s: float,
    seconds: float,
    batch_records: int,
    compacted: Sequence[tuple[float, float]],
) -> list[Line]:
    """The acknowledgements in the order in which they came, by windows; the silence before each
    belongs to the window in which it ends."""
    length_s = min(_WINDOW_S, seconds)
    count = max(1, int(seconds / length_s))
    waits: list[list[float]] = [[] for _ in range(count)]
    silences = [0.0] * count
    before_s = begun_s
    for end_s, wait_s in acks:
        number = min(int((end_s - begun_s) / length_s), count - 1)
        silences[number] = max(silences[number], end_s - before_s)
        before_s = end_s
        # What comes after the window is over would make the last one look faster than it was.
        if end_s <= begun_s + count * length_s:
            waits[number].append(wait_s)
    found = []
    for number, of in enumerate(waits):
        from_s = begun_s + number * length_s
        of.sort()
        found.append(
            {
                "at_s": (number + 1) * length_s,
                "records_per_s": len(of) * batch_records / length_s,
                "p50_ms": 1000 * of[len(of) // 2] if of else 0.0,
                "p99_ms": 1000 * of[int(len(of) * 0.99)] if of else 0.0,
                "worst_ms": 1000 * of[-1] if of else 0.0,
                "silence_ms": 1000 * silences[number],
                "compactions": sum(
                    begin_s < from_s + length_s and end_s > from_s for begin_s, end_s in compacted
                ),
            }
        )
    return found


def windows_of(lines: Sequence[Line]) -> list[Line]:
    """The windows of a run, as the points that are drawn."""
    return [window for line in lines for window in line["windows"]]


def said_of_lasting(lines: Sequence[Line]) -> str:
    """The run as a whole."""
    return "\n".join(
        f"In {line['seconds']:,.0f} s: {line['records_per_s']:,.0f} records/s; the last third was"
        f" {100 * line['drift']:+.1f} % beside the first. {line['compactions']} compactions. The"
        f" longest time in which no batch was acknowledged: {line['silence_ms']:,.0f} ms, and"
        f" {line['compacting_silence_ms']:,.0f} ms in windows with a compaction. The slowest single"
        f" acknowledgement: {line['worst_ms']:,.0f} ms, and {line['compacting_worst_ms']:,.0f} ms"
        f" with a compaction."
        for line in lines
    )


def measure_half_load(
    batch_records: int, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """The most that is taken; then half of it at fixed times; and DuckDB's commits alone."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = Pool(batch_records)
    bodies = folder / "bodies"
    pool.write(bodies)
    alone = commits_alone(bodies, options.seconds, folder / "alone.duckdb")
    tried = [
        measure_writes(
            FLOWTALLY,
            pool,
            bodies,
            Posting(options.clients, connections, options.warm_up, options.seconds),
            folder / f"most-{connections}",
        )
        for connections in options.half_load_connections
    ]
    most = max(one["records_per_s"] for one in tried)
    posting = Posting(options.clients, _HALF_LOAD_CONNECTIONS, options.warm_up, options.seconds)
    half = replace(posting, batches_per_s=most / batch_records / 2)
    found = measure_writes(FLOWTALLY, pool, bodies, half, folder / "half")
    return {
        "most_records_per_s": most,
        **{key: found[key] for key in ("records_per_s", "p50_ms", "p99_ms", "worst_ms")},
        **{f"duckdb_{key}": value for key, value in alone.items()},
        "ratio": found["p99_ms"] / alone["p99_ms"],
    }


def commits_alone(bodies: Path, seconds: float, file: Path) -> dict[str, float]:
    """How long DuckDB takes to append and commit a batch's sums, with the disk to itself."""
    command = [sys.executable, "-m", "benchmarks.scaling.lasting", str(bodies), str(seconds)]
    ended = subprocess.run([*command, str(file)], cwd=ROOT, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SubjectFailed(f"DuckDB alone: {ended.stderr[-2000:]}")
    waits_s = sorted(json.loads(ended.stdout))
    return {
        "p50_ms": 1000 * waits_s[len(waits_s) // 2],
        "p99_ms": 1000 * waits_s[int(len(waits_s) * 0.99)],
        "worst_ms": 1000 * waits_s[-1],
    }


def _commit(bodies: Path, seconds: float, file: Path) -> list[float]:
    """The waits of single commits, one after the other; what comes before them is not counted."""
    database = duckdb.connect(str(file))
    database.execute(_TABLE)
    batches = [
        pa.table(dict(zip(FIELDS, columns_of(body), strict=True)))
        for body in bodies.read_bytes().split(b"\n")[:_BATCHES_ALONE_MAX]
    ]
    waits_s: list[float] = []
    end_s = time.monotonic() + seconds
    while not waits_s or time.monotonic() < end_s:
        database.register("batch", batches[len(waits_s) % len(batches)])
        began_s = time.perf_counter()
        database.execute("INSERT INTO flows SELECT * FROM batch").fetchall()
        waits_s.append(time.perf_counter() - began_s)
    return waits_s


if __name__ == "__main__":
    print(json.dumps(_commit(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))))
