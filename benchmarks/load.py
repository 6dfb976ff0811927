"""One client process: raw HTTP/1.1 over loopback, connections that each wait for their answer.

Runs as `python -m benchmarks.load`, so that what it costs is nobody's but its own, takes its part
in a window (`window.py`), and prints what it saw as JSON. Any answer but 2xx ends it: a figure with
refused batches in it would compare nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import uvloop

from benchmarks.window import ClientSide, Seen, add_options

_HEAD = (
    "POST /v1/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
)


class UnexpectedAnswer(Exception):
    """The service did not acknowledge a batch, or hung up."""


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
    side = ClientSide(options)
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(Connection, "127.0.0.1", options.port))[1]
        for _ in range(options.connections)
    ]
    side.wait_to_begin()
    await asyncio.sleep(side.begin_s - time.monotonic())
    due_s = _arrivals(side.begin_s, options.rate) if options.rate else None

    async def keep_posting(connection: Connection) -> None:
        while side.goes_on(began_s := time.monotonic() if due_s is None else next(due_s)):
            if due_s is not None:
                # Right to a millisecond; what it is late is counted as well.
                await asyncio.sleep(began_s - time.monotonic())
            body = side.take()
            await connection.post(side.bodies[body])
            side.note(body, began_s, time.monotonic())

    await asyncio.gather(*(keep_posting(connection) for connection in opened))
    for connection in opened:
        connection.close()
    return side.seen


def _arrivals(begin_s: float, rate: float) -> Iterator[float]:
    """When each batch is to be sent, however long the earlier ones take: one that finds no
    connection free is late, and its wait is counted from when it was due."""
    return (begin_s + number / rate for number in itertools.count())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, help="batches a second; as many as go without it")
    add_options(parser)
    print(json.dumps(asdict(uvloop.run(post_for_a_while(parser.parse_args())))))


if __name__ == "__main__":
    main()
