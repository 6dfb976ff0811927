"""One request and its answer: what is noted of it on the way, and the headers every answer carries.

Stands between the server and the endpoints. It counts bytes, knows whether the body was read to its
end, and reads away a refused body so that its sender gets to see the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from flowtally import limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UNKNOWN_ROUTE = "unknown"
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CLOSE = (b"connection", b"close")
_EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"referrer-policy", b"no-referrer"),
)
# A counter behind a random prefix: unique like a random id, without a system call per request.
_process = os.urandom(5).hex()
_numbers = itertools.count(1)


class Exchange:
    """What is noted of a request while it is answered; in the scope under `flowtally`.

    `receive` and `send` stand in for the server's own.
    """

    __slots__ = (
        "_receive",
        "_send",
        "batch_id",
        "body_ended",
        "bytes_in",
        "bytes_out",
        "content_length",
        "disconnected",
        "headers",
        "method",
        "records",
        "request_id",
        "route",
        "scope",
        "status",
    )

    def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            # A repeated header is a list (RFC 9110, section 5.2).
            headers[name] = headers[name] + b", " + value if name in headers else value
        self.scope = scope
        self.method: str = scope["method"]
        self.headers = headers
        self.request_id = _request_id(headers.get(b"x-request-id"))
        self.content_length = _content_length(headers.get(b"content-length"))
        self.route = UNKNOWN_ROUTE
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.records: int | None = None
        self.batch_id: str | None = None
        announced = b"content-length" in headers and self.content_length != 0
        self.body_ended = not announced and b"transfer-encoding" not in headers
        """Whether nothing more of the body is to come."""
        self.disconnected = False
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str | None:
        """One header, its repeats joined by commas."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def receive(self) -> Message:
        """The next piece of the body."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            # The server tells of the end in a message of its own. Where the length is known it need
            # not be waited for, which is a sixth of what a small post costs.
            if not message.get("more_body", False) or self.bytes_in == self.content_length:
                self.body_ended = True
        else:
            self.body_ended = self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """Sends a piece of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
                *_EVERYWHERE,
            ]
            if not self.body_ended:
                headers.append(_CLOSE)
            message = {**message, "headers": headers}
        else:
            if self.method == "HEAD":
                message = {**message, "body": b""}
            self.bytes_out += len(message.get("body", b""))
        await self._send(message)

    async def discard_body(self) -> None:
        """Reads away what is left of a body after its answer was sent.

        A connection that is closed on a sender in the middle of its body is reset, and the reset
        can overtake the answer: the sender would see a broken pipe instead of a 413. One that waits
        for a 100 before it sends was told by the answer not to.
        """
        if b"expect" in self.headers and not self.bytes_in:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.DISCARD_S):
                until = self.bytes_in + limits.DISCARD_BYTES_MAX
                while not self.body_ended and self.bytes_in < until:
                    await self.receive()


def _request_id(given: bytes | None) -> str:
    if given is not None and _SAFE_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_process}-{next(_numbers):x}"


def _content_length(given: bytes | None) -> int | None:
    """None where there is none; one that is not a number is the server's to refuse."""
    return int(given) if given is not None and _LENGTH.fullmatch(given) else None
