"""One client process: raw HTTP/1.1 over loopback, connections that each wait for their answer.

Runs as `python -m benchmarks.load`, so that what it costs is nobody's but its own. It reads bodies
that were prepared, says `ready`, waits for a line that says when to begin, and prints what it saw
as JSON. Any answer but 2xx ends it: a figure with refused batches in it would compare nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

_HEAD = (
    "POST /v1/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
)


class UnexpectedAnswer(Exception):
    """The service did not acknowledge a batch, or hung up."""


@dataclass
class Seen:
    """What one client saw."""

    times: list[int]
    """How often each body was acknowledged, in the warm-up as well."""
    waits_s: list[float] = field(default_factory=list)
    """How long each batch took that was begun after the warm-up."""
    ended_s: float = 0.0
    """When the last of them was acknowledged, on the monotonic clock."""


class Connection(asyncio.Protocol):
    """One connection: a request is sent when the last one's answer has come whole."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received = bytearray()
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._received[:head_end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._received) < head_end + 4 + length:
            return
        if head[9:10] == b"2":
            self._answer.set_result(None)
        else:
            text = self._received.decode(errors="replace")
            self._answer.set_exception(UnexpectedAnswer(text))
        self._received.clear()

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(UnexpectedAnswer(f"the service hung up: {error}"))

    async def post(self, body: bytes) -> None:
        """Sends one batch under a new key; returns when it is acknowledged."""
        self._answer = asyncio.get_running_loop().create_future()
        head = _HEAD.format(key=uuid.uuid4(), length=len(body)).encode()
        self._transport.writelines((head, body))
        await self._answer

    def close(self) -> None:
        """Hangs up."""
        self._transport.close()


async def post_for_a_while(options: argparse.Namespace) -> Seen:
    """Posts the bodies in turn, beginning at one of them, and says how it went."""
    bodies = options.bodies.read_bytes().split(b"\n")
    seen = Seen(times=[0] * len(bodies))
    order = itertools.cycle((*range(options.first, len(bodies)), *range(options.first)))
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(Connection, "127.0.0.1", options.port))[1]
        for _ in range(options.connections)
    ]
    print("ready", flush=True)
    begin_s = float(sys.stdin.readline())
    warm_s = begin_s + options.warm_up
    end_s = warm_s + options.seconds
    await asyncio.sleep(begin_s - time.monotonic())

    async def keep_posting(connection: Connection) -> None:
        while (began_s := time.monotonic()) < end_s:
            index = next(order)
            await connection.post(bodies[index])
            ended_s = time.monotonic()
            seen.times[index] += 1
            if began_s >= warm_s:
                seen.waits_s.append(ended_s - began_s)
                seen.ended_s = ended_s

    await asyncio.gather(*(keep_posting(connection) for connection in opened))
    for connection in opened:
        connection.close()
    return seen


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one on each line")
    parser.add_argument("--first", type=int, default=0, help="the body to begin with")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, required=True)
    print(json.dumps(asdict(uvloop.run(post_for_a_while(parser.parse_args())))))


if __name__ == "__main__":
    main()
