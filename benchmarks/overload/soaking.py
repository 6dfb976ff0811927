"""The run that lasts: about half of what can be carried, and whether anything of the service
grows."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.clients import BUFFERED
from benchmarks.overload.flood import Flooded
from benchmarks.overload.flooding import BEGIN_IN_S, Bodies, checked_sums, peak_of, quantile
from benchmarks.overload.loads import Clients
from benchmarks.overload.watching import Sample, Watch, slope, thirds
from benchmarks.results import Line
from benchmarks.subject import FLOWTALLY, ROOT, SubjectFailed, running

_BATCH_RECORDS = 100
_CONNECTIONS = 64
_CLIENTS = Clients(_BATCH_RECORDS, (_CONNECTIONS,))
_STEADY_SHARE = 0.2
"""How much of the run is left out of the slopes: caches fill, threads start."""


def measure_soak(options: argparse.Namespace, folder: Path) -> Line:
    """Peak, then half of it for a long time; sums, and what grew."""
    folder.mkdir(parents=True, exist_ok=True)
    bodies = Bodies(folder)
    with running(FLOWTALLY, folder) as started:
        best = peak_of(_CLIENTS, options, started, bodies)
        begin_s = time.monotonic() + BEGIN_IN_S
        command = [sys.executable, "-m", "benchmarks.overload.soak", "--port", str(started.port)]
        command += ["--bodies", str(bodies.path(_BATCH_RECORDS))]
        command += ["--connections", str(_CONNECTIONS), "--rate", str(best["batches_per_s"] / 2)]
        command += ["--begin", str(begin_s), "--seconds", str(options.soak_seconds)]
        with Watch(started.process.pid, min(1.0, options.soak_seconds / 20)) as watch:
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=BUFFERED)
        if ended.returncode != 0:
            raise SubjectFailed(f"clients ended: {ended.stderr[-2000:]}")
        told: dict[str, Any] = json.loads(ended.stdout)
        writes = Flooded(**told.pop("writes"))
        bodies.note(_BATCH_RECORDS, writes.times)
        checked = checked_sums(started, bodies)
    if told["unexpected"]:
        raise SubjectFailed(f"unexpected answers: {told['unexpected']}")
    waits_s = [wait_s for _, wait_s, _ in writes.acks]
    return {
        "seconds": options.soak_seconds,
        "peak_records_per_s": best["records_per_s"],
        "records_per_s": _BATCH_RECORDS * len(writes.acks) / options.soak_seconds,
        "p50_ms": 1000 * quantile(waits_s, 0.5),
        "p99_ms": 1000 * quantile(waits_s, 0.99),
        "refused_writes": len(writes.refusals),
        "lost": writes.lost,
        "left_out": writes.left_out,
        **{name: value for name, value in told.items() if name != "unexpected"},
        **growth(watch.samples, begin_s, begin_s + options.soak_seconds),
        "flows_checked": checked,
    }


def growth(samples: Sequence[Sample], begin_s: float, end_s: float) -> Line:
    """How what the process holds went: slopes by least squares once it is steady, the highest of
    each third, and what is drawn."""
    during = [sample for sample in samples if begin_s <= sample.at_s <= end_s] or list(samples)
    steady_s = begin_s + _STEADY_SHARE * (end_s - begin_s)
    steady = [sample for sample in during if sample.at_s >= steady_s] or during
    found: Line = {}
    for name in ("memory_bytes", "descriptors", "threads"):
        values = [float(getattr(sample, name)) for sample in during]
        points = [(sample.at_s, float(getattr(sample, name))) for sample in steady]
        found[name] = {
            "per_minute": 60 * slope(points),
            "highest_of_thirds": thirds(values),
        }
    step = max(1, len(during) // 120)
    found["samples"] = [
        {
            "at_s": round(sample.at_s - begin_s, 1),
            "memory_bytes": sample.memory_bytes,
            "descriptors": sample.descriptors,
            "threads": sample.threads,
        }
        for sample in during[::step]
    ]
    return found
