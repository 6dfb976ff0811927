"""Senders that remember every batch, and backups taken by the real command beside them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.crash.batches import BatchGenerator, Sending
from tests.crash.calls import Connection, NoAnswer, send
from tests.crash.expected import Expected, differences
from tests.crash.service import ROOT, Service, wait_for

WRITERS = 4
WAIT_S_MAX = 60.0
_COMMAND = (sys.executable, "-m", "flowtally.cli.main")
_TAKEN = (200, 202)


class Senders:
    """Send until they are stopped; what is not answered stays the last of its writer."""

    def __init__(self, port: int, seed: int) -> None:
        self.acknowledged: list[Sending] = []
        """In the order of their answers."""
        self.unanswered: list[Sending] = []
        self._port = port
        self._lock = threading.Lock()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(BatchGenerator(seed, writer),))
            for writer in range(WRITERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join(WAIT_S_MAX)

    def wait_for_more(self, more: int) -> None:
        """Waits until so many more batches are acknowledged than now."""
        wanted = len(self.acknowledged) + more
        wait_for(lambda: len(self.acknowledged) >= wanted, WAIT_S_MAX, "no more acknowledged")

    def all(self) -> list[Sending]:
        return [*self.acknowledged, *self.unanswered]

    def _run(self, generator: BatchGenerator) -> None:
        with Connection(self._port) as connection:
            while not self._stopping:
                sending = generator.next()
                try:
                    taken = send(connection, sending.body, sending.key).status in _TAKEN
                except NoAnswer:
                    taken = False
                with self._lock:
                    (self.acknowledged if taken else self.unanswered).append(sending)
                if not taken:
                    return


@contextmanager
def sending(service: Service, seed: int) -> Iterator[Senders]:
    """Some batches are acknowledged when this begins."""
    senders = Senders(service.port, seed)
    senders.start()
    try:
        senders.wait_for_more(40)
        yield senders
    finally:
        senders.stop()


def flowtally(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    return subprocess.run(
        [*_COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=WAIT_S_MAX,
        check=False,
    )


def begin(*arguments: object) -> subprocess.Popen[bytes]:
    """Starts the command line and leaves it running."""
    return subprocess.Popen([*_COMMAND, *map(str, arguments)], cwd=ROOT)


def back_up(service: Service, folder: Path) -> None:
    """Of a running service, which must succeed."""
    done = flowtally("backup", folder, "--url", f"http://127.0.0.1:{service.port}")
    assert done.returncode == 0, done.stderr + service.output()


def restore(folder: Path, data: Path) -> None:
    """Which must succeed."""
    done = flowtally("restore", folder, "--data", data)
    assert done.returncode == 0, done.stderr
    assert "balances, and is what the backup's manifest says" in done.stdout


def counted(sendings: Sequence[Sending]) -> Expected:
    """What the sums of these must be."""
    expected = Expected()
    for one in sendings:
        expected.add(one)
    return expected


def settle(port: int) -> None:
    with Connection(port) as connection:
        assert connection.request("POST", "/v1/aggregate").status == 200


def assert_sums(service: Service, sendings: Sequence[Sending]) -> None:
    """Exactly these are in the sums of the running service."""
    settle(service.port)
    found = differences(counted(sendings), service.port)
    assert not found, "\n".join(found[:20])


def resend(service: Service, sendings: Sequence[Sending]) -> list[Sending]:
    """Sends all of them again; returns those that had been counted before."""
    before = []
    with Connection(service.port) as connection:
        for one in sendings:
            answer = send(connection, one.body, one.key)
            assert answer.status in _TAKEN, answer
            if answer.headers.get("idempotency-replayed") == "true":
                before.append(one)
    return before
