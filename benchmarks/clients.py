"""The clients of a run: several processes that begin at one moment, and what all of them saw.

Notes how much of the processors the service, the clients and everybody else used meanwhile, so that
a figure tells what held it back: one that was held back by the load says nothing of the service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.subject import ROOT, Running, SubjectFailed
from benchmarks.traffic import Pool

_BEGIN_IN_S = 0.2
"""Long enough for every client to have read when to begin."""
_BUSY_CORES = 0.85
_IDLE_CORES_MIN = 0.4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Posting:
    """How the load posts."""

    processes: int
    connections: int
    warm_up_s: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What a run of posts came to. The warm-up is left out, but for `times`."""

    batch_records: int
    connections: int
    seconds: float
    batches: int
    records_per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    service_cores: float
    client_cores: float
    """Of the busiest client; one process is one thread, so 1.0 is all that it can have."""
    idle_cores: float
    cpu_us_per_record: float
    memory_bytes: int
    """Resident at the end, what is shared counted once."""
    held_back_by: str
    times: list[int]


@dataclass(frozen=True)
class Target:
    """What is posted to, and by what kind of client."""

    name: str
    pids: Sequence[int]
    """The processes of the service; none where it runs in the client."""
    command: Callable[[], list[str]]
    """A client's command line, to which the runs' options are added."""


def over_http(started: Running) -> Target:
    """A service that is posted to over HTTP."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(started.port)]
    return Target(started.subject.name, [started.process.pid], lambda: list(command))


def measure(target: Target, pool: Pool, bodies: Path, posting: Posting) -> Measured:
    """Posts the pool, written to `bodies`, for a while and from all clients.

    Raises `SubjectFailed` unless everything was acknowledged.
    """
    firsts = [
        number * len(pool.batches) // posting.processes for number in range(posting.processes)
    ]
    with _clients(target, bodies, firsts, posting) as clients:
        begin_s = time.monotonic() + _BEGIN_IN_S
        for client in clients:
            _say(client, f"{begin_s}\n")
        warm_s = begin_s + posting.warm_up_s
        loads = [client.pid for client in clients]
        service = list(target.pids) or loads
        time.sleep(max(0.0, warm_s - time.monotonic()))
        before = {pid: cpu_s(pid) for pid in {*service, *loads}}
        idle_before, sampled_s = _idle_s(), time.monotonic()
        time.sleep(max(0.0, warm_s + posting.seconds - time.monotonic()))
        used = {pid: cpu_s(pid) - was for pid, was in before.items()}
        sampled_s = time.monotonic() - sampled_s
        idle_cores = (_idle_s() - idle_before) / sampled_s
        memory_bytes = sum(map(memory_of, service))
        seen = [_seen(client, target.name) for client in clients]
    waits_s = sorted(wait_s for one in seen for wait_s in one["waits_s"])
    if not waits_s:
        raise SubjectFailed(f"{target.name} acknowledged nothing in {posting.seconds} s")
    seconds = max(one["ended_s"] for one in seen) - warm_s
    records_per_s = len(waits_s) * pool.batch_records / seconds
    service_cores = sum(used[pid] for pid in service) / sampled_s
    client_cores = max(used[load] for load in loads) / sampled_s if target.pids else 0.0
    return Measured(
        batch_records=pool.batch_records,
        connections=posting.connections,
        seconds=seconds,
        batches=len(waits_s),
        records_per_s=records_per_s,
        p50_ms=1000 * waits_s[len(waits_s) // 2],
        p99_ms=1000 * waits_s[int(len(waits_s) * 0.99)],
        worst_ms=1000 * waits_s[-1],
        service_cores=service_cores,
        client_cores=client_cores,
        idle_cores=idle_cores,
        cpu_us_per_record=1e6 * service_cores / records_per_s,
        memory_bytes=memory_bytes,
        held_back_by=_held_back_by(service_cores, client_cores, idle_cores),
        times=[sum(counts) for counts in zip(*(one["times"] for one in seen), strict=True)],
    )


def _held_back_by(service_cores: float, client_cores: float, idle_cores: float) -> str:
    """A guess from what was used; the columns beside it let a reader make another."""
    if client_cores >= _BUSY_CORES:
        return "the load"
    if service_cores >= _BUSY_CORES:
        return "its processor time"
    return "the machine's other work" if idle_cores < _IDLE_CORES_MIN else "waiting for syncs"


@contextmanager
def _clients(
    target: Target, bodies: Path, firsts: Sequence[int], posting: Posting
) -> Iterator[Sequence[subprocess.Popen[str]]]:
    """Starts the clients, and waits until each has read the bodies and is connected."""
    clients: list[subprocess.Popen[str]] = []
    try:
        for number, first in enumerate(firsts):
            connections = len(range(number, posting.connections, posting.processes))
            command = target.command()
            command += ["--bodies", str(bodies), "--first", str(first)]
            command += ["--connections", str(connections)]
            command += ["--warm-up", str(posting.warm_up_s), "--seconds", str(posting.seconds)]
            clients.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for client in clients:
            assert client.stdout is not None
            if client.stdout.readline() != "ready\n":
                raise SubjectFailed(f"a client ended: {client.communicate()[1][-2000:]}")
        yield clients
    finally:
        for client in clients:
            client.kill()
            client.communicate()


def _say(client: subprocess.Popen[str], line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(line)
    client.stdin.flush()


def _seen(client: subprocess.Popen[str], name: str) -> dict[str, Any]:
    output, errors = client.communicate()
    if client.returncode != 0:
        raise SubjectFailed(f"the load on {name} ended: {errors[-2000:]}")
    seen: dict[str, Any] = json.loads(output)
    return seen


def cpu_s(pid: int) -> float:
    """The processor time that a process and its children, ended ones too, used up to now."""
    used = 0.0
    for one in (pid, *_children(pid)):
        # A child may have ended since; then it is counted with its parent.
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name in front is in brackets and may hold anything.
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            used += sum(map(int, fields[11:15] if one == pid else fields[11:13])) / _TICKS_PER_S
    return used


def memory_of(pid: int) -> int:
    """The resident memory of a process and its children; of what they share, each its part."""
    found = 0
    for one in (pid, *_children(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            found += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return found


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]


def _idle_s() -> float:
    """How long all cores together were idle up to now, waiting for the disk or not."""
    idle, waiting = Path("/proc/stat").read_text().split("\n", 1)[0].split()[4:6]
    return (int(idle) + int(waiting)) / _TICKS_PER_S
