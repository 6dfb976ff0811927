"""One HTTP/1.1 connection of a client that takes any answer: what it was told, and how soon.

Unlike `benchmarks.load`, where anything but a 2xx ends the run, here refusals are what is looked
at."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, NamedTuple

_HEAD = (
    "POST /v1/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
)


class Lost(Exception):
    """The connection ended, or too long nothing came: whether the batch counted is unknown."""


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    retry_after_s: float | None
    is_repeat: bool
    closes: bool
    body: bytes

    @property
    def is_acknowledgement(self) -> bool:
        """Whether the batch is stored."""
        return 200 <= self.status < 300


class Client(asyncio.Protocol):
    """One connection, one request at a time. A patient one stops sending a body that is refused, as
    curl and Go's client do; others send it to its end."""

    def __init__(self, patient: bool = False) -> None:
        self._patient = patient
        self._transport: Any = None
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self.is_open = False

    @classmethod
    async def connected(cls, port: int, wait_s_max: float, patient: bool = False) -> Client:
        """Connects. Raises `Lost` where that is refused or takes too long."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(wait_s_max):
                return (await loop.create_connection(lambda: cls(patient), "127.0.0.1", port))[1]
        except (OSError, TimeoutError) as error:
            raise Lost(f"not connected: {error}") from error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._received[:head_end]).lower() + b"\r\n"
        length = int(_field(head, b"content-length") or 0)
        if len(self._received) < head_end + 4 + length:
            return
        closes = b"\r\nconnection: close" in head
        self._answer.set_result(
            Answer(
                int(head[9:12]),
                float(wait) if (wait := _field(head, b"retry-after")) else None,
                b"\r\nidempotency-replayed: true" in head,
                closes,
                bytes(self._received[head_end + 4 :]),
            )
        )
        self._received.clear()
        if closes and self._patient and self._transport.get_write_buffer_size():
            self.abort()
        elif closes:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost(f"hung up: {error}"))

    async def post(self, key: str, body: bytes, wait_s_max: float) -> Answer:
        """Sends a batch under a key."""
        return await self.ask(_HEAD.format(key=key, length=len(body)).encode(), body, wait_s_max)

    async def ask(self, head: bytes, body: bytes, wait_s_max: float) -> Answer:
        """Sends a request. Raises `Lost` where no answer comes."""
        if not self.is_open:
            raise Lost("hung up")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.writelines((head, body))
        try:
            async with asyncio.timeout(wait_s_max):
                return await self._answer
        except TimeoutError as error:
            self.abort()
            raise Lost(f"no answer within {wait_s_max:g} s") from error

    def send(self, data: bytes) -> None:
        """Sends bytes that are no whole request."""
        self._transport.write(data)

    def close(self) -> None:
        """Hangs up once all is sent."""
        self.is_open = False
        self._transport.close()

    def abort(self) -> None:
        """Hangs up at once, by a reset: the port is free again and need not wait."""
        self.is_open = False
        if (sock := self._transport.get_extra_info("socket")) is not None:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


def _field(head: bytes, name: bytes) -> bytes:
    """The value of a field of a head that is in lower case; empty where it is not there."""
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()
