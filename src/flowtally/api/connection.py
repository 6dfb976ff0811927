"""One client's connection: HTTP/1.1 in, exchanges out, one at a time and in order.

httptools (llhttp) reads the protocol, strictly; here stand the bounds that it lacks. A head is read
within a size and a deadline; a body is taken no faster than it is read; an answer waits for a slow
reader, but not for ever; pipelined requests wait for their turn. What llhttp refuses (a request
that two readers could understand differently, above all) ends the connection.

One task serves a connection from its first request to its last.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import httptools

from flowtally import limits
from flowtally.api import problems
from flowtally.api.deadline import Deadline
from flowtally.api.exchange import Exchange, Stream

logger = logging.getLogger(__name__)

_STEP_BYTES = 4 * limits.KIB
"""How much is parsed at once, other than a body of known length: bounds how many pipelined requests
can be found before the first of them is answered."""
_WRITE_BYTES = 256 * limits.KIB
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of a server share."""

    app: Callable[[Exchange], Awaitable[None]]
    date: Callable[[], bytes]
    stopping: Callable[[], bool]
    on_end: Callable[[Connection], None]


class Connection(asyncio.Protocol, Stream):
    """Is handed bytes by the event loop, and exchanges by its parser; its task answers them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        # Set when the connection is made, before anything else can happen.
        self._transport = cast(asyncio.Transport, None)
        self._task = cast("asyncio.Task[None]", None)
        self._deadline = cast(Deadline, None)
        self._client: str | None = None
        # The request that is being parsed.
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_lines = 0
        self._head_is_whole = False
        self._parsing: Exchange | None = None
        """Whose body is being parsed."""
        self._framing_bytes = 0
        """Parsed since the last piece of a body, or the last request: a head, mostly."""
        # What is being answered, what waits for its turn, and what came and is not parsed yet.
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._held = b""
        self._reading_paused = False
        self._fault: int | None = None
        """The status of what could not be parsed; nothing is parsed after it."""
        self._ended = False
        """Whether nothing more comes."""
        self._discarded_bytes: int | None = None
        """What was thrown away, from the moment on when all that comes is."""
        # What the task waits for.
        self._news: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost = self._loop.create_future()
        self._abort: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Ends the connection once what is in flight is answered."""
        self._wake()

    def abort(self) -> None:
        """Ends it now."""
        self._task.cancel()
        self._transport.abort()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._lost.done() and self._task.done()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else None
        self._task = self._loop.create_task(self._serve(), name="connection")
        self._task.add_done_callback(self._note_end)

    def data_received(self, data: bytes) -> None:
        if self._discarded_bytes is not None:
            self._discarded_bytes += len(data)
            self._wake()
        elif self._held:
            self._held += data
        else:
            self._parse(data)

    def eof_received(self) -> bool:
        self._end()
        # The client may still want its answer; the task closes.
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._held = b""
        self._lost.set_result(None)
        self._end()
        self.resume_writing()
        if self._abort is not None:
            self._abort.cancel()
        self._note_end()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _note_end(self, task: object = None) -> None:
        if self.is_over:
            self._house.on_end(self)

    def _end(self) -> None:
        self._ended = True
        if not self._held:
            self._cut_off()
        self._wake()

    def _cut_off(self) -> None:
        if self._parsing is not None:
            self._parsing.cut_off = True
            self._parsing = None

    def _wake(self) -> None:
        if self._news is not None:
            if not self._news.done():
                self._news.set_result(None)
            self._news = None

    # What the parser calls, and what calls it.

    def _parse(self, data: bytes) -> None:
        """Parses what came, as far as it is wanted now; the rest is held."""
        at = 0
        while at < len(data) and self._fault is None:
            if self._is_sated():
                self._held = data[at:]
                self._pause_reading(True)
                return
            end = at + max(_STEP_BYTES, self._body_bytes_left())
            step = data[at:end]
            at += len(step)
            self._framing_bytes += len(step)
            try:
                self._parser.feed_data(step)
            except httptools.HttpParserUpgrade as upgrade:
                at += upgrade.args[0] - len(step)
                self._stay_with_http()
            except httptools.HttpParserError:
                if self._parser.get_method() == b"PRI":
                    # HTTP/2, which cannot be answered in words of HTTP/1.1.
                    self._ended = True
                self._refuse(problems.MALFORMED)
            if self._framing_bytes > limits.HEAD_BYTES_MAX:
                too_large = problems.HEAD_TOO_LARGE if self._head_lines else problems.URL_TOO_LONG
                self._refuse(too_large)
        self._pause_reading(False)
        if self._ended:
            self._cut_off()

    def _stay_with_http(self) -> None:
        """Goes on after a request that would rather change to another protocol.

        None is spoken here, so it is answered as it stands. httptools takes what follows its head
        for that protocol: left so, a body would be read as the next request. Another parser is told
        that there is one.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._parsing is not None:
            framing = {
                name: value
                for name, value in self._parsing.headers.items()
                if name in (b"content-length", b"transfer-encoding")
            }
            lines = b"".join(b"%b: %b\r\n" % line for line in framing.items())
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)

    def _parse_held(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._parse(held)

    def _is_sated(self) -> bool:
        """Whether more would only be kept: a request waits for its turn, a body for its reader."""
        if len(self._waiting) + (self._answering is not None) > 1:
            return True
        parsing = self._parsing
        return parsing is not None and parsing.unread_bytes > limits.BODY_UNREAD_BYTES_MAX

    def _body_bytes_left(self) -> int:
        parsing = self._parsing
        if parsing is None or parsing.content_length is None:
            return 0
        return parsing.content_length - parsing.bytes_in

    def _pause_reading(self, pause: bool) -> None:
        if pause != self._reading_paused and not self._lost.done():
            self._reading_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _refuse(self, status: int) -> None:
        if self._fault is None:
            self._fault = status
            self._cut_off()
            self._wake()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers = {}
        self._head_lines = 0
        self._head_is_whole = False

    def on_url(self, part: bytes) -> None:
        """A part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; or of a trailer, which nobody reads."""
        self._head_lines += 1
        if self._head_is_whole:
            return
        name = name.lower()
        headers = self._headers
        headers[name] = headers[name] + b", " + value if name in headers else value
        if self._head_lines > limits.HEAD_LINES_MAX:
            self._refuse(problems.HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._head_is_whole = True
        if self._parsing is not None:
            # Told by ourselves, of the body that is being parsed.
            return
        parser = self._parser
        version = parser.get_http_version()
        host = self._headers.get(b"host")
        # RFC 9112, section 3.2: one Host. Two come joined by a comma, which is in no name.
        if version != "1.0" and (version != "1.1" or host is None or b"," in host):
            self._refuse(problems.MALFORMED)
        if self._fault is not None:
            return
        method = parser.get_method().decode("ascii")
        self._parsing = exchange = Exchange(
            method,
            self._target,
            self._headers,
            self._client,
            self,
            self._deadline,
            version,
            # What follows a CONNECT is for somebody else.
            keep_alive=parser.should_keep_alive() and method != "CONNECT",
        )
        self._waiting.append(exchange)
        self._wake()

    def on_body(self, piece: bytes) -> None:
        """A piece of a body."""
        self._framing_bytes = 0
        if self._parsing is not None:
            self._parsing.take(piece)
            self._wake()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._framing_bytes = 0
        parsing = self._parsing
        if parsing is not None and not (self._parser.should_upgrade() and not parsing.body_ended):
            parsing.body_ended = True
            self._parsing = None
            self._wake()

    # What the task does.

    async def _serve(self) -> None:
        self._deadline = Deadline()
        try:
            interval_s = limits.HEAD_S
            while (exchange := await self._next(interval_s)) is not None:
                await self._house.app(exchange)
                if not exchange.status:
                    return
                if not exchange.keep_alive or self._lost.done():
                    if not exchange.body_ended and not self._awaits_continue(exchange):
                        await self._discard()
                    return
                interval_s = limits.IDLE_S
            if self._fault is not None and not self._ended:
                await self._answer_fault(self._fault)
        except Exception:
            logger.exception("a request was not answered")
        finally:
            self._deadline.close()
            self._close()

    async def _next(self, interval_s: float) -> Exchange | None:
        """The next request, or None where no more is to be answered."""
        self._answering = None
        self._parse_held()
        try:
            with self._deadline.within(interval_s):
                while not self._waiting:
                    begun = self._framing_bytes > 0
                    if self._fault is not None or self._ended:
                        return None
                    if self._house.stopping() and not begun:
                        return None
                    await self._hear()
        except TimeoutError:
            if self._framing_bytes:
                self._fault = problems.HEAD_TOO_SLOW
            return None
        self._answering = self._waiting.popleft()
        return self._answering

    async def _hear(self) -> None:
        """Waits until something has changed."""
        self._news = self._loop.create_future()
        await self._news

    async def _answer_fault(self, status: int) -> None:
        exchange = Exchange("", b"", {}, self._client, self, self._deadline, keep_alive=False)
        await exchange.answer(status, (), b"")
        await self._discard()

    async def _discard(self) -> None:
        """Throws away what still comes, for a while: a connection that is closed before it was read
        to its end is reset, and its client may never see the answer."""
        self._discarded_bytes = len(self._held)
        self._held = b""
        self._pause_reading(False)
        if not self._lost.done() and self._transport.can_write_eof():
            self._transport.write_eof()
        with suppress(TimeoutError), self._deadline.within(limits.DISCARD_S):
            while not self._ended and self._discarded_bytes < limits.DISCARD_BYTES_MAX:
                await self._hear()

    def _close(self) -> None:
        if not self._lost.done():
            self._transport.close()
            # It closes when all is sent; a client that does not read must not keep it.
            self._abort = self._loop.call_later(limits.SEND_S, self._transport.abort)

    def _awaits_continue(self, exchange: Exchange) -> bool:
        """Whether the client sends its body only when it is told to. One that is answered before
        was told by the answer not to."""
        expected = exchange.headers.get(b"expect", b"").lower() == b"100-continue"
        return expected and not exchange.bytes_in

    # What an exchange asks for.

    async def more(self) -> None:
        if self._held:
            self._parse_held()
            return
        exchange = self._answering
        if exchange is not None and self._awaits_continue(exchange) and not exchange.continued:
            exchange.continued = True
            self._transport.write(_CONTINUE)
        await self._hear()

    async def gone(self) -> None:
        await asyncio.shield(self._lost)

    def date(self) -> bytes:
        return self._house.date()

    def closes_after(self, exchange: Exchange) -> bool:
        return (
            not exchange.keep_alive
            or not exchange.body_ended
            or (self._ended and not self._waiting and not self._held)
            or self._house.stopping()
        )

    async def write(self, head: bytes, body: bytes = b"") -> None:
        if len(body) <= _WRITE_BYTES:
            await self._send(head + body)
            return
        await self._send(head)
        view = memoryview(body)
        for at in range(0, len(body), _WRITE_BYTES):
            await self._send(view[at : at + _WRITE_BYTES])

    async def _send(self, data: bytes | memoryview) -> None:
        if self._lost.done():
            return
        self._transport.write(data)
        if self._writable is not None:
            try:
                async with asyncio.timeout(limits.SEND_S):
                    await self._writable
            except TimeoutError:
                logger.info("a client was too slow to read", extra={"client": self._client})
                self._transport.abort()
                await self.gone()
