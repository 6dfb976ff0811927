"""One client process of a peer: threads that each have a connection and wait for their answer.

Runs as `python -m benchmarks.peers.drive`, takes its part in a window as `benchmarks.load` does,
and prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.peers.known import PEERS
from benchmarks.peers.peer import Connection
from benchmarks.window import ClientSide, Seen, add_options


def post_for_a_while(options: argparse.Namespace) -> Seen:
    """Posts the bodies in turn, beginning at one of them, and says how it went."""
    side = ClientSide(options)
    connect = PEERS[options.peer].connector(options.folder)
    connections = [connect() for _ in range(options.connections)]
    side.wait_to_begin()
    time.sleep(max(0.0, side.begin_s - time.monotonic()))
    noting = threading.Lock()

    def keep_posting(connection: Connection) -> None:
        while side.goes_on(began_s := time.monotonic()):
            with noting:
                body = side.take()
            connection.post(side.bodies[body])
            ended_s = time.monotonic()
            with noting:
                side.note(body, began_s, ended_s)

    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(keep_posting, connections))
    for connection in connections:
        connection.close()
    return side.seen


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.drive", description=__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="that the peer was started on")
    add_options(parser)
    print(json.dumps(asdict(post_for_a_while(parser.parse_args()))))


if __name__ == "__main__":
    main()
