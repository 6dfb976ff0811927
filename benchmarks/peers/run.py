"""`make bench-peers`: Flowtally beside what people would choose instead, on the same data.

Every batch size and every peer in turn, each on an empty folder; then the sums are held against
what was sent, and only then is a figure kept. A peer that is not installed is left out and named;
one whose sums are wrong, or that fails, is reported as that.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.clients import Posting, Target, measure, over_http
from benchmarks.machine import machine
from benchmarks.peers.known import PEERS
from benchmarks.peers.peer import Missing, Peer
from benchmarks.peers.plot import plot
from benchmarks.peers.report import page
from benchmarks.run import RESULTS, timed_read
from benchmarks.subject import (
    FLOWTALLY,
    ROOT,
    ROWSTORE,
    Subject,
    SubjectFailed,
    assert_equal,
    assert_sums,
    disk_bytes,
    running,
)
from benchmarks.traffic import (
    HOUR_OF_READS,
    ExpectedSums,
    Pool,
    Record,
    body_of,
    hour_of_flows,
    summed,
)

BATCH_RECORDS = (1, 100, 1_000, 10_000)
_READ_BODY_RECORDS = 10_000
_FAULTS = (SubjectFailed, OSError, subprocess.SubprocessError)
"""What ends one peer's part of the run, and not the run."""
TWIN = replace(
    FLOWTALLY,
    name="flowtally-python",
    about="the same, `--no-kernel`",
    command=(*FLOWTALLY.command, "--no-kernel"),
)
SERVICES = {
    service.name: service
    for service in (
        replace(FLOWTALLY, about="`flowtally serve`, with the native kernel"),
        TWIN,
        ROWSTORE,
    )
}
_SYNCED = {ROWSTORE.name: "synced (synchronous=FULL), no batch_ids"}


def measure_service(
    service: Subject, pool: Pool, bodies: Path, posting: Posting, folder: Path
) -> dict[str, Any]:
    """Posts to a service over HTTP."""
    with running(service, folder) as started:
        measured = asdict(measure(over_http(started), pool, bodies, posting))
        expected = pool.sums(measured.pop("times"))
        assert_sums(started, expected)
    return {**measured, "disk_bytes_per_flow": disk_bytes(started.data) / len(expected)}


def measure_peer(
    peer: Peer, pool: Pool, bodies: Path, posting: Posting, folder: Path
) -> dict[str, Any]:
    """Posts to a peer by its own driver."""
    pids = peer.start(folder)
    try:
        target = Target(peer.name, pids, lambda: _command("drive", peer, folder))
        if peer.in_process:
            posting = replace(posting, processes=1)
        measured = asdict(measure(target, pool, bodies, posting))
        expected = pool.sums(measured.pop("times"))
        hours = sorted({key[3] for key in expected})
        assert_equal(_ask(peer, folder, hours)[0], expected, peer.name)
    finally:
        peer.stop()
    return {**measured, "disk_bytes_per_flow": disk_bytes(folder) / len(expected)}


def read_service(
    service: Subject, records: Sequence[Record], folder: Path, repeats: int
) -> dict[str, Any]:
    """Reads of one hour of a service: after each change, and unchanged."""
    changed_s = []
    with running(service, folder) as started:
        for body in _bodies_of(records):
            started.post(body)
        assert_sums(started, summed((record, 1) for record in records))
        for _ in range(repeats):
            started.post(body_of(records[:1]))
            changed_s.append(timed_read(started))
        unchanged_s = [timed_read(started) for _ in range(repeats)]
    return {"changed_ms": _median_ms(changed_s), "unchanged_ms": _median_ms(unchanged_s)}


def read_peer(peer: Peer, records: Sequence[Record], folder: Path, repeats: int) -> dict[str, Any]:
    """Reads of one hour of a peer, which keeps no answers: changed or not is the same to it."""
    folder.mkdir(parents=True)
    bodies = folder / "bodies"
    bodies.write_bytes(b"\n".join(_bodies_of(records)))
    peer.start(folder)
    try:
        found, waits_s = _ask(
            peer, folder, [HOUR_OF_READS], "--bodies", str(bodies), "--repeats", str(repeats)
        )
    finally:
        peer.stop()
    assert_equal(found, summed((record, 1) for record in records), peer.name)
    return {"changed_ms": _median_ms(waits_s), "unchanged_ms": _median_ms(waits_s)}


def _bodies_of(records: Sequence[Record]) -> list[bytes]:
    return [
        body_of(records[start : start + _READ_BODY_RECORDS])
        for start in range(0, len(records), _READ_BODY_RECORDS)
    ]


def _command(module: str, peer: Peer, folder: Path) -> list[str]:
    command = [sys.executable, "-m", f"benchmarks.peers.{module}"]
    return [*command, "--peer", peer.name, "--folder", str(folder)]


def _ask(
    peer: Peer, folder: Path, hours: Sequence[int], *options: str
) -> tuple[ExpectedSums, list[float]]:
    command = [*_command("ask", peer, folder), "--hours", *map(str, hours), *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SubjectFailed(f"{peer.name} could not be read: {ended.stderr[-2000:]}")
    answer = json.loads(ended.stdout.splitlines()[-1])
    sums = {(*row[:3], row[3]): (row[4], row[5]) for row in answer["sums"]}
    return sums, answer["waits_s"]


def _median_ms(waits_s: Sequence[float]) -> float:
    return 1000 * sorted(waits_s)[len(waits_s) // 2]


def measure_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as it goes into the results."""
    results: dict[str, Any] = {"machine": machine(folder), "peers": {}, "left_out": {}}
    for known in SERVICES.values():
        durability = _SYNCED.get(known.name, "synced; counted once, by batch_id")
        results["peers"][known.name] = {"about": known.about, "durability": durability}
    for name, peer in PEERS.items():
        try:
            version = peer.check()
        except Missing as error:
            results["left_out"][name] = str(error)
            _say(f"{name} is left out: {error}")
        else:
            results["peers"][name] = {"about": peer.about, "durability": peer.durability}
            results["peers"][name]["version"] = version
    results["writes"] = [
        {"batch_records": size, **_writes_of(size, results, options, folder)}
        for size in options.batch_records
    ]
    records = hour_of_flows(options.apps, options.vpcs)
    results["reads"] = {"flows": len(records)}
    for name in list(results["peers"]):
        _say(f"{name}: reads of an hour of {len(records)} flows")
        place = folder / f"{name}-reads"
        service = SERVICES.get(name)
        try:
            results["reads"][name] = (
                read_peer(PEERS[name], records, place, options.repeats)
                if service is None
                else read_service(service, records, place, options.repeats)
            )
        except _FAULTS as error:
            results["reads"][name] = {"failed": _told(name, error)}
    return results


def _writes_of(
    size: int, results: dict[str, Any], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """One size of batch: each peer at that number of connections at which it does best."""
    pool = Pool(size)
    bodies = folder / f"bodies-{size}"
    pool.write(bodies)
    line: dict[str, Any] = {}
    for name in results["peers"]:
        found = []
        for connections in options.connections:
            _say(f"{name}: batches of {size}, {connections} connections")
            posting = Posting(options.clients, connections, options.warm_up, options.seconds)
            place = folder / f"{name}-{size}-{connections}"
            service = SERVICES.get(name)
            try:
                found.append(
                    measure_peer(PEERS[name], pool, bodies, posting, place)
                    if service is None
                    else measure_service(service, pool, bodies, posting, place)
                )
            except _FAULTS as error:
                found.append({"failed": _told(name, error), "records_per_s": 0.0})
        line[name] = max(found, key=lambda one: float(one["records_per_s"]))
    return line


def _told(name: str, error: Exception) -> str:
    _say(f"{name} failed: {error}")
    return str(error)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.run",
        description="Measures Flowtally beside what people would choose instead.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run of posts")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before that")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[8, 64], help="the best counts"
    )
    parser.add_argument("--clients", type=int, default=2, help="processes that post")
    parser.add_argument("--batch-records", type=int, nargs="+", default=BATCH_RECORDS)
    parser.add_argument("--apps", type=int, default=100, help="on each side of the hour read")
    parser.add_argument("--vpcs", type=int, default=5, help="of the hour read")
    parser.add_argument("--repeats", type=int, default=7, help="of each read")
    parser.add_argument("--name", default="latest-peers", help="of the files in benchmarks/results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for them")
    parser.add_argument("--folder", type=Path, default=None, help="for the data; a temporary one")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="flowtally-peers-", dir=options.folder) as folder:
        results = measure_all(options, Path(folder))
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    results["command"] = f'make bench-peers ARGS="{given}"' if given else "make bench-peers"
    text = page(results)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{options.name}.md").write_text(text)
    (options.results / f"{options.name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (options.results / f"{options.name}.svg").write_text(plot(results))
    print(text)


if __name__ == "__main__":
    main()
