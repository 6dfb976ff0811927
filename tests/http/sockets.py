"""A service behind a real port, and clients that say exactly what a test wants on the wire."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from flowtally.api.exchange import Exchange
from flowtally.api.server import serve
from tests.http.service import Service, encoded, record

BODY = encoded([record()])
ANSWER_S_MAX = 60.0
"""How long a test waits for what must come; a slow machine is not a fault."""


class Peer:
    """One connection, used from a thread: sends bytes as they are and reads what comes."""

    def __init__(
        self, port: int, timeout_s: float = ANSWER_S_MAX, tls: ssl.SSLContext | None = None
    ) -> None:
        """Raises `ssl.SSLError` where the two cannot speak."""
        plain = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket = plain
        if tls is not None:
            try:
                self._socket = tls.wrap_socket(plain, server_hostname="localhost")
            except OSError:
                plain.close()
                raise
        self._received = b""

    async def send(self, data: bytes) -> None:
        """Raises `OSError` where the connection was closed on us."""
        await asyncio.to_thread(self._socket.sendall, data)

    async def end(self) -> None:
        """Says that nothing more comes."""
        await asyncio.to_thread(self._socket.shutdown, socket.SHUT_WR)

    async def answer(self, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """The next answer: its status, headers and body; that to a HEAD has none."""
        head = await self._until(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)
        }
        length = int(headers.get("content-length", "0")) if has_body else 0
        while len(self._received) < length:
            self._received += await self._read()
        body, self._received = self._received[:length], self._received[length:]
        return int(status.split()[1]), headers, body

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        while data := await self._read():
            self._received += data
        received, self._received = self._received, b""
        return received

    async def is_closed(self) -> bool:
        """Waits until the server closes."""
        try:
            return await self._read() == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._socket.close()

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            data = await self._read()
            assert data, f"the server closed after {self._received!r}"
            self._received += data
        head, self._received = self._received.split(mark, 1)
        return head

    async def _read(self) -> bytes:
        return await asyncio.to_thread(self._socket.recv, 65536)


class Listening:
    """A service that serves on a port."""

    def __init__(self, service: Service, port: int, stop: asyncio.Event) -> None:
        self.service = service
        self.port = port
        self.stop = stop
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        peer = Peer(self.port)
        self.peers.append(peer)
        return peer


@asynccontextmanager
async def listening(
    service: Service,
    app: Callable[[Exchange], Awaitable[None]] | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> AsyncIterator[Listening]:
    """Serves while the block runs, and waits for the end of serving; `app` may stand in for the
    service's own."""
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            app or service.app,
            "127.0.0.1",
            0,
            stop=stop,
            on_listening=lambda host, port: bound.set_result(port),
            tls=tls,
            on_handshake_failed=lambda: service.metrics.count_denied("handshake"),
        )
    )
    server = Listening(service, await bound, stop)
    try:
        yield server
    finally:
        stop.set()
        await serving
        for peer in server.peers:
            peer.close()


def head(method: str = "POST", target: str = "/v1/flows", *lines: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def post(body: bytes) -> bytes:
    return head("POST", "/v1/flows", f"Content-Length: {len(body)}") + body


async def eventually(holds: Callable[[], bool]) -> None:
    """Waits for a condition."""
    until = time.monotonic() + ANSWER_S_MAX
    while not holds():
        assert time.monotonic() < until, "it did not become true"
        await asyncio.sleep(0.005)
