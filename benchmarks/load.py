"""The load: raw HTTP/1.1 over loopback, a few connections that each wait for their answer.

Runs as a process of its own (`python -m benchmarks.load`), so that what it costs is not counted as
the service's memory, and prints what it measured as JSON. Bodies are prepared before the first is
sent. Any answer but 2xx ends the run: a figure with refused batches in it would compare nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from benchmarks.traffic import Pool

_HEAD = (
    "POST /v1/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
)


class UnexpectedAnswer(Exception):
    """The service did not acknowledge a batch, or hung up."""


@dataclass
class Measured:
    """What one run of the load saw. Times of the warm-up are left out; its batches are counted."""

    batch_records: int
    connections: int
    seconds: float = 0.0
    batches: int = 0
    records_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    worst_ms: float = 0.0
    batches_total: int = 0
    times: list[int] = field(default_factory=list)
    """How often each batch of the pool was acknowledged."""


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


async def measure(
    port: int, batch_records: int, connections: int, warm_up_s: float, seconds: float
) -> Measured:
    """Posts for a while and says how it went."""
    bodies = Pool(batch_records).bodies()
    measured = Measured(batch_records, connections, times=[0] * len(bodies))
    latencies_s: list[float] = []
    order = iter(range(sys.maxsize))
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)
    ]
    warm_s = time.perf_counter() + warm_up_s
    end_s = warm_s + seconds
    last_s = warm_s

    async def keep_posting(connection: Connection) -> None:
        nonlocal last_s
        while (began_s := time.perf_counter()) < end_s:
            index = next(order) % len(bodies)
            await connection.post(bodies[index])
            ended_s = time.perf_counter()
            measured.times[index] += 1
            if began_s >= warm_s:
                latencies_s.append(ended_s - began_s)
                last_s = max(last_s, ended_s)

    await asyncio.gather(*(keep_posting(connection) for connection in opened))
    for connection in opened:
        connection.close()
    latencies_s.sort()
    measured.seconds = last_s - warm_s
    measured.batches = len(latencies_s)
    measured.batches_total = sum(measured.times)
    measured.records_per_s = len(latencies_s) * batch_records / measured.seconds
    measured.p50_ms = 1000 * latencies_s[len(latencies_s) // 2]
    measured.p99_ms = 1000 * latencies_s[int(len(latencies_s) * 0.99)]
    measured.worst_ms = 1000 * latencies_s[-1]
    return measured


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-records", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--warm-up", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    measured = uvloop.run(
        measure(
            options.port,
            options.batch_records,
            options.connections,
            options.warm_up,
            options.seconds,
        )
    )
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
