"""A service that is measured: started on a free loopback port and a folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.traffic import ExpectedSums

ROOT = Path(__file__).resolve().parents[1]
_READY_S_MAX = 120.0
_STOP_S_MAX = 60.0
_ANSWER_S_MAX = 300.0
_POLL_S = 0.02
_COME_BACK = (429, 503)


class SubjectFailed(Exception):
    """The service did not start, died, or answered what it must not."""


@dataclass(frozen=True)
class Subject:
    """How a service is started. `{data}` and `{port}` are filled in."""

    name: str
    about: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    settle: tuple[str, ...] = ()
    """The command after which all that was acknowledged can be read; none where it can at once."""
    pids: tuple[int, ...] = ()
    """Other processes that it needs, measured with it."""


FLOWTALLY = Subject(
    "flowtally",
    "`flowtally serve`, as it comes",
    ("-m", "flowtally.cli.main", "serve", "--data", "{data}", "--port", "{port}"),
)
ROWSTORE = Subject(
    "rowstore",
    "FastAPI, pydantic, SQLAlchemy, SQLite: one row per record (`benchmarks/rowstore`)",
    ("-m", "uvicorn", "--factory", "benchmarks.rowstore.app:of_environment", "--port", "{port}"),
    (("ROWSTORE_DATA", "{data}"),),
)
SUBJECTS = (FLOWTALLY, ROWSTORE)


@dataclass
class Running:
    """A started service."""

    subject: Subject
    process: subprocess.Popen[bytes]
    data: Path
    log: Path
    port: int
    killed: bool = False

    def settle(self) -> None:
        """Returns when all that was acknowledged can be read."""
        if self.subject.settle:
            filled = [part.format(port=self.port) for part in self.subject.settle]
            ended = subprocess.run(
                [sys.executable, *filled], cwd=ROOT, capture_output=True, text=True
            )
            if ended.returncode != 0:
                raise SubjectFailed(f"{self.subject.name} does not settle: {ended.stderr[-500:]}")

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.killed = True
        self.process.kill()

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of a GET on a new connection."""
        return self._ask("GET", path)

    def post(self, body: bytes) -> None:
        """Posts one batch. Raises `SubjectFailed` unless it is acknowledged."""
        if not self.post_or_wait(body):
            raise SubjectFailed(f"{self.subject.name} is full")

    def post_or_wait(self, body: bytes) -> bool:
        """Posts one batch; false if the service is full for now and asks to be sent it later."""
        status, answer = self._ask("POST", "/v1/flows", body)
        if status in _COME_BACK:
            return False
        if not 200 <= status < 300:
            raise SubjectFailed(f"{self.subject.name} answered {status}: {answer[:500]!r}")
        return True

    def facts(self, part: str) -> dict[str, Any]:
        """What `/health` tells of a part of Flowtally; nothing where there is no such part."""
        parts = json.loads(self.get("/health")[1])["parts"]
        return next((one["facts"] for one in parts if one["name"] == part), {})

    def sums(self, hour: int) -> bytes:
        """The answer of a read. Raises `SubjectFailed` unless it is one."""
        status, body = self.get(f"/v1/flows?hour={hour}")
        if status != 200:
            raise SubjectFailed(f"{self.subject.name} answered {status}: {body[:500]!r}")
        return body

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_S_MAX)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running(subject: Subject, folder: Path) -> Iterator[Running]:
    """Starts the service on the folder, waits until it answers, and stops it by SIGTERM."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    log = folder / "output.log"
    port = _free_port()
    filled = {"data": str(data), "port": str(port)}
    command = [sys.executable, *(part.format_map(filled) for part in subject.command)]
    environment = {name: value.format_map(filled) for name, value in subject.environment}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
    started = Running(subject, process, data, log, port)
    try:
        _wait_ready(started)
        yield started
        process.terminate()
        if process.wait(_STOP_S_MAX) not in ((-9,) if started.killed else (0, -15)):
            raise SubjectFailed(f"{subject.name} ended with {process.returncode}: {_tail(log)}")
    finally:
        process.kill()
        process.wait()


def assert_sums(started: Running, expected: ExpectedSums) -> None:
    """Raises `SubjectFailed` unless every sum is as expected, and nothing else is there."""
    found: ExpectedSums = {}
    for hour in sorted({key[3] for key in expected}):
        for row in json.loads(started.sums(hour)):
            key = (row["src_app"], row["dest_app"], row["vpc_id"], row["hour"])
            found[key] = (row["bytes_rx"], row["bytes_tx"])
    assert_equal(found, expected, started.subject.name)


def assert_equal(found: ExpectedSums, expected: ExpectedSums, name: str) -> None:
    """Raises `SubjectFailed` with the number of differences, and the first of them."""
    keys = found.keys() | expected.keys()
    wrong = sorted(key for key in keys if found.get(key) != expected.get(key))
    if wrong:
        first = f"{wrong[0]}: {found.get(wrong[0])}, not {expected.get(wrong[0])}"
        raise SubjectFailed(f"{name} has {len(wrong)} wrong sums, as {first}")


def disk_bytes(folder: Path) -> int:
    """The size of all files below a folder, but for those of PostgreSQL's log: it keeps them to
    write them again, and how many there are says nothing of what is stored."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "pg_wal"
    )


def _wait_ready(started: Running) -> None:
    deadline_s = time.monotonic() + _READY_S_MAX
    while True:
        if started.process.poll() is not None:
            raise SubjectFailed(f"{started.subject.name} ended: {_tail(started.log)}")
        try:
            if started.get("/v1/flows?hour=0")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > deadline_s:
            raise SubjectFailed(f"{started.subject.name} does not answer: {_tail(started.log)}")
        time.sleep(_POLL_S)


def _tail(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
