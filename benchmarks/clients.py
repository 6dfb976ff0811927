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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.processes import Memory, cpu_s, idle_s
from benchmarks.subject import ROOT, Running, SubjectFailed
from benchmarks.window import Seen, Window

_BEGIN_IN_S = 0.2
"""Long enough for every client to have read when to begin."""
_LOOK_EVERY_S = 0.25
_BUSY_CORES = 0.85
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""The environment of a client. Unbuffered, Python drops what a pipe does not take at once, and a
pipe takes no more than it has room for once uvloop has run."""
_IDLE_CORES_MIN = 0.4
_BATCHES_PER_CONNECTION_MIN = 20
_BATCHES_MIN_MOST = 400
"""Enough for a p99, however many connections there are."""
_TIMES_AS_LONG_MAX = 10


@dataclass(frozen=True)
class Posting:
    """How the load posts: for `seconds`, and as much longer, within bounds, as it takes to tell one
    that is slow from one that is stuck."""

    processes: int
    connections: int
    warm_up_s: float
    seconds: float
    batches_per_s: float | None = None
    """Sent at fixed times, whatever the answers take; without it, each connection sends when it has
    its answer."""

    @property
    def batches_min(self) -> int:
        """What must be acknowledged before the window may end."""
        return min(_BATCHES_PER_CONNECTION_MIN * self.connections, _BATCHES_MIN_MOST)

    @property
    def seconds_max(self) -> float:
        """The longest that a window lasts."""
        return _TIMES_AS_LONG_MAX * self.seconds


@dataclass(frozen=True)
class Measured:
    """What a run of posts came to, without its warm-up."""

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
    """The same number as CPU-seconds per million records."""
    memory_bytes: int
    """Resident at the end, what is shared counted once."""
    memory_bytes_highest: int
    held_back_by: str


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
    return Target(
        started.subject.name, [started.process.pid, *started.subject.pids], lambda: list(command)
    )


def measure(
    target: Target, batch_records: int, bodies: Path, posting: Posting
) -> tuple[Measured, Seen]:
    """Posts the bodies of a file in turn from all clients, until the window is over.

    Raises `SubjectFailed` unless everything was acknowledged.
    """
    posting = replace(posting, processes=min(posting.processes, posting.connections))
    window = Window.create(bodies.with_name(f"{bodies.name}-window"), posting.processes)
    with _clients(target, bodies, posting) as clients:
        begin_s = time.monotonic() + _BEGIN_IN_S
        for client in clients:
            _say(client, f"{begin_s}\n")
        warm_s = begin_s + posting.warm_up_s
        loads = [client.pid for client in clients]
        service = list(target.pids) or loads
        memory = Memory(service)
        time.sleep(max(0.0, warm_s - time.monotonic()))
        before = {pid: cpu_s(pid) for pid in {*service, *loads}}
        idle_before_s, sampled_s = idle_s(), time.monotonic()
        _wait_until_over(window, warm_s, posting, memory, clients)
        used = {pid: cpu_s(pid) - was for pid, was in before.items()}
        sampled_s = time.monotonic() - sampled_s
        idle_cores = (idle_s() - idle_before_s) / sampled_s
        memory.look()
        highest_bytes = memory.highest_bytes()
        window.end()
        seen = _together([_seen(client, target.name) for client in clients])
    window.close()
    waits_s = sorted(seen.waits_s)
    if not waits_s:
        raise SubjectFailed(f"{target.name} acknowledged nothing in {posting.seconds_max:g} s")
    seconds = max(seen.ends_s) - warm_s
    records_per_s = len(waits_s) * batch_records / seconds
    service_cores = sum(used[pid] for pid in service) / sampled_s
    client_cores = max(used[load] for load in loads) / sampled_s if target.pids else 0.0
    return Measured(
        batch_records=batch_records,
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
        memory_bytes=memory.now_bytes,
        memory_bytes_highest=highest_bytes,
        held_back_by=_held_back_by(service_cores, client_cores, idle_cores),
    ), seen


def _wait_until_over(
    window: Window,
    warm_s: float,
    posting: Posting,
    memory: Memory,
    clients: Sequence[subprocess.Popen[str]],
) -> None:
    """Returns when the time is up and enough was acknowledged, when a client ended (it failed), or
    after the longest that a window lasts."""
    end_s, last_s = warm_s + posting.seconds, warm_s + posting.seconds_max
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(left_s, _LOOK_EVERY_S))
        memory.look()
    while window.acknowledged() < posting.batches_min and time.monotonic() < last_s:
        if any(client.poll() is not None for client in clients):
            return
        time.sleep(min(_LOOK_EVERY_S, posting.seconds))
        memory.look()


def _held_back_by(service_cores: float, client_cores: float, idle_cores: float) -> str:
    """A guess from what was used; the columns beside it let a reader make another."""
    if client_cores >= _BUSY_CORES:
        return "the load"
    if service_cores >= _BUSY_CORES:
        return "its processor time"
    return "the machine's other work" if idle_cores < _IDLE_CORES_MIN else "waiting for syncs"


@contextmanager
def _clients(
    target: Target, bodies: Path, posting: Posting
) -> Iterator[Sequence[subprocess.Popen[str]]]:
    """Starts the clients, and waits until each has read the bodies and is connected."""
    clients: list[subprocess.Popen[str]] = []
    count = bodies.read_bytes().count(b"\n") + 1
    try:
        for number in range(posting.processes):
            connections = len(range(number, posting.connections, posting.processes))
            command = target.command()
            command += ["--bodies", str(bodies), "--number", str(number)]
            command += ["--first", str(number * count // posting.processes)]
            command += ["--window", str(bodies.with_name(f"{bodies.name}-window"))]
            command += ["--connections", str(connections)]
            command += ["--warm-up", str(posting.warm_up_s)]
            command += ["--seconds-max", str(posting.seconds_max)]
            if posting.batches_per_s:
                command += ["--rate", str(posting.batches_per_s / posting.processes)]
            clients.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=BUFFERED,
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


def _seen(client: subprocess.Popen[str], name: str) -> Seen:
    output, errors = client.communicate()
    if client.returncode != 0:
        raise SubjectFailed(f"the load on {name} ended: {errors[-2000:]}")
    return Seen(**json.loads(output))


def _together(seen: Sequence[Seen]) -> Seen:
    return Seen(
        times=[sum(counts) for counts in zip(*(one.times for one in seen), strict=True)],
        waits_s=[wait_s for one in seen for wait_s in one.waits_s],
        ends_s=[end_s for one in seen for end_s in one.ends_s],
        begun_s=seen[0].begun_s,
    )
