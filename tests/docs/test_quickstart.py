"""The README's quickstart, word for word: each command is run, and its output is what stands there.

Two words are read differently here: the port is a free one instead of 8080, and `make run` is what
the Makefile runs, without its set-up. Output is compared whole.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.service import free_port

ROOT = Path(__file__).parents[2]
READY_S_MAX = 90
COMMAND_S_MAX = 120


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page, which may go on over several lines, with what stands under it."""
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines(keepends=True)
            length = 1
            while "".join(lines[:length]).count("'") % 2:
                length += 1
            yield "".join(lines[:length]).rstrip("\n"), "".join(lines[length:])


class Terminals:
    """Two terminals in a folder that looks like a checkout: one serves, the other one types."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / "examples").symlink_to(ROOT / "examples")
        program = folder / ".venv/bin/flowtally"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowtally.cli.main "$@"\n')
        program.chmod(0o700)
        self._environment = {
            **os.environ,
            "FLOWTALLY_URL": f"http://127.0.0.1:{self._port}",
            "FLOWTALLY_PORT": str(self._port),
            "PYTHONPATH": str(ROOT / "src"),
        }

    def type(self, command: str) -> str:
        """What a command prints."""
        if command == "make run":
            self._serve()
            return ""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {self._here(command)}"],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def _here(self, text: str) -> str:
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self._port}")

    def _serve(self) -> None:
        if self._server is not None:
            assert self._server.wait(COMMAND_S_MAX) == -9
        with (self._folder / "output.log").open("ab") as output:
            self._server = subprocess.Popen(
                [self._folder / ".venv/bin/flowtally", "serve"],
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        deadline_s = time.monotonic() + READY_S_MAX
        while not self._is_ready():
            assert self._server.poll() is None, (self._folder / "output.log").read_text()
            assert time.monotonic() < deadline_s, "the service is not ready"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz"):
                return True
        except urllib.error.URLError:
            return False

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    terminals = Terminals(tmp_path)
    yield terminals
    terminals.close()


def test_the_quickstart(terminals: Terminals) -> None:
    quickstart = (
        (ROOT / "README.md").read_text().partition("## Quickstart")[2].partition("\n## ")[0]
    )
    typed = 0
    for command, printed in steps(quickstart):
        answer = terminals.type(command)
        # curl ends no line; a terminal's next prompt would stand behind it.
        assert answer.removesuffix("\n") == printed.removesuffix("\n"), command
        typed += 1
    assert typed > 10


def test_make_run_is_what_the_quickstart_says() -> None:
    """With everything set up; and what it runs is what the test above runs."""
    # The make that runs the tests hands its own ARGS on to every make below it.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/.kernel", "run"],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines()[-1] == "exec .venv/bin/flowtally serve "
