"""One client's connection: HTTP/1.1 in, exchanges out, one at a time and in order.

A head must come within a deadline, and who sends none makes room for others where there is none; a
body is taken no faster than it is read; an answer waits for a slow reader, but not for ever;
pipelined requests wait for their turn. What cannot be parsed is answered, and ends the connection.
Parsing itself is `parser.py`'s business.

One task serves a connection from its first request to its last.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from flowtally import limits
from flowtally.api.deadline import Deadline
from flowtally.api.exchange import Exchange, Stream
from flowtally.api.parser import RequestParser
from flowtally.errors import SlowHead

logger = logging.getLogger(__name__)

_WRITE_BYTES = 256 * limits.KIB
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of a server share."""

    app: Callable[[Exchange], Awaitable[None]]
    date: Callable[[], bytes]
    stopping: Callable[[], bool]
    on_end: Callable[[Connection], None]
    secure: bool = False
    """Whether they are connections of TLS."""


class Connection(asyncio.Protocol, Stream):
    """Is handed bytes by the event loop, and exchanges by its parser; its task answers them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(self._take, self._wake)
        # Set when the connection is made, before anything else can happen.
        self._transport = cast(asyncio.Transport, None)
        self._task = cast("asyncio.Task[None]", None)
        self._deadline = cast(Deadline, None)
        self._client: str | None = None
        # What is being answered, what waits for its turn, and what came and is not parsed yet.
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._held = b""
        self._reading_paused = False
        self._ended = False
        """Whether nothing more comes."""
        self._waits_since_s: float | None = None
        """Since when nothing is done but to wait for a request."""
        self._has_answered = False
        self._is_dismissed = False
        self._is_closing = False
        self.entered_s = self._loop.time()
        self.is_leaving = False
        """Whether it ends with the answer that is told next."""
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

    def dismiss(self) -> None:
        """Ends the connection, unless a request comes first: others have more use for its place."""
        self._is_dismissed = True
        if self._is_closing:
            self._transport.abort()
        self._wake()

    def leave(self) -> None:
        """Ends the connection with its next answer, which says so: nothing that its client sends is
        lost, and whoever waits has the place."""
        self.is_leaving = True

    @property
    def dispensability(self) -> tuple[int, float] | None:
        """In which order connections are done without, the least first; None for one that is at
        work, or was a moment ago: it may have sent a request that is not here yet.

        First go those that never sent anything or have had their last answer, then those between
        two requests, then those in the middle of a head; and of each, those that have waited
        longest."""
        since_s = self._waits_since_s
        if since_s is None or self._loop.time() - since_s < limits.UNDISTURBED_S:
            return None
        if self._is_closing:
            # What is still being sent is work; how much that is TLS does not tell exactly.
            return None if self._transport.get_write_buffer_size() else (0, since_s)
        if self._is_dismissed:
            return None
        if self._discarded_bytes is not None:
            return 0, since_s
        return 2 if self._parser.has_begun else int(self._has_answered), since_s

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
        self._deadline = Deadline(self._task)

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
        # The client may still want its answer; the task closes. With TLS there is no half of it.
        return self._transport.can_write_eof()

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
            self._parser.cut_off()
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            if not self._news.done():
                self._news.set_result(None)
            self._news = None

    # What is parsed, and when.

    def _parse(self, data: bytes) -> None:
        """Parses what came, as far as it is wanted now; the rest is held."""
        at = 0
        while at < len(data) and self._parser.fault is None:
            if self._is_sated():
                self._held = data[at:]
                self._pause_reading(True)
                return
            at = self._parser.step(data, at)
        self._pause_reading(False)
        if self._ended:
            self._parser.cut_off()

    def _parse_held(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._parse(held)

    def _is_sated(self) -> bool:
        """Whether more would only be kept: a request waits for its turn, a body for its reader."""
        if len(self._waiting) + (self._answering is not None) > 1:
            return True
        parsing = self._parser.exchange
        return parsing is not None and parsing.unread_bytes > limits.BODY_UNREAD_BYTES_MAX

    def _pause_reading(self, pause: bool) -> None:
        if pause != self._reading_paused and not self._lost.done():
            self._reading_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _take(
        self,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        version: str,
        keep_alive: bool,
    ) -> Exchange:
        exchange = Exchange(
            method, target, headers, self._client, self, self._deadline, version, keep_alive
        )
        exchange.secure = self._house.secure
        self._waiting.append(exchange)
        return exchange

    # What the task does.

    async def _serve(self) -> None:
        try:
            interval_s = limits.HEAD_S
            while (exchange := await self._next(interval_s)) is not None:
                await self._house.app(exchange)
                self._has_answered = True
                if not exchange.answered:
                    # To its client another answer would be the rest of this one.
                    return
                if not exchange.keep_alive or self._lost.done():
                    if not exchange.body_ended and not self._awaits_continue(exchange):
                        await self._hold_up(exchange)
                        await self._discard()
                    return
                interval_s = limits.IDLE_S
            if self._parser.fault is not None:
                await self._house.app(self._unreadable(self._parser.fault))
                await self._discard()
        except Exception:
            answering = self._answering
            logger.exception(
                "a request was not answered",
                extra={"request_id": answering and answering.request_id},
            )
        finally:
            self._deadline.close()
            self._close()

    async def _next(self, interval_s: float) -> Exchange | None:
        """The next request, or None where no more is to be answered."""
        self._answering = None
        self._parse_held()
        if self._waiting:
            # Nothing else may make this task wait: without a pause, whoever pipelines would have
            # the event loop for himself.
            await asyncio.sleep(0)
        else:
            self._waits_since_s = self._loop.time()
        try:
            with self._deadline.within(interval_s):
                while not self._waiting:
                    if self._parser.fault is not None or self._ended or self._is_dismissed:
                        return None
                    if self._house.stopping() and not self._parser.has_begun:
                        return None
                    await self._hear()
        except TimeoutError:
            if self._parser.has_begun:
                self._parser.fault = SlowHead(
                    f"the head did not come whole within {interval_s:g} s"
                )
            return None
        finally:
            self._waits_since_s = None
        self._answering = self._waiting.popleft()
        return self._answering

    async def _hear(self) -> None:
        """Waits until something has changed."""
        self._news = self._loop.create_future()
        await self._news

    def _unreadable(self, fault: Exception) -> Exchange:
        """Stands for what is no request: it is answered, logged and counted like one."""
        exchange = Exchange("-", b"", {}, self._client, self, self._deadline, keep_alive=False)
        exchange.fault = fault
        return exchange

    async def _hold_up(self, exchange: Exchange) -> None:
        """Takes nothing for a moment of a large body that is not wanted. Who looks at the answer
        stops sending; who does not is held up here, and cannot send all of it again at once."""
        left_bytes = (exchange.content_length or 0) - exchange.bytes_in
        if left_bytes > limits.BODY_UNREAD_BYTES_MAX or self._reading_paused:
            self._pause_reading(True)
            await asyncio.sleep(limits.DISCARD_AFTER_S)

    async def _discard(self) -> None:
        """Throws away what still comes, for a while: a connection that is closed before it was read
        to its end is reset, and its client may never see the answer. That keeps nobody out."""
        self._waits_since_s = self._loop.time()
        self._discarded_bytes = len(self._held)
        self._held = b""
        self._pause_reading(False)
        if not self._lost.done() and self._transport.can_write_eof():
            self._transport.write_eof()
        with suppress(TimeoutError), self._deadline.within(limits.DISCARD_S):
            while not (self._ended or self._is_dismissed):
                if self._discarded_bytes >= limits.DISCARD_BYTES_MAX:
                    break
                await self._hear()
        self._waits_since_s = None

    def _close(self) -> None:
        if not self._lost.done():
            self._is_closing = True
            self._waits_since_s = self._loop.time()
            is_sent = not self._transport.get_write_buffer_size()
            self._transport.close()
            # It closes when all is sent, and with TLS when the client has said goodbye as well. One
            # that does not read must not keep it; one that was dismissed is waited for by others.
            at_once = is_sent and self._is_dismissed and self._answering is None
            self._abort = self._loop.call_later(
                0 if at_once else limits.SEND_S, self._transport.abort
            )

    def _awaits_continue(self, exchange: Exchange) -> bool:
        """Whether the client sends its body only when it is told to, and was not yet. One that is
        answered before was told by the answer not to."""
        return (
            exchange.headers.get(b"expect", b"").lower() == b"100-continue"
            # RFC 9110, section 10.1.1: in HTTP/1.0 it is ignored.
            and exchange.version == "1.1"
            and not exchange.continued
            and not exchange.bytes_in
        )

    # What an exchange asks for.

    async def more(self) -> None:
        if self._held:
            self._parse_held()
            return
        exchange = self._answering
        if exchange is not None and self._awaits_continue(exchange):
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
            or self._is_dismissed
            or self.is_leaving
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
