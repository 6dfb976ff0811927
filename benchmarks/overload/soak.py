"""The clients of the run that lasts: writes at a fixed rate, and beside them all that a service
meets in its life: repeats, reads, bodies that are refused, connections that come to nothing.

Runs as `python -m benchmarks.overload.soak` and prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field

import uvloop

from benchmarks.overload.client import Client, Lost
from benchmarks.overload.flood import Flood, Flooded, parser_of_clients
from benchmarks.traffic import HOURS

_ANSWER_S_MAX = 35.0
_CONNECT_S_MAX = 5.0
_REPEATS_PER_S = 10.0
_READS_PER_S = 1.0
_REFUSED_PER_S = 10.0
_CUT_OFF_PER_S = 20.0
_HALF_HEAD = b"POST /v1/flows HTTP/1.1\r\nHost: 127.0"
_HALF_BODY = b"POST /v1/flows HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[{"
_REFUSED = (
    b"",
    b"[{]",
    b'{"src_app":"a"}',
    b'[{"src_app":"a","dest_app":"b","vpc_id":"c","hour":1,"bytes_rx":-1,"bytes_tx":1.5}]',
    b"[" * 10_000,
    b'["' + b"x" * 1_000_000,
)


@dataclass
class Soaked:
    """What the clients saw."""

    writes: Flooded
    repeats: int = 0
    reads: int = 0
    refused: int = 0
    cut_off: int = 0
    unexpected: list[str] = field(default_factory=list)
    """Answers that were not as they must be; the first few."""


class Soak(Flood):
    """Writes as a flood of a bearable rate does; the rest runs beside it."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.soaked = Soaked(self.seen)

    async def last(self) -> Soaked:
        """Runs until the time is over."""
        beside = [
            asyncio.create_task(self._regularly(per_s, act))
            for per_s, act in (
                (_REPEATS_PER_S, self._repeat),
                (_READS_PER_S, self._read),
                (_REFUSED_PER_S, self._be_refused),
                (_CUT_OFF_PER_S, self._cut_off),
            )
        ]
        await self.run()
        await asyncio.gather(*beside)
        return self.soaked

    async def _regularly(self, per_s: float, act: Callable[[int], Awaitable[None]]) -> None:
        await asyncio.sleep(self.options.begin - time.monotonic())
        for number in itertools.count():
            due_s = self.options.begin + number / per_s
            if due_s >= self.end_s:
                return
            await asyncio.sleep(due_s - time.monotonic())
            try:
                await act(number)
            except Lost as error:
                self._unexpected(str(error))

    async def _repeat(self, number: int) -> None:
        body = number % len(self.bodies)
        key = str(uuid.uuid4())
        for is_repeat in (False, True):
            client = await self._connected()
            answer = await client.post(key, self.bodies[body], _ANSWER_S_MAX)
            client.close()
            if not answer.is_acknowledgement or answer.is_repeat != is_repeat:
                self._unexpected(f"{answer.status}, repeated: {answer.is_repeat}")
        self.seen.times[body] += 1
        self.soaked.repeats += 1

    async def _read(self, number: int) -> None:
        hour = HOURS[number % len(HOURS)]
        await self._ask("GET", f"/v1/flows?hour={hour}", b"", (200,))
        self.soaked.reads += 1

    async def _be_refused(self, number: int) -> None:
        await self._ask("POST", "/v1/flows", _REFUSED[number % len(_REFUSED)], (400,))
        self.soaked.refused += 1

    async def _ask(self, method: str, target: str, body: bytes, expected: tuple[int, ...]) -> None:
        client = await self._connected()
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answer = await client.ask(head.encode(), body, _ANSWER_S_MAX)
        client.close()
        if answer.status not in expected:
            self._unexpected(f"{method} {target}: {answer.status}")

    async def _cut_off(self, number: int) -> None:
        """Connects and says nothing, or half of something, and goes, politely or not."""
        client = await self._connected()
        client.send((b"", _HALF_HEAD, _HALF_BODY)[number % 3])
        await asyncio.sleep(0.01)
        if number % 2:
            client.abort()
        else:
            client.close()
        self.soaked.cut_off += 1

    async def _connected(self) -> Client:
        return await Client.connected(self.options.port, _CONNECT_S_MAX)

    def _unexpected(self, what: str) -> None:
        if len(self.soaked.unexpected) < 20:
            self.soaked.unexpected.append(what)


def main() -> None:
    """The command line."""
    options = parser_of_clients("python -m benchmarks.overload.soak").parse_args()
    print(json.dumps(asdict(uvloop.run(Soak(options).last()))))


if __name__ == "__main__":
    main()
