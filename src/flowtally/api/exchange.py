"""One request and its answer: what is noted of it on the way, and the headers every answer carries.

Stands between the connection and the endpoints: the connection hands the body in as it comes, an
endpoint reads it and answers. What goes to and fro in bytes is a `Stream`'s business.
"""

from __future__ import annotations

import itertools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from flowtally.api.deadline import Deadline
from flowtally.api.routes import ROUTES, Place
from flowtally.errors import BodyCutOff

UNKNOWN_ROUTE = "unknown"
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ABSOLUTE = re.compile(rb"[^:/?]+://[^/?]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_EVERYWHERE = (
    b"x-content-type-options: nosniff\r\n"
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
    b"referrer-policy: no-referrer\r\n"
)
# Over TLS alone: a browser that was told so once asks this host over nothing else (RFC 6797).
_EVERYWHERE_TLS = _EVERYWHERE + b"strict-transport-security: max-age=31536000\r\n"
# A counter behind a random prefix: unique like a random id, without a system call per request.
_process = os.urandom(5).hex()
_numbers = itertools.count(1)


class Stream(ABC):
    """What an exchange needs of its connection."""

    @abstractmethod
    async def more(self) -> None:
        """Returns when there is more of the body, or no more of it to come."""

    @abstractmethod
    def date(self) -> bytes:
        """The line of the head that says when it is."""

    @abstractmethod
    def closes_after(self, exchange: Exchange) -> bool:
        """Whether the answer that is begun now is the connection's last."""

    @abstractmethod
    async def write(self, head: bytes, body: bytes = b"") -> None:
        """Sends; where the client is slow to read, waits for it."""

    @abstractmethod
    async def gone(self) -> None:
        """Returns when the client has hung up."""


class Exchange:
    """What is noted of a request while it is answered."""

    route = UNKNOWN_ROUTE
    route_head = ROUTES.head
    """The lines of the answer's head that the route decides."""
    is_deprecated = False
    """Whether what is asked for should no longer be used."""
    status = 0
    bytes_in = 0
    unread_bytes = 0
    bytes_out = 0
    records: int | None = None
    batch_id: str | None = None
    failed_commit: int | None = None
    """The number of the commit that the batch was part of, where that failed."""
    fault: Exception | None = None
    """Why what came could not be read as a request, and then nothing else is known of it; or what
    failed in this service while its body was read."""
    token_name: str | None = None
    """Of the token that was sent, also where it was revoked or may not do this."""
    secure = False
    """Whether it came over TLS."""
    more_lines = b""
    """Lines that the head of the answer has as well, whatever is answered."""
    cut_off = False
    """Whether nothing more of the body can come, though it has not ended."""
    continued = False
    """Whether the client was told to send its body, where it asked."""
    answered = False
    """Whether the answer was sent to its end."""
    _chunked = False

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        client: str | None,
        stream: Stream,
        deadline: Deadline,
        version: str = "1.1",
        keep_alive: bool = True,
    ) -> None:
        """`headers` by their names in lower case, repeats joined by `, `: a repeated header is a
        list (RFC 9110, section 5.2)."""
        self.method = method
        self.target = target
        self.headers = headers
        self.client = client
        self.version = version
        self.keep_alive = keep_alive
        self.deadline = deadline
        """One for all that is waited for while this is answered."""
        self.request_id = _request_id(headers.get(b"x-request-id"))
        length = headers.get(b"content-length")
        self.content_length = None if length is None else _content_length(length)
        self.body_ended = (
            length is None or self.content_length == 0
        ) and b"transfer-encoding" not in headers
        """Whether nothing more of the body is to come."""
        self._stream = stream
        self._pieces: list[bytes] = []

    def arrive(self, place: Place) -> None:
        """Notes which route this is for."""
        self.route = place.path
        self.route_head = place.head
        self.is_deprecated = place.deprecation is not None

    @property
    def path(self) -> str:
        """The path that is asked for, its escapes undone."""
        path = _origin_form(self.target).partition(b"?")[0]
        return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")

    @property
    def query(self) -> bytes:
        """What stands after the path, as it was sent."""
        return _origin_form(self.target).partition(b"?")[2]

    def header(self, name: bytes) -> str | None:
        """One header, its repeats joined by commas."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def take(self, piece: bytes) -> None:
        """Takes a piece of the body in."""
        self.bytes_in += len(piece)
        self.unread_bytes += len(piece)
        self._pieces.append(piece)

    async def read(self) -> list[bytes]:
        """All of the body that has come since the last time; nothing at its end.

        Raises `BodyCutOff` where the rest of it will not come.
        """
        while not self._pieces and not self.body_ended:
            if self.cut_off:
                raise self.fault or BodyCutOff("the body is cut off: less came than was announced")
            await self._stream.more()
        pieces, self._pieces = self._pieces, []
        self.unread_bytes = 0
        return pieces

    async def gone(self) -> None:
        """Returns when the client has hung up."""
        await self._stream.gone()

    async def answer(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Sends the whole answer."""
        head = self._head(status, headers, len(body) if _may_have_body(status) else None)
        if self.method == "HEAD":
            body = b""
        self.bytes_out += len(body)
        await self._stream.write(head, body)
        self.answered = True

    async def begin(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None
    ) -> None:
        """Sends the head of an answer whose body comes in pieces. Without a length, the body's end
        is marked by a last chunk, or for HTTP/1.0 by the connection's."""
        self._chunked = length is None and self.version == "1.1" and _may_have_body(status)
        if length is None and _may_have_body(status) and not self._chunked:
            self.keep_alive = False
        await self._stream.write(self._head(status, headers, length))

    async def send(self, piece: bytes) -> None:
        """Sends a piece of the answer's body."""
        if not piece or self.method == "HEAD":
            return
        self.bytes_out += len(piece)
        await self._stream.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    async def end(self) -> None:
        """Says that the answer is whole."""
        if self._chunked and self.method != "HEAD":
            await self._stream.write(b"0\r\n\r\n")
        self.answered = True

    def _head(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None
    ) -> bytes:
        self.status = status
        lines = [_status_line(status)]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"x-request-id: %b\r\n" % self.request_id.encode())
        lines.append(self.route_head)
        lines.append(_EVERYWHERE_TLS if self.secure else _EVERYWHERE)
        if self.more_lines:
            lines.append(self.more_lines)
        if self._stream.closes_after(self):
            self.keep_alive = False
            lines.append(b"connection: close\r\n")
        elif self.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(self._stream.date())
        lines.append(b"\r\n")
        return b"".join(lines)


@lru_cache
def _may_have_body(status: int) -> bool:
    """RFC 9110, section 6.4.1."""
    without = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    return status >= HTTPStatus.OK and status not in without


@lru_cache
def _status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\n".encode()


def _origin_form(target: bytes) -> bytes:
    """A target without the scheme and the host, which it has where a proxy is asked (RFC 9112,
    section 3.2.2)."""
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _request_id(given: bytes | None) -> str:
    # A token that was put here by mistake, alone or behind something, is in no log and no answer.
    if given is not None and _SAFE_ID.fullmatch(given) and b"flt_" not in given:
        return given.decode("ascii")
    return f"{_process}-{next(_numbers):x}"


def _content_length(given: bytes) -> int | None:
    """None for one that is not a number: that is the connection's to refuse."""
    return int(given) if _LENGTH.fullmatch(given) else None
