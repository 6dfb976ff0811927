"""What a peer is: a store that takes batches of records and can tell the sums of an hour.

A client process (`drive.py`) gets the bodies that Flowtally is posted and hands them to the peer by
its own driver, where it reads JSON itself, or else parsed and summed with msgspec: the least that a
service in front of that peer would have to do, without the cost of HTTP. None of them keeps
batch_ids: a batch that is sent twice counts twice, which no peer here prevents by itself.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import msgspec

from benchmarks.subject import ROOT, SubjectFailed
from benchmarks.traffic import ExpectedSums, Key

FIELDS = ("src_app", "dest_app", "vpc_id", "hour", "bytes_rx", "bytes_tx")
CONNECTIONS_IN_PROCESS_MAX = 4
"""Of a store in the client's process: its threads only wait for each other."""
_PACKAGES = str(ROOT / ".venv" / "peers")
_STARTED_S_MAX = 60.0
_STOPPED_S_MAX = 60.0


class Missing(Exception):
    """The peer is not installed; says what is missing."""


class Connection(Protocol):
    """One connection of a client, used by one thread."""

    def post(self, body: bytes) -> None:
        """Returns when the batch is as durable as the peer says."""

    def settle(self) -> None:
        """Returns when all that was posted can be read, which often is at once."""

    def read(self, hour: int) -> ExpectedSums:
        """The sums of one hour, as this peer's own client gives them."""

    def close(self) -> None:
        """Ends the connection."""


class Settled:
    """A connection whose posts can be read when they are acknowledged."""

    def settle(self) -> None:
        """There is nothing to wait for."""


class Peer(Protocol):
    """A system beside Flowtally. Constructing one is inert."""

    name: str
    about: str
    durability: str
    """What is true of a batch when `post` returns."""
    lighter: str
    """What it is spared that Flowtally does."""
    in_process: bool
    """Whether the store runs in the client's process, which is then what is measured."""

    def check(self) -> str:
        """The version. Raises `Missing`."""

    def start(self, folder: Path) -> Sequence[int]:
        """Starts its server, if it has one, on a folder of its own; returns the processes."""

    def stop(self) -> None:
        """Stops it in order."""

    def connector(self, folder: Path) -> Callable[[], Connection]:
        """What a client process opens its connections with."""


class _Record(msgspec.Struct, gc=False):
    src_app: str
    dest_app: str
    vpc_id: str
    hour: int
    bytes_rx: int
    bytes_tx: int


_read = msgspec.json.Decoder(list[_Record]).decode


def rows_of(body: bytes) -> list[tuple[str, str, str, int, int, int]]:
    """The records of a body, one row each."""
    return [
        (one.src_app, one.dest_app, one.vpc_id, one.hour, one.bytes_rx, one.bytes_tx)
        for one in _read(body)
    ]


def sums_of(body: bytes) -> dict[Key, list[int]]:
    """The records of a body, summed by flow."""
    sums: dict[Key, list[int]] = {}
    for one in _read(body):
        row = sums.setdefault((one.src_app, one.dest_app, one.vpc_id, one.hour), [0, 0])
        row[0] += one.bytes_rx
        row[1] += one.bytes_tx
    return sums


def columns_of(body: bytes) -> list[list[str] | list[int]]:
    """The sums of a body as six columns, in the order of the keys: so no two batches that touch
    the same flows can wait for each other in a circle."""
    rows = sorted((*key, *sums) for key, sums in sums_of(body).items())
    return [list(column) for column in zip(*rows, strict=True)]


def package(name: str) -> Any:
    """A Python package of which only some peers have need. Raises `Missing`.

    They are in a folder of their own, out of everybody else's way: chDB needs pandas, and where
    that is installed pyarrow imports it, which costs a service a second at its first batch.
    """
    if _PACKAGES not in sys.path:
        sys.path.append(_PACKAGES)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise Missing(f"{name} is not installed") from error


def program(*names: str) -> str:
    """The path of the first of these programs that is here. Raises `Missing`."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise Missing(f"{names[0]} is not installed")


def unprivileged(folder: Path) -> dict[str, object]:
    """How to start a program that refuses to be root: as `nobody`, who is given the folder."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    # Not the folder itself: PostgreSQL wants its own to be closed to others.
    for parent in folder.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A peer's server process: started, waited for, and ended by its own signal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.log = Path()

    def start(
        self, command: Sequence[str], log: Path, is_up: Callable[[], bool], **options: object
    ) -> int:
        """Starts it and waits until `is_up`. Raises `SubjectFailed` with the end of its output."""
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
            )
        deadline_s = time.monotonic() + _STARTED_S_MAX
        while not is_up():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.process.kill()
                tail = log.read_bytes()[-1000:].decode(errors="replace")
                raise SubjectFailed(f"{self.name} does not start: {tail}")
            time.sleep(0.05)
        pid: int = self.process.pid
        return pid

    def stop(self, signal: int) -> None:
        """Ends it by the signal that lets it finish."""
        if self.process is not None:
            self.process.send_signal(signal)
            try:
                self.process.wait(_STOPPED_S_MAX)
            finally:
                self.process.kill()
                self.process.wait()
            self.process = None


def is_listening(port: int) -> bool:
    """Whether something takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
