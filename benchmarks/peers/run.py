"""`make bench-peers`: Flowtally beside what people would choose instead, on the same data.

Every batch size and every peer in turn, each on an empty folder; then the sums are held against
what was sent, and only then is a figure kept. A peer that is not installed is left out and named;
one whose sums are wrong, or that fails, is reported as that. What was measured is kept after each
part, and `--resume` goes on with the rest.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import command
from benchmarks.clients import Posting
from benchmarks.command import say
from benchmarks.peers.known import PEERS
from benchmarks.peers.measuring import measure_peer, read_peer
from benchmarks.peers.peer import CONNECTIONS_IN_PROCESS_MAX, Missing
from benchmarks.peers.plot import plot
from benchmarks.peers.report import page
from benchmarks.results import Results
from benchmarks.run import measure_reads, measure_writes
from benchmarks.subject import FLOWTALLY, ROWSTORE, SubjectFailed
from benchmarks.traffic import Pool, hour_of_flows

_FAULTS = (SubjectFailed, OSError, subprocess.SubprocessError)
"""What ends one peer's part of the run, and not the run."""
_CONNECTIONS = (8, 64)
_CONNECTIONS_OF_SINGLE_RECORDS = 128
"""Tried as well where a batch is one record: what shares a commit is then all that counts."""
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
_SYNCED = {ROWSTORE.name: "synced (synchronous=FULL)"}
_LIGHTER = {ROWSTORE.name: "no batch_ids"}


def measure_all(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Every part that the results do not hold."""
    found = results.found
    found["peers"], found["left_out"] = {}, {}
    for known in SERVICES.values():
        found["peers"][known.name] = {
            "about": known.about,
            "durability": _SYNCED.get(known.name, "synced; counted once, by batch_id"),
            "lighter": _LIGHTER.get(known.name, ""),
        }
    for name, peer in PEERS.items():
        try:
            version = peer.check()
        except Missing as error:
            found["left_out"][name] = str(error)
            say(f"{name} is left out: {error}")
        else:
            found["peers"][name] = {
                "about": peer.about,
                "durability": peer.durability,
                "lighter": peer.lighter,
                "version": version,
            }
    chosen = [name for name in found["peers"] if name in (options.only or found["peers"])]
    for size in options.batch_records:
        _add_writes(size, chosen, results, options, folder)
    records = hour_of_flows(options.apps, options.vpcs)
    for name in chosen:
        place = folder / f"{name}-reads"
        service = SERVICES.get(name)
        read = (
            partial(read_peer, PEERS[name], records, place, options.repeats)
            if service is None
            else partial(measure_reads, service, records, options, place)
        )
        results.add("reads", {"who": name}, read, say, _FAULTS)


def _add_writes(
    size: int, chosen: Sequence[str], results: Results, options: argparse.Namespace, folder: Path
) -> None:
    pool = Pool(size)
    bodies = folder / f"bodies-{size}"
    pool.write(bodies)
    for name in chosen:
        for connections in _connections(name, size, options):
            posting = Posting(options.clients, connections, options.warm_up, options.seconds)
            place = folder / f"{name}-{size}-{connections}"
            service = SERVICES.get(name)
            write = (
                partial(measure_peer, PEERS[name], pool, bodies, posting, place)
                if service is None
                else partial(measure_writes, service, pool, bodies, posting, place)
            )
            what = {"who": name, "batch_records": size, "connections": connections}
            results.add("writes", what, write, say, _FAULTS)


def _connections(name: str, size: int, options: argparse.Namespace) -> Iterator[int]:
    """The numbers of connections that are tried, each once."""
    wanted = list(options.connections or _CONNECTIONS)
    if name in PEERS and PEERS[name].in_process:
        wanted = [min(one, CONNECTIONS_IN_PROCESS_MAX) for one in wanted]
    elif size == 1 and not options.connections:
        wanted.append(_CONNECTIONS_OF_SINGLE_RECORDS)
    yield from dict.fromkeys(wanted)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser_of(
        "python -m benchmarks.peers.run",
        "Measures Flowtally beside what people would choose instead.",
        "latest-peers",
    )
    parser.add_argument("--batch-records", type=int, nargs="+", default=command.BATCH_RECORDS)
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        help="of several, the best counts; without it 8 and 64, and 128 at one record a batch;"
        f" a store in the client's process gets {CONNECTIONS_IN_PROCESS_MAX} at most",
    )
    parser.add_argument("--only", nargs="+", choices=[*SERVICES, *PEERS], help="who is measured")
    parser.add_argument("--restarts", type=int, default=3, help="each with one cold read")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and keeps the results."""
    pages = {".md": page, ".svg": plot}
    command.run("bench-peers", parse(arguments), arguments, measure_all, pages)


if __name__ == "__main__":
    main()
