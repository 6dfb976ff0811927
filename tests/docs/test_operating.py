"""The tour of the guide to operating, word for word: each command is typed, and prints what stands
there, but for the figures that are others each time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.service import free_port
from tests.docs.test_quickstart import COMMAND_S_MAX, READY_S_MAX, ROOT, steps

_MARK = "-- what was typed before this line has ended --"
_FIGURE = re.compile(r"\d[\d,.:TZ-]*")


class Terminal:
    """A shell that is typed into; services run beside it."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        program = folder / "bin/flowtally"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowtally.cli.main "$@"\n')
        program.chmod(0o700)
        path = f"{program.parent}:{os.environ['PATH']}"
        self._folder = folder
        self._environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
        self._services: list[subprocess.Popen[bytes]] = []
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str) -> str:
        """What a command prints."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        here = command.replace("8080", str(self._port))
        self._shell.stdin.write(f"{here}\necho; echo '{_MARK}'\n")
        self._shell.stdin.flush()
        lines = []
        for line in self._shell.stdout:
            if line.rstrip("\n") == _MARK:
                break
            lines.append(line)
        return "".join(lines).replace(str(self._port), "8080").rstrip("\n")

    def serve(self) -> None:
        """What `flowtally serve` does in a terminal of its own, until it is ready."""
        folder = self._folder / "tour"
        with (folder / "output.log").open("ab") as output:
            service = subprocess.Popen(
                ["flowtally", "serve"],
                cwd=folder,
                env=self._environment,
                executable=self._folder / "bin/flowtally",
                stdout=output,
                stderr=output,
            )
        self._services.append(service)
        deadline_s = time.monotonic() + READY_S_MAX
        ready = "curl -s --cacert certificate.pem https://localhost:8080/readyz"
        while '"ready"' not in self.type(ready):
            assert service.poll() is None, (folder / "output.log").read_text()
            assert time.monotonic() < deadline_s, "the service is not ready"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends all of it."""
        for service in self._services:
            service.kill()
            service.wait()
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait(COMMAND_S_MAX)
        for pipe in (self._shell.stdin, self._shell.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def _told(command: str, printed: str) -> list[str]:
    """The words of an output, the columns' widths aside. Figures count where they are sums of
    records that were all sent: in what the running service verifies."""
    exact = "verify --url" in command
    words = printed.split()
    if not exact:
        return [_FIGURE.sub("N", word) for word in words]
    return ["HOUR" if re.fullmatch(r"\d{6}", word) and word < "499999" else word for word in words]


def test_the_tour(terminal: Terminal) -> None:
    tour = (ROOT / "docs/guides/operating.md").read_text().partition("\n## A tour")[2]
    typed = 0
    for command, printed in steps(tour):
        if command == "flowtally serve" and not printed.strip():
            terminal.serve()
        else:
            assert _told(command, terminal.type(command)) == _told(command, printed), command
        typed += 1
    assert typed > 20
