"""Puts one load on one service: its peak first, then ten times as much, then nothing.

A few small batches are posted at a steady rate before, during and after (the probe): how soon they
are acknowledged says what is normal, and when it is so again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import BUFFERED
from benchmarks.overload.bound import memory_bytes_bound
from benchmarks.overload.flood import Flooded
from benchmarks.overload.loads import TIMES, Clients, Load
from benchmarks.overload.watching import Watch, look
from benchmarks.processes import Memory
from benchmarks.results import Line
from benchmarks.subject import FLOWTALLY, ROOT, Running, SubjectFailed, assert_sums, running
from benchmarks.traffic import ExpectedSums, Pool

BEGIN_IN_S = 2.0
"""Long enough for every process to have read its bodies."""
_PROCESSES = 2
_PROBES_PER_S = 50.0
_PROBE_RECORDS = 1
_CONNECTIONS_OF_PROBE = 64
_NORMAL_TIMES = 1.5
"""How much slower than the slowest second before the flood still counts as normal."""
_NORMAL_FOR_S = 5
"""For how many seconds in a row it must be so."""


@dataclass(frozen=True)
class Flow:
    """A number of clients that do the same, for some time."""

    clients: Clients
    connections: int
    rate: float | None = None
    processes: int = _PROCESSES


class Bodies:
    """The pools that are posted from, and how often each batch was acknowledged so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pools: dict[int, Pool] = {}
        self._times: dict[int, list[int]] = {}

    def path(self, batch_records: int) -> Path:
        """The bodies of one size."""
        path = self._folder / f"bodies-{batch_records}"
        if batch_records not in self._pools:
            pool = self._pools[batch_records] = Pool(batch_records)
            self._times[batch_records] = [0] * len(pool.batches)
            pool.write(path)
        return path

    def count(self, batch_records: int) -> int:
        """How many bodies of this size there are."""
        self.path(batch_records)
        return len(self._pools[batch_records].batches)

    def note(self, batch_records: int, times: Sequence[int]) -> None:
        """Adds what was acknowledged."""
        before = self._times[batch_records]
        self._times[batch_records] = [sum(pair) for pair in zip(before, times, strict=True)]

    def sums(self) -> ExpectedSums:
        """What the service must hold."""
        found: ExpectedSums = {}
        for batch_records, pool in self._pools.items():
            for key, (rx, tx) in pool.sums(self._times[batch_records]).items():
                before = found.get(key, (0, 0))
                found[key] = (before[0] + rx, before[1] + tx)
        return found


def measure_load(load: Load, options: argparse.Namespace, folder: Path) -> Line:
    """Peak, flood, rest and sums of one load, on a service of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    bodies = Bodies(folder)
    with running(FLOWTALLY, folder) as started:
        pid = started.process.pid
        idle_bytes = look(pid).memory_bytes
        peaks = [peak_of(clients, options, started, bodies) for clients in load.clients]
        flows = [
            _flow(clients, best, options) for clients, best in zip(load.clients, peaks, strict=True)
        ]
        with Watch(pid, options.look_every) as watch:
            line = _flood(flows, options, started, bodies)
        duckdb_bytes = int(started.facts("applier")["duckdb_memory_bytes"])
        found = checked_sums(started, bodies)
        line |= {
            "peaks": peaks,
            "connections": sum(flow.connections for flow in flows),
            "goodput_ratio": sum(
                line["records_per_s_of_batches"][str(best["batch_records"])] / best["records_per_s"]
                for best in peaks
            ),
            "memory_bytes_idle": idle_bytes,
            "memory_bytes_of_duckdb": duckdb_bytes,
            "memory_bytes_bound": memory_bytes_bound(idle_bytes) + duckdb_bytes,
            "memory_bytes_highest": Memory([pid]).highest_bytes(),
            "descriptors_highest": max(sample.descriptors for sample in watch.samples),
            "threads_highest": max(sample.threads for sample in watch.samples),
            "flows_checked": found,
        }
    return line


def peak_of(
    clients: Clients, options: argparse.Namespace, started: Running, bodies: Bodies
) -> Line:
    """What is acknowledged to such clients, in the number that is served best, and nobody else."""
    tried = []
    for connections in clients.tried:
        begin_s = time.monotonic() + BEGIN_IN_S
        seconds = options.warm_up + options.peak_seconds
        flows = [Flow(clients, connections)]
        with _clients(flows, begin_s, seconds, started, bodies) as processes:
            seen = _seen(processes, bodies)
        acks = _between(seen, begin_s + options.warm_up, begin_s + seconds)
        tried.append(
            {
                "batch_records": clients.batch_records,
                "connections": connections,
                "records_per_s": sum(records for _, _, records in acks) / options.peak_seconds,
                "batches_per_s": len(acks) / options.peak_seconds,
                "p99_ms": 1000 * quantile([wait_s for _, wait_s, _ in acks], 0.99),
            }
        )
    best: Line = max(tried, key=lambda one: one["records_per_s"])
    return {**best, "tried": tried}


def _flow(clients: Clients, best: Line, options: argparse.Namespace) -> Flow:
    connections = clients.connections or TIMES * best["connections"]
    connections = min(connections, options.connections_max)
    rate = TIMES * best["batches_per_s"] if clients.is_open_loop else None
    return Flow(clients, connections, rate)


def _flood(
    flows: Sequence[Flow], options: argparse.Namespace, started: Running, bodies: Bodies
) -> Line:
    begin_s = time.monotonic() + BEGIN_IN_S + options.calm_seconds
    end_s = begin_s + options.seconds
    probe = Flow(Clients(_PROBE_RECORDS, ()), _CONNECTIONS_OF_PROBE, _PROBES_PER_S, processes=1)
    probed_s = options.seconds + 2 * options.calm_seconds + _NORMAL_FOR_S
    with (
        _clients([probe], begin_s - options.calm_seconds, probed_s, started, bodies) as probing,
        _clients(flows, begin_s, options.seconds, started, bodies) as flooding,
    ):
        seen = _seen(flooding, bodies)
        [(_, probes)] = _seen(probing, bodies)
    acks = _between(seen, begin_s, end_s)
    of_flood = [one for _, one in seen]
    refusals = [refusal for one in of_flood for refusal in one.refusals]
    by_status: dict[str, int] = {}
    for _, _, status in refusals:
        by_status[str(status)] = by_status.get(str(status), 0) + 1
    per_second = [0] * max(1, int(options.seconds))
    of_batches = {str(flow.clients.batch_records): 0.0 for flow in flows}
    for at_s, _, records in acks:
        per_second[min(int(at_s - begin_s), len(per_second) - 1)] += records
        of_batches[str(records)] += records / options.seconds
    waits_s = [wait_s for _, wait_s, _ in acks]
    refused_s = [wait_s for _, wait_s, _ in refusals]
    return {
        "seconds": options.seconds,
        "records_per_s": sum(per_second) / options.seconds,
        "records_in_second": per_second,
        "records_per_s_of_batches": of_batches,
        "batches": len(acks),
        "p50_ms": 1000 * quantile(waits_s, 0.5),
        "p99_ms": 1000 * quantile(waits_s, 0.99),
        "refused": by_status,
        "refused_p50_ms": 1000 * quantile(refused_s, 0.5),
        "refused_p99_ms": 1000 * quantile(refused_s, 0.99),
        "refused_worst_ms": 1000 * max(refused_s, default=0.0),
        **{
            key: sum(getattr(one, key) for one in (*of_flood, probes))
            for key in ("without_retry_after", "lost", "not_connected", "left_out", "sent_again")
        },
        **recovery(probes, begin_s, end_s, options.calm_seconds),
    }


def recovery(probes: Flooded, begin_s: float, end_s: float, calm_s: float) -> Line:
    """What the probe says: how slow its slowest second was before, and how long after the flood it
    takes until no second is much slower any more; None where that was not seen."""
    before = [wait_s for at_s, wait_s, _ in probes.acks if at_s < begin_s]
    normal_s = max(
        (
            quantile([wait for at, wait, _ in probes.acks if from_s <= at < from_s + 1], 0.99)
            for from_s in (begin_s - number for number in range(1, max(2, int(calm_s))))
        ),
        default=0.0,
    )
    normal_s = max(normal_s, quantile(before, 0.99))
    seconds = int(calm_s) + _NORMAL_FOR_S
    after: list[list[float]] = [[] for _ in range(seconds)]
    for at_s, wait_s, _ in probes.acks:
        # By when it was sent: one that the flood held up is no sign of what came later.
        if 0 <= (number := int(at_s - wait_s - end_s)) < seconds and at_s - wait_s >= end_s:
            after[number].append(wait_s)
    p99_s = [quantile(waits, 0.99) if waits else float("inf") for waits in after]
    good = [wait_s <= _NORMAL_TIMES * normal_s for wait_s in p99_s]
    normal_after = next(
        (
            number
            for number in range(seconds - _NORMAL_FOR_S + 1)
            if all(good[number : number + _NORMAL_FOR_S])
        ),
        None,
    )
    during = [wait_s for at_s, wait_s, _ in probes.acks if begin_s <= at_s < end_s]
    return {
        "normal_p99_ms": 1000 * normal_s,
        "probe_p99_ms": 1000 * quantile(during, 0.99),
        "after_p99_ms": [1000 * wait_s if wait_s < 1e9 else None for wait_s in p99_s],
        "normal_after_s": normal_after,
    }


@contextmanager
def _clients(
    flows: Sequence[Flow], begin_s: float, seconds: float, started: Running, bodies: Bodies
) -> Iterator[list[tuple[int, subprocess.Popen[str]]]]:
    """Client processes, each with the size of its batches; none outlives the block."""
    processes: list[tuple[int, subprocess.Popen[str]]] = []
    try:
        for flow in flows:
            size = flow.clients.batch_records
            count = min(flow.processes, flow.connections)
            for number in range(count):
                connections = len(range(number, flow.connections, count))
                command = [sys.executable, "-m", "benchmarks.overload.flood"]
                command += ["--port", str(started.port), "--bodies", str(bodies.path(size))]
                command += ["--first", str(number * bodies.count(size) // count)]
                command += ["--connections", str(connections)]
                command += ["--begin", str(begin_s), "--seconds", str(seconds)]
                if flow.clients.is_patient:
                    command.append("--patient")
                if flow.rate is not None:
                    command += ["--rate", str(flow.rate / count)]
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=BUFFERED,
                )
                processes.append((size, process))
        yield processes
    finally:
        for _, process in processes:
            process.kill()
            process.communicate()


def _seen(
    processes: Sequence[tuple[int, subprocess.Popen[str]]], bodies: Bodies
) -> list[tuple[int, Flooded]]:
    found = []
    for size, process in processes:
        output, errors = process.communicate()
        if process.returncode != 0:
            raise SubjectFailed(f"clients ended with {process.returncode}: {errors[-2000:]}")
        told: dict[str, Any] = json.loads(output)
        found.append((size, Flooded(**told)))
        bodies.note(size, told["times"])
    return found


def _between(
    seen: Sequence[tuple[int, Flooded]], from_s: float, to_s: float
) -> list[tuple[float, float, int]]:
    """Acknowledgements within a time: when, after how long, of how many records."""
    return [
        (at_s, wait_s, size)
        for size, one in seen
        for at_s, wait_s, _ in one.acks
        if from_s <= at_s < to_s
    ]


def quantile(waits_s: Sequence[float], share: float) -> float:
    """The wait that such a share of them does not pass; 0 where there are none."""
    ordered = sorted(waits_s)
    return ordered[int(len(ordered) * share)] if ordered else 0.0


def checked_sums(started: Running, bodies: Bodies) -> int:
    """Holds every sum against what was acknowledged; returns how many there are."""
    expected = bodies.sums()
    assert_sums(started, expected)
    return len(expected)
