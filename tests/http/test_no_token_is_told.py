"""A service as it is started, over TLS and with tokens, driven through failures: no token is in
anything that it says, nor anything that it is asked about itself."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from threading import Thread

import pytest

from flowtally.access.tokens import new_token
from flowtally.access.tokens_file import add_token, revoke_token
from tests.certificates import Authority, Issued
from tests.http.service import encoded, record

WAIT_S = 60
BODY = encoded([record()])


@dataclass
class Running:
    """The process, what it has said, and all that it has answered."""

    process: subprocess.Popen[str]
    trust: ssl.SSLContext
    port: int = 0
    said: list[str] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)

    def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None = None
    ) -> int:
        """The status; 0 where no answer came."""
        connection = HTTPSConnection("localhost", self.port, context=self.trust, timeout=WAIT_S)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            self.answered += [str(answer.headers).encode(), answer.read()]
            return answer.status
        except (HTTPException, OSError):
            return 0
        finally:
            connection.close()

    def raw(self, data: bytes) -> None:
        """Sends what is no request."""
        connection = HTTPSConnection("localhost", self.port, context=self.trust, timeout=WAIT_S)
        try:
            connection.connect()
            connection.sock.sendall(data)
            self.answered.append(connection.sock.recv(65536))
        except OSError:
            pass
        finally:
            connection.close()

    def wait_for(self, holds: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < until_s, "".join(self.said)
            time.sleep(0.02)


@contextmanager
def serving(folder: Path, issued: Issued, ca: Path, form: str) -> Iterator[Running]:
    options = {
        "port": "0",
        "host": "0.0.0.0",
        "data": folder / "data",
        "tokens": folder / "tokens",
        "tls-certificate": issued.certificate,
        "tls-key": issued.key,
        "log-level": "debug",
        "log-format": form,
        "rate-limit-requests-per-s": "1000000",
    }
    command = [sys.executable, "-m", "flowtally.cli.main", "serve"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    trust = ssl.create_default_context(cafile=ca)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    ) as process:
        running = Running(process, trust)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        reader = Thread(target=lambda: running.said.extend(lines))
        reader.start()
        try:
            running.wait_for(lambda: "listening" in "".join(running.said))
            found = re.search(r"https://0\.0\.0\.0:(\d+)", "".join(running.said))
            assert found is not None
            running.port = int(found[1])
            yield running
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
            reader.join()


def drive(running: Running, token: str) -> None:
    """One token in every place that a client may put it, rightly or by mistake."""
    bearer = {"Authorization": f"Bearer {token}"}
    for method, target, headers, body in (
        ("POST", "/v1/flows", bearer, BODY),
        ("POST", "/v1/flows", bearer, b"[{"),
        ("POST", "/v1/flows", bearer, f'[{{"{token}":1}}]'.encode()),
        ("POST", "/v1/flows", {**bearer, "Content-Type": f"text/{token}"}, BODY),
        ("POST", "/v1/flows", {**bearer, "Content-Encoding": token}, BODY),
        ("POST", "/v1/flows", {**bearer, "Idempotency-Key": f"{token} {token}"}, BODY),
        ("POST", "/v1/flows", {**bearer, "Idempotency-Key": token}, b"[{"),
        ("POST", "/v1/aggregate", bearer, b""),
        ("GET", "/v1/flows?hour=1", bearer, None),
        ("GET", f"/v1/flows?hour=1&{token}=1", bearer, None),
        ("GET", f"/v1/flows?hour={token}", bearer, None),
        ("GET", f"/v1/flows?access_token={token}", {}, None),
        ("GET", f"/{token}", bearer, None),
        ("PUT", f"/v1/flows/{token}", bearer, None),
        ("GET", "/v1/hours", {**bearer, "X-Request-ID": token, "User-Agent": token}, None),
        ("GET", "/v1/hours", {**bearer, "Accept": f"text/{token}"}, None),
        ("GET", "/v1/hours", {"Authorization": f"Basic {token}"}, None),
        ("GET", "/v1/hours", {"Authorization": f"Bearer {token}, Bearer {token}"}, None),
        ("GET", "/v1/hours", {"Authorization": token}, None),
        ("GET", "/livez", {**bearer, "X-Request-ID": token}, None),
        ("GET", "/livez", {**bearer, "X-Request-ID": f"agent.{token}"}, None),
    ):
        assert running.ask(method, target, headers, body) > 0
    authorization = f"Authorization: Bearer {token}\r\n"
    for begin in (
        f"GET / HTTP/1.1\r\n{authorization}\r\n",
        f"GET / HTTP/1.1\r\nHost: {token}, x\r\n{authorization}\r\n",
        f"{token} / HTTP/1.1\r\n{authorization}\r\n",
        f"POST /v1/flows HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: {token}\r\n\r\n",
    ):
        running.raw(begin.encode())


@pytest.mark.parametrize("form", ["json", "human"])
def test_no_token_is_in_anything_that_it_says(tmp_path: Path, form: str) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("service")
    file = tmp_path / "tokens"
    everything = add_token(file, "everything", ["read", "write", "admin"], "2026")
    tokens = [
        everything,
        add_token(file, "reads", ["read"], "2026"),
        add_token(file, "revoked", ["write"], "2026"),
        new_token(),
    ]
    revoke_token(file, "revoked", "2027")
    bearer = {"Authorization": f"Bearer {everything}"}
    with serving(tmp_path, issued, authority.certificate, form) as running:
        for token in tokens:
            drive(running, token)
        # A failure of the service itself, with its trace, and a file that cannot be used.
        file.write_text(f'{{"tokens": [{{"{tokens[0]}": 1}}]}}')
        running.wait_for(lambda: "files cannot be used" in "".join(running.said))
        for path in ("/metrics", "/health", "/v1/ledger", "/openapi.json", "/docs/problems"):
            assert running.ask("GET", path, bearer) in (200, 503)
    said = "".join(running.said)
    told = said.encode() + b"".join(running.answered)
    assert "token=reads" in said or '"token":"reads"' in said
    # They had come as far as the log, and as far as an answer.
    assert "flt_***" in said and b"flt_***" in b"".join(running.answered)
    for token in tokens:
        # Not even most of one.
        for at in range(4, 33):
            found = told.find(token[at : at + 20].encode())
            assert found < 0, told[max(0, found - 200) : found + 200]


def test_a_signal_has_the_files_read_again(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("service")
    add_token(tmp_path / "tokens", "a", ["read"], "2026")
    with serving(tmp_path, issued, authority.certificate, "json") as running:
        running.process.send_signal(signal.SIGHUP)

        def reread() -> set[str]:
            found = [json.loads(line) for line in running.said]
            return {line["part"] for line in found if line["event"] == "read anew"}

        # Though they have not changed.
        running.wait_for(lambda: reread() == {"tokens", "certificate"})
        assert running.ask("GET", "/livez", {}) == 200
