"""Reads a peer in a process of its own: the sums of hours, and how long reads of them take.

Runs as `python -m benchmarks.peers.ask`, after the clients have ended: some stores belong to one
process at a time. Posts bodies first, if it is given any. Then each hour is read once, and, where a
change is given, the first of them so many times again: each time after the change was posted, and
then unchanged. Prints JSON: the `sums`, one row a flow, as they were at last, and the waits.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.peers.known import PEERS
from benchmarks.traffic import ExpectedSums


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.ask", description=__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="that the peer was started on")
    parser.add_argument("--hours", type=int, nargs="+", required=True)
    parser.add_argument("--bodies", type=Path, help="posted first, one on each line")
    parser.add_argument("--change", type=Path, help="a body to post before a read")
    parser.add_argument("--repeats", type=int, default=1, help="of that, and of unchanged reads")
    options = parser.parse_args()
    connection = PEERS[options.peer].connector(options.folder)()
    sums: ExpectedSums = {}
    waits: dict[str, list[float]] = {"first_s": [], "changed_s": [], "unchanged_s": []}

    def read(hour: int, kind: str) -> None:
        began_s = time.perf_counter()
        found = connection.read(hour)
        waits[kind].append(time.perf_counter() - began_s)
        sums.update(found)

    for body in options.bodies.read_bytes().split(b"\n") if options.bodies else ():
        connection.post(body)
    connection.settle()
    for hour in options.hours:
        read(hour, "first_s")
    if options.change:
        change = options.change.read_bytes()
        for _ in range(options.repeats):
            connection.post(change)
            connection.settle()
            read(options.hours[0], "changed_s")
        for _ in range(options.repeats):
            read(options.hours[0], "unchanged_s")
    connection.close()
    print(json.dumps({"sums": [[*key, *row] for key, row in sums.items()], **waits}))


if __name__ == "__main__":
    main()
