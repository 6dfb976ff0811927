"""A loopback proxy that loses answers, as networks do: the request arrives, the answer does not.

Of each answer that the service gives, a drawn part never leaves (the connection is closed without a
byte), and another part is cut in the middle and the connection reset. Requests always arrive whole:
that is the harder case, since the sender cannot know that it was counted.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

_LINGER_NONE = struct.pack("ii", 1, 0)
"""With SO_LINGER: closing sends a reset instead of an orderly end."""


@dataclass(frozen=True)
class Losses:
    """How often what happens to an answer."""

    dropped_probability: float = 0.3
    reset_probability: float = 0.1
    seed: int = 0


@dataclass
class Seen:
    """What the proxy did."""

    passed: int = 0
    dropped: int = 0
    reset: int = 0


class LossyProxy:
    """Listens on its own port and passes each connection on to the service's. Each answer must say
    its Content-Length, as answers to writes do."""

    def __init__(self, target_port: int, losses: Losses) -> None:
        self.seen = Seen()
        self._losses = losses
        self._random = random.Random(losses.seed)
        self._random_lock = threading.Lock()
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def start(self) -> None:
        self._spawn(self._accept)

    def close(self) -> None:
        """Ends every connection and every thread."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._sockets):
            _end(connection)
        for thread in self._threads:
            thread.join()

    def _spawn(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            self._spawn(self._pass_requests, client, server)
            self._spawn(self._pass_answers, client, server)

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while chunk := client.recv(65536):
                server.sendall(chunk)
        _end(server)

    def _pass_answers(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), server.makefile("rb") as answers:
            while answer := _read_answer(answers):
                fate = self._draw()
                if fate < self._losses.dropped_probability:
                    self.seen.dropped += 1
                    break
                if fate < self._losses.dropped_probability + self._losses.reset_probability:
                    self.seen.reset += 1
                    client.sendall(answer[: len(answer) // 2])
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                    # Wakes the thread that receives: while it does, nothing would be closed.
                    client.shutdown(socket.SHUT_RD)
                    client.close()
                    break
                self.seen.passed += 1
                client.sendall(answer)
        _end(client)
        _end(server)

    def _draw(self) -> float:
        with self._random_lock:
            return self._random.random()


def _read_answer(answers: BinaryIO) -> bytes:
    """One whole answer; empty where the service has closed the connection."""
    head = b""
    length = 0
    while not head.endswith(b"\r\n\r\n"):
        line = answers.readline()
        if not line:
            return b""
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        head += line
    return head + answers.read(length)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
