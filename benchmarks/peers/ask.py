"""Reads a peer in a process of its own: the sums of hours, or how long reads of one hour take.

Runs as `python -m benchmarks.peers.ask`, after the clients have ended: some stores belong to one
process at a time. With bodies, it posts them first. Prints JSON: `sums`, one row a flow, and
`waits_s`, one a read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.peers.known import PEERS


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.ask", description=__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="that the peer was started on")
    parser.add_argument("--hours", type=int, nargs="+", required=True)
    parser.add_argument("--bodies", type=Path, help="posted first, one on each line")
    parser.add_argument("--repeats", type=int, default=1, help="how often each hour is read")
    options = parser.parse_args()
    connection = PEERS[options.peer].connector(options.folder)()
    for body in options.bodies.read_bytes().split(b"\n") if options.bodies else ():
        connection.post(body)
    rows = []
    waits_s = []
    for hour in options.hours:
        for _ in range(options.repeats):
            began_s = time.perf_counter()
            sums = connection.read(hour)
            waits_s.append(time.perf_counter() - began_s)
        rows += [[*key, *row] for key, row in sums.items()]
    connection.close()
    print(json.dumps({"sums": rows, "waits_s": waits_s}))


if __name__ == "__main__":
    main()
