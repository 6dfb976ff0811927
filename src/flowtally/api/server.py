"""Serves an ASGI application with granian, in this process and on this event loop.

One process owns the store, so granian's own worker processes are not used: a kill ends everything,
and nothing is left that holds the data folder. HTTP/1.1 only.

What granian sees to: a head is read within a deadline and a bound (431, 414), a malformed request
is answered 400 and closed, a body is fetched no faster than the application reads it, and no more
than `_CONNECTIONS_MAX` connections are served at once; further ones wait in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from flowtally import limits
from flowtally.errors import SettingsError

_CONNECTIONS_MAX = 1024
_HEADER_TIMEOUT_MS = 30_000
# Granian sets the handlers of its own loggers up with `dictConfig`, which closes everybody else's
# unless it is told to leave them alone.
_LEAVE_LOGGING_ALONE = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}


class _ServerOnSocket(Server):  # type: ignore[misc]
    """Serves on a socket that is bound already.

    Granian would bind its own with SO_REUSEPORT: a second service on the same port would be
    accepted, and take half of the connections.
    """

    def __init__(self, app: Any, listener: socket.socket) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADER_TIMEOUT_MS),
            websockets=False,
            backlog=_CONNECTIONS_MAX,
            backpressure=_CONNECTIONS_MAX,
            log_enabled=False,
            log_dictconfig=_LEAVE_LOGGING_ALONE,
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # Granian's stubs know neither that this may be set nor what a holder is made of.
        holder: Any = SocketHolder
        # The holder closes the descriptor itself, so it is given away.
        self._shd = holder(self._listener.detach(), False, _CONNECTIONS_MAX)

    def interrupt(self) -> None:
        """Begins to stop: no new connections, what is in flight is answered."""
        self.interrupt_signal = True
        self.main_loop_interrupt.set()


async def serve(
    app: Any,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_listening: Callable[[str, int], None],
) -> None:
    """Serves until `stop` is set, then lets what is in flight finish, `DRAIN_S` at most.

    A port of 0 takes a free one; `on_listening` is told which, once connections are taken. Raises
    `SettingsError` where the address cannot be had.
    """
    with _listen(host, port) as listener:
        server = _ServerOnSocket(app, listener)
        serving = asyncio.create_task(server.serve(), name="http-server")
        stopping = asyncio.create_task(stop.wait(), name="http-stop")
        try:
            on_listening(host, listener.getsockname()[1])
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.interrupt()
            await asyncio.wait((serving,), timeout=limits.DRAIN_S)
            if not serving.done():
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    await serving
    if not serving.cancelled():
        serving.result()


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
        listener.listen(_CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener
