"""One process of clients that do not wait: refused, they ask again at once, on a new connection if
they must; unless they are patient, and wait as they are told. Runs as
`python -m benchmarks.overload.flood` and prints what it saw as JSON.

Closed-loop clients each send when they are answered. With a rate, batches are sent when they are
due, whatever became of the others: on a connection that is free, or on one more, until there are
`--connections` of them; what is due beyond that is not sent, and counted as left out. What had no
answer is sent again under its key when the flood is over, until it has one: so what the service
must hold is known exactly."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from benchmarks.overload.client import Answer, Client, Lost

_ANSWER_S_MAX = 35.0
"""Longer than the service's own deadline."""
_SETTLE_S_MAX = 60.0
_CONNECT_S_MAX = 5.0
_TICK_S = 0.002
"""How exactly batches are sent when they are due."""
_NICER = 5
"""Clients stand for other machines: they give way to the service where processors are short."""


@dataclass
class Flooded:
    """What one process saw. Times are on the monotonic clock."""

    times: list[int]
    """How often each body was acknowledged."""
    acks: list[tuple[float, float, int]] = field(default_factory=list)
    """When each acknowledgement came, after how long, and which body it was for."""
    refusals: list[tuple[float, float, int]] = field(default_factory=list)
    """When each refusal came, after how long, and with what status."""
    without_retry_after: int = 0
    lost: int = 0
    """Batches without an answer: the connection was closed, or it took too long."""
    not_connected: int = 0
    left_out: int = 0
    """Batches that were due, and had no connection."""
    sent_again: int = 0


class Flood:
    """The clients of this process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.bodies = options.bodies.read_bytes().split(b"\n")
        self.seen = Flooded([0] * len(self.bodies))
        self._turn = itertools.cycle(
            [*range(options.first, len(self.bodies)), *range(options.first)]
        )
        self.end_s = options.begin + options.seconds
        self._unknown: list[tuple[str, int]] = []

    async def run(self) -> Flooded:
        """Floods, then settles what is unknown."""
        await asyncio.sleep(self.options.begin - time.monotonic())
        if self.options.rate:
            await self._open_loop()
        else:
            clients = range(self.options.connections)
            await asyncio.gather(*(self._closed_loop() for _ in clients))
        await self._settle()
        return self.seen

    async def _closed_loop(self) -> None:
        client: Client | None = None
        while time.monotonic() < self.end_s:
            client = await self._once(client, next(self._turn))
        if client is not None:
            client.close()

    async def _open_loop(self) -> None:
        free: list[Client] = []
        asking: set[asyncio.Task[None]] = set()

        async def ask(client: Client | None) -> None:
            client = await self._once(client, next(self._turn))
            if client is not None and client.is_open:
                free.append(client)

        number = 0
        while (now_s := time.monotonic()) < self.end_s:
            due = int((now_s - self.options.begin) * self.options.rate) - number
            number += due
            free = [client for client in free if client.is_open]
            asked = min(due, self.options.connections - len(asking))
            self.seen.left_out += due - asked
            for _ in range(asked):
                task = asyncio.create_task(ask(free.pop() if free else None))
                asking.add(task)
                task.add_done_callback(asking.discard)
            await asyncio.sleep(_TICK_S)
        await asyncio.gather(*asking)
        for client in free:
            client.close()

    async def _once(self, client: Client | None, body: int) -> Client | None:
        """Posts one batch, connecting if need be; the wait for the connection is part of it."""
        began_s = time.monotonic()
        try:
            if client is None or not client.is_open:
                client = await Client.connected(
                    self.options.port, _CONNECT_S_MAX, self.options.patient
                )
        except Lost:
            self.seen.not_connected += 1
            await asyncio.sleep(0.01)
            return None
        key = str(uuid.uuid4())
        try:
            answer = await client.post(key, self.bodies[body], _ANSWER_S_MAX)
        except Lost:
            self.seen.lost += 1
            self._unknown.append((key, body))
            return None
        self._note(answer, began_s, body)
        if self.options.patient and answer.retry_after_s is not None:
            left_s = max(0.0, self.end_s - time.monotonic())
            await asyncio.sleep(min(answer.retry_after_s, left_s))
        return client if client.is_open else None

    def _note(self, answer: Answer, began_s: float, body: int) -> None:
        now_s = time.monotonic()
        if answer.is_acknowledgement:
            self.seen.times[body] += 1
            self.seen.acks.append((now_s, now_s - began_s, body))
        else:
            self.seen.refusals.append((now_s, now_s - began_s, answer.status))
            self.seen.without_retry_after += answer.retry_after_s is None

    async def _settle(self) -> None:
        """Sends what had no answer again, now with patience, one after the other."""
        client: Client | None = None
        give_up_s = time.monotonic() + _SETTLE_S_MAX
        while self._unknown:
            if time.monotonic() > give_up_s:
                raise Lost(f"{len(self._unknown)} batches could not be settled")
            key, body = self._unknown[-1]
            try:
                if client is None or not client.is_open:
                    client = await Client.connected(self.options.port, _CONNECT_S_MAX)
                answer = await client.post(key, self.bodies[body], _ANSWER_S_MAX)
            except Lost:
                answer = None
            if answer is None or not answer.is_acknowledgement:
                await asyncio.sleep(0.2)
                continue
            self._unknown.pop()
            self.seen.sent_again += 1
            self.seen.times[body] += 1
        if client is not None:
            client.close()


def parser_of_clients(prog: str) -> argparse.ArgumentParser:
    """The options of a process of clients."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one on each line")
    parser.add_argument("--first", type=int, default=0, help="the body that is sent first")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--rate", type=float, help="batches a second, of clients that do not wait")
    parser.add_argument("--patient", action="store_true", help="do as a refusal says")
    parser.add_argument("--begin", type=float, required=True, help="on the monotonic clock")
    parser.add_argument("--seconds", type=float, required=True)
    return parser


def main() -> None:
    """The command line."""
    options = parser_of_clients("python -m benchmarks.overload.flood").parse_args()
    os.nice(_NICER)
    print(json.dumps(asdict(uvloop.run(Flood(options).run()))))


if __name__ == "__main__":
    main()
