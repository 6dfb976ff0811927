"""`make bench-peers`: Flowtally beside what people would choose instead, on the same data.

Every batch size and every peer in turn, each on an empty folder; then the sums are held against
what was sent, and only then is a figure kept. A peer that is not installed is left out and named;
one whose sums are wrong, or that fails, is reported as that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.clients import Posting, Target, measure
from benchmarks.command import say
from benchmarks.machine import machine
from benchmarks.peers.known import PEERS
from benchmarks.peers.peer import Missing, Peer
from benchmarks.peers.plot import plot
from benchmarks.peers.report import page
from benchmarks.run import bodies_of, measure_reads, measure_writes, median_ms
from benchmarks.subject import (
    FLOWTALLY,
    ROOT,
    ROWSTORE,
    SubjectFailed,
    assert_equal,
    disk_bytes,
)
from benchmarks.traffic import HOUR_OF_READS, ExpectedSums, Pool, Record, hour_of_flows, summed

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


def read_peer(peer: Peer, records: Sequence[Record], folder: Path, repeats: int) -> dict[str, Any]:
    """Reads of one hour of a peer, which keeps no answers: changed or not is the same to it."""
    folder.mkdir(parents=True)
    bodies = folder / "bodies"
    bodies.write_bytes(b"\n".join(bodies_of(records)))
    peer.start(folder)
    try:
        found, waits_s = _ask(
            peer, folder, [HOUR_OF_READS], "--bodies", str(bodies), "--repeats", str(repeats)
        )
    finally:
        peer.stop()
    assert_equal(found, summed((record, 1) for record in records), peer.name)
    return {"changed_ms": median_ms(waits_s), "unchanged_ms": median_ms(waits_s)}


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
            say(f"{name} is left out: {error}")
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
        say(f"{name}: reads of an hour of {len(records)} flows")
        place = folder / f"{name}-reads"
        service = SERVICES.get(name)
        try:
            results["reads"][name] = (
                read_peer(PEERS[name], records, place, options.repeats)
                if service is None
                else measure_reads(service, records, options, place)
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
            say(f"{name}: batches of {size}, {connections} connections")
            posting = Posting(options.clients, connections, options.warm_up, options.seconds)
            place = folder / f"{name}-{size}-{connections}"
            service = SERVICES.get(name)
            try:
                found.append(
                    measure_peer(PEERS[name], pool, bodies, posting, place)
                    if service is None
                    else measure_writes(service, pool, bodies, posting, place)
                )
            except _FAULTS as error:
                found.append({"failed": _told(name, error), "records_per_s": 0.0})
        line[name] = max(found, key=lambda one: float(one["records_per_s"]))
    return line


def _told(name: str, error: Exception) -> str:
    say(f"{name} failed: {error}")
    return str(error)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser_of(
        "python -m benchmarks.peers.run",
        "Measures Flowtally beside what people would choose instead.",
        "latest-peers",
    )
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[8, 64], help="the best counts"
    )
    parser.add_argument("--restarts", type=int, default=1, help="each with one cold read")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    pages = {"md": page, "svg": plot}
    command.run("bench-peers", parse(arguments), arguments, measure_all, pages)


if __name__ == "__main__":
    main()
