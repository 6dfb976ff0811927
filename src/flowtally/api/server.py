"""Listens, and gives each client a `Connection`; in this process and on this event loop.

One process owns the store, so there are no worker processes: a kill ends everything, and nothing is
left that holds the data folder. No more than `CONNECTIONS_MAX` connections are open at once, and no
more than there are descriptors for. Where one more waits in the kernel's queue, those that ask for
nothing make room: nobody is kept out by clients that are silent. Where none is silent, some leave
with their next answer: nobody is kept out by clients that are busy either.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache

from flowtally import limits
from flowtally.api.connection import Connection, House
from flowtally.api.exchange import Exchange
from flowtally.clock import Clock, SystemClock
from flowtally.errors import SettingsError

logger = logging.getLogger(__name__)

_TRY_AGAIN_S = 0.1
"""How long nothing is accepted where there was no room for one more, and how often it is looked for
who could make some."""
_DISMISSED_SHARE = 16
"""One in so many makes room at once: a new connection costs as much as a request."""
_LEAVING_SHARE = 4
"""... and so many may be about to leave: where answers take long, those who wait would otherwise
wait for as long many times over."""
_TELL_S = 10.0
"""How often it is told that connections make room."""


async def serve(
    app: Callable[[Exchange], Awaitable[None]],
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_listening: Callable[[str, int], None],
    clock: Clock = SystemClock(),
    tls: Callable[[], ssl.SSLContext] | None = None,
    on_handshake_failed: Callable[[], None] = lambda: None,
) -> None:
    """Serves until `stop` is set, then lets what is in flight finish, `DRAIN_S` at most.

    A port of 0 takes a free one; `on_listening` is told which, once connections are taken. Raises
    `SettingsError` where the address cannot be had. `tls` is asked anew for each connection.
    """
    with _listen(host, port) as listener:
        door = _Door(app, listener, stop, clock, tls, on_handshake_failed)
        door.open()
        try:
            on_listening(host, listener.getsockname()[1])
            await stop.wait()
        finally:
            door.shut()
    await door.drain()


class _Door:
    """Lets clients in, one connection each."""

    def __init__(
        self,
        app: Callable[[Exchange], Awaitable[None]],
        listener: socket.socket,
        stop: asyncio.Event,
        clock: Clock,
        tls: Callable[[], ssl.SSLContext] | None,
        on_handshake_failed: Callable[[], None],
    ) -> None:
        self._tls = tls
        self._on_handshake_failed = on_handshake_failed
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._stop = stop
        self._clock = clock
        self._house = House(app, self._date, stop.is_set, self._on_end, secure=tls is not None)
        self._connections: set[Connection] = set()
        self._entering: dict[asyncio.Task[None], float] = {}
        """Those that are not connections yet, and since when."""
        self._left = asyncio.Event()
        self._is_open = False
        self._looks_at_s = 0.0
        self._closed_for_others = 0
        self._tells_at_s = 0.0

    def open(self) -> None:
        """Accepts; again, where it was shut."""
        if not self._is_open and not self._stop.is_set() and self._listener.fileno() >= 0:
            self._is_open = True
            self._loop.add_reader(self._listener, self._accept)

    def shut(self) -> None:
        """Accepts nothing."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listener)

    async def drain(self) -> None:
        """Waits until what is in flight is answered, and ends what takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.DRAIN_S):
                for connection in self._connections:
                    connection.stop()
                # What does not enter in time is told so by the timeout.
                with suppress(TimeoutError):
                    async with asyncio.timeout(limits.UNDISTURBED_S):
                        await asyncio.gather(*self._entering)
                await self._until_all_are_gone()
        for connection in self._connections:
            connection.abort()
        await self._until_all_are_gone()

    async def _until_all_are_gone(self) -> None:
        while self._connections:
            self._left.clear()
            await self._left.wait()

    def _accept(self) -> None:
        """Somebody waits. Lets in him and, since under load the event loop comes by only a few
        times a second, others who may wait behind him."""
        if len(self._connections) >= limits.CONNECTIONS_MAX:
            self._make_room()
            return
        for _ in range(limits.ACCEPTED_AT_ONCE_MAX):
            if not self._accept_one() or len(self._connections) >= limits.CONNECTIONS_MAX:
                return

    def _accept_one(self) -> bool:
        """Whether somebody was let in, and another may be."""
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            # Out of descriptors or memory: who is inside may leave, and give some back.
            logger.warning("cannot take a connection", extra={"error": str(error)})
            self._make_room()
            return False
        connection = Connection(self._house)
        self._connections.add(connection)
        task = self._loop.create_task(self._enter(connection, client), name="entering")
        self._entering[task] = self._loop.time()
        task.add_done_callback(self._entering.pop)
        return True

    def _make_room(self) -> None:
        """Somebody waits, and all places are taken, or all descriptors. Where nobody can be done
        without now, it is looked again soon."""
        now_s = self._loop.time()
        if now_s >= self._looks_at_s:
            self._looks_at_s = now_s + _TRY_AGAIN_S
            self._closed_for_others += self._dismiss()
        if self._closed_for_others and now_s >= self._tells_at_s:
            self._tells_at_s = now_s + _TELL_S
            logger.warning(
                "connections were closed to make room for others",
                extra={
                    "closed": self._closed_for_others,
                    "connections_max": limits.CONNECTIONS_MAX,
                },
            )
            self._closed_for_others = 0
        self.shut()
        self._loop.call_later(_TRY_AGAIN_S, self.open)

    def _dismiss(self) -> int:
        """Ends some connections that ask for nothing; where they are too few, has others leave with
        their next answer, those that came first. Returns how many that were."""
        count = max(len(self._connections) // _DISMISSED_SHARE, 1)
        quiet = self._dispensable()[:count]
        for dismiss in quiet:
            dismiss()
        staying = [one for one in self._connections if not one.is_leaving]
        already = len(self._connections) - len(staying)
        more = max(len(self._connections) // _LEAVING_SHARE, 1) - already
        more = max(min(count - len(quiet), more), 0)
        leaving = sorted(staying, key=lambda one: one.entered_s)[:more]
        for connection in leaving:
            connection.leave()
        return len(quiet) + len(leaving)

    def _dispensable(self) -> list[Callable[[], object]]:
        """What dismisses those that can be done without, the least first. Who does not come to the
        end of a handshake never sent anything either."""
        late_s = self._loop.time() - limits.UNDISTURBED_S
        found: list[tuple[tuple[int, float], Callable[[], object]]] = [
            ((0, since_s), task.cancel)
            for task, since_s in self._entering.items()
            if since_s <= late_s
        ]
        found += (
            (rank, connection.dismiss)
            for connection in self._connections
            if (rank := connection.dispensability) is not None
        )
        return [dismiss for _, dismiss in sorted(found, key=lambda one: one[0])]

    async def _enter(self, connection: Connection, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: connection, client)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    client,
                    ssl=self._tls(),
                    ssl_handshake_timeout=limits.HANDSHAKE_S,
                )
        except (OSError, asyncio.CancelledError):
            # It failed, took too long, or others needed the place more.
            if self._tls is not None and not self._stop.is_set():
                self._on_handshake_failed()
            client.close()
            self._on_end(connection)

    def _on_end(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._left.set()
        self.open()

    def _date(self) -> bytes:
        return _date_line(self._clock.now_ms() // 1000)


@lru_cache(maxsize=2)
def _date_line(epoch_s: int) -> bytes:
    """RFC 9110, section 6.6.1."""
    return f"date: {formatdate(epoch_s, usegmt=True)}\r\n".encode()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `SettingsError` naming what is wrong with the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        # Lets a restart have the port while the last one's connections time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(limits.BACKLOG_MAX)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener
