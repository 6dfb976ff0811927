"""What a service holds in memory."""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.runbooks.incident import Incident

_MIB = 1024 * 1024
_SENDERS = 14
_SENT_BYTES = 12_000_000
_ANNOUNCED_BYTES = 15_000_000
_HEAD = (
    "POST /v1/flows HTTP/1.1\r\nHost: flowtally\r\nContent-Type: application/json\r\n"
    f"Content-Length: {_ANNOUNCED_BYTES}\r\n\r\n"
).encode()


def test_memory_growing(incident: Incident) -> None:
    """Large bodies come nearly whole, and their ends do not; when they are told so they come again.
    Afterwards they still do, the service holds so much less, and small batches find room."""
    service = incident.service
    service.set(access_log=True, request_deadline_s=5.0)
    service.start_ready()
    incident.post()
    much_bytes = _resident_bytes(service) + 100 * _MIB

    def wait_for_much() -> None:
        wait_for(
            lambda: _resident_bytes(service) > much_bytes, READY_S_MAX, "its memory does not grow"
        )

    def take_settings() -> None:
        settings = tomllib.loads((incident.home / "flowtally.toml").read_text())
        service.set(**settings)

    with _stalled_senders(service.port):
        incident.follow(
            before={
                "ps": wait_for_much,
                "systemctl restart": take_settings,
                "curl -s http://127.0.0.1:8080/readyz": incident.post,
            }
        )
        assert _resident_bytes(service) < much_bytes


def _resident_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.pid}/status").read_text()
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    return int(kilobytes) * 1024


@contextmanager
def _stalled_senders(port: int) -> Iterator[None]:
    ended = Event()

    def send() -> None:
        # Refused connections and answers before the end of a body are no news here.
        while not ended.wait(0.1):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.settimeout(5)
                connection.sendall(_HEAD + b" " * _SENT_BYTES)
                while not ended.is_set() and connection.recv(4096):
                    pass

    with ThreadPoolExecutor(_SENDERS) as threads:
        sending = [threads.submit(send) for _ in range(_SENDERS)]
        try:
            yield
        finally:
            ended.set()
    for one in sending:
        one.result()
