"""One client process of a peer: threads that each have a connection and wait for their answer.

Runs as `python -m benchmarks.peers.drive` and speaks as `benchmarks.load` does: reads prepared
bodies, says `ready`, waits for a line that says when to begin, and prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.load import Seen
from benchmarks.peers.known import PEERS
from benchmarks.peers.peer import Connection


def post_for_a_while(options: argparse.Namespace) -> Seen:
    """Posts the bodies in turn, beginning at one of them, and says how it went."""
    bodies = options.bodies.read_bytes().split(b"\n")
    seen = Seen(times=[0] * len(bodies))
    order = itertools.cycle((*range(options.first, len(bodies)), *range(options.first)))
    connect = PEERS[options.peer].connector(options.folder)
    connections = [connect() for _ in range(options.connections)]
    print("ready", flush=True)
    begin_s = float(sys.stdin.readline())
    warm_s = begin_s + options.warm_up
    end_s = warm_s + options.seconds
    time.sleep(max(0.0, begin_s - time.monotonic()))
    noting = threading.Lock()

    def keep_posting(connection: Connection) -> None:
        while (began_s := time.monotonic()) < end_s:
            with noting:
                index = next(order)
            connection.post(bodies[index])
            ended_s = time.monotonic()
            with noting:
                seen.times[index] += 1
                if began_s >= warm_s:
                    seen.waits_s.append(ended_s - began_s)
                    seen.ended_s = max(seen.ended_s, ended_s)

    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(keep_posting, connections))
    for connection in connections:
        connection.close()
    return seen


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.drive", description=__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="that the peer was started on")
    parser.add_argument("--bodies", type=Path, required=True, help="one on each line")
    parser.add_argument("--first", type=int, default=0, help="the body to begin with")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, required=True)
    print(json.dumps(asdict(post_for_a_while(parser.parse_args()))))


if __name__ == "__main__":
    main()
