"""The real process: started, waited for, killed -9, started again on the same folder and port.

Nothing here waits a fixed time. What it waits for is asked again and again until it holds, or until
a deadline that is generous because a slow machine is not a fault.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from flowtally.config import SQL_URL
from flowtally.limits import (
    DISK_FREE_BYTES_MIN,
    IN_FLIGHT_BYTES_MAX,
    REQUEST_DEADLINE_S,
    SQL_CHANGE_S,
)
from tests.crash.calls import NoAnswer, get
from tests.crash.nursery import Forked, Nursery

ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 90.0
STOP_S_MAX = 60.0
_POLL_S = 0.01
TROUBLE = "trouble.json"
_OUTPUT_SHOWN_BYTES = 6_000


class ServiceDied(Exception):
    """The process ended while it should have become ready. The text is the end of its output."""

    def __init__(self, code: int, output: str) -> None:
        super().__init__(f"the service ended with {code}:\n{output}")
        self.code = code
        self.output = output


@dataclass(frozen=True)
class Launch:
    """How the next process is started; `launcher.py` reads it."""

    data: str
    port: int
    die_at: str | None = None
    """The step of `flowtally.steps` to die at ..."""
    die_at_count: int = 1
    """... when it comes up for the so-manieth time."""
    store: str = "duckdb"
    sql_url: str = SQL_URL
    sql_change_s: float = SQL_CHANGE_S
    """How long PostgreSQL may answer nothing in a commit."""
    sql_lock_wait_s: int = 3
    """How long a commit waits for a shell that has SQLite's file locked."""
    snapshot_interval_s: float = 0.0
    aggregate_interval_s: float = 3600.0
    clock_ahead_ms: int = 0
    """How far the service's clock is ahead of the machine's."""
    disk_free_bytes_min: int = DISK_FREE_BYTES_MIN
    """Below this the service does not even try to write."""
    in_flight_bytes_max: int = IN_FLIGHT_BYTES_MAX
    request_deadline_s: float = REQUEST_DEADLINE_S
    access_log: bool = False
    tokens: str | None = None
    """The file of the tokens that clients must have."""
    settings_file: str | None = None
    """A settings file, read at each start; what stands in it counts before what stands here."""


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in a running service from now on; `launcher.py` reads it. Without anything,
    all of it is over."""

    block_at: str | None = None
    """The step of `flowtally.steps` at which every thread that comes there goes no further."""
    cancel: str | None = None
    """The background task that is ended, by its name."""
    clock_ahead_ms: int = 0
    """How far the service's clock is set ahead of the machine's."""


class Service:
    """One data folder and one port, and the processes that serve them, one after the other."""

    def __init__(
        self, folder: Path, data: Path | None = None, nursery: Nursery | None = None
    ) -> None:
        """`folder` takes the output; the data goes into it too, unless another place is named.
        Without a nursery, or with an environment of its own, each process is started by `exec`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = data or folder / "data"
        self.launch = Launch(str(self.data), free_port())
        self.environment: dict[str, str] = {}
        self.starts = 0
        self._nursery = nursery
        self._process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def port(self) -> int:
        return self.launch.port

    @property
    def output_path(self) -> Path:
        """What all its processes wrote, one after the other."""
        return self.folder / "output.log"

    def output(self) -> str:
        """The end of what the processes wrote."""
        if not self.output_path.exists():
            return ""
        return self.output_path.read_bytes()[-_OUTPUT_SHOWN_BYTES:].decode(errors="replace")

    def tell(self, replay: str = "") -> None:
        """Prints where everything is kept, for whoever looks into a failure."""
        print(f"\nthe data folder is kept in {self.data}")
        print(f"the output of {self.starts} processes is kept in {self.output_path}")
        if replay:
            print(f"to run it again: {replay}")
        print(f"the end of the output:\n{self.output()}")

    def set(self, **changes: object) -> None:
        """Changes how the next process is started."""
        self.launch = replace(self.launch, **changes)  # type: ignore[arg-type]

    def trouble(self, **kind: object) -> None:
        """Brings trouble to the running process, see `Trouble`; without any, ends it."""
        path = self.data.parent / TROUBLE
        path.write_bytes(msgspec.json.encode(Trouble(**kind)))  # type: ignore[arg-type]
        os.kill(self.pid, signal.SIGUSR1)

    def start(self, by_exec: bool = False) -> None:
        """Starts a process and does not wait for it; `by_exec` even where there is a nursery."""
        assert not self.is_alive(), "the last process is still there"
        self.starts += 1
        order = msgspec.json.encode(self.launch)
        if self._nursery is not None and not self.environment and not by_exec:
            self._process = self._nursery.fork(order, self.output_path)
        else:
            self._process = self._execute(order)

    def _execute(self, order: bytes) -> subprocess.Popen[bytes]:
        with self.output_path.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.launcher"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **self.environment},
            )
        assert process.stdin is not None
        process.stdin.write(order)
        process.stdin.close()
        return process

    def limit(self, kind: int, value: int) -> None:
        """Sets a resource limit (`resource.RLIMIT_...`) of the running process."""
        _, hard = resource.prlimit(self.pid, kind)
        resource.prlimit(self.pid, kind, (value, hard))

    def unlimit(self, kind: int) -> None:
        """Sets a resource limit back to the most that is allowed."""
        _, hard = resource.prlimit(self.pid, kind)
        resource.prlimit(self.pid, kind, (hard, hard))

    def wait_ready(self, timeout_s: float = READY_S_MAX) -> float:
        """Waits until it accepts; returns how many seconds that took. Raises `ServiceDied`."""
        began_s = time.monotonic()
        wait_for(self._is_ready, timeout_s, "the service is not ready", self.output)
        return time.monotonic() - began_s

    def _is_ready(self) -> bool:
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            raise ServiceDied(code, self.output())
        return self.answers("/readyz", 200)

    def wait_refusing(self) -> None:
        """Waits until it serves without accepting, or has ended by itself."""
        wait_for(
            lambda: not self.is_alive() or self.answers("/readyz", 503),
            READY_S_MAX,
            "the service neither refuses nor ends",
            self.output,
        )

    def answers(self, path: str, status: int) -> bool:
        """Whether a GET is answered with this status now."""
        try:
            return get(self.port, path).status == status
        except NoAnswer:
            return False

    def start_ready(self, by_exec: bool = False) -> float:
        """Starts a process and waits until it accepts; returns how many seconds that took."""
        began_s = time.monotonic()
        self.start(by_exec)
        self.wait_ready()
        return time.monotonic() - began_s

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9, and waits until it is gone. Nothing happens if it is gone already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and waits until it has ended; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait_ended(STOP_S_MAX)

    def wait_ended(self, timeout_s: float = READY_S_MAX) -> int:
        """Waits until the process has ended by itself; returns its exit code, -9 if killed."""
        assert self._process is not None
        return self._process.wait(timeout_s)


def wait_for(
    holds: Callable[[], bool],
    timeout_s: float,
    complaint: str,
    details: Callable[[], str] = lambda: "",
) -> None:
    """Asks again and again until it holds."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"{complaint} after {timeout_s} s\n{details()}"
        time.sleep(_POLL_S)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(service: Service, replay: str = "") -> Iterator[Service]:
    """Ends the process at the end, whatever happens; a failure prints where all of it is."""
    try:
        yield service
    except BaseException:
        service.tell(replay)
        raise
    finally:
        service.kill()
