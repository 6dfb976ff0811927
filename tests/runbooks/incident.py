"""A service in trouble, and somebody who types what its runbook says, in the page's order.

What stands in the page is run as it stands there, by a shell, in the folder that has `data` and
`flowtally.log`. Three things are read differently: the port is a free one instead of 8080,
`systemctl VERB UNIT` acts on what the test has started, and a command that only looks is run again
until it shows what the page shows, as somebody who waits would do it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.crash.accounts import assert_exact, assert_service_sound
from tests.crash.batches import BatchGenerator, Sending
from tests.crash.calls import Connection, send
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, ROOT, Service, wait_for
from tests.docs.test_quickstart import steps
from tests.runbooks.printed import is_as_shown

RUNBOOKS = ROOT / "docs" / "runbooks"
_COMMAND_S_MAX = 60
_SHOWN_S_MAX = 45.0
_PAUSE_S = 0.2
_LOOKS = re.compile(r"(curl -s '?http|flowtally (health|verify)|grep|tail|df|du|date|ls|ps)\b")
"""Commands that change nothing: they may be run again."""


class Incident:
    """One service and all that was acknowledged by it. The page is that of the runbook's name."""

    def __init__(self, page: str, service: Service, seed: int) -> None:
        self.service = service
        self.expected = Expected()
        self.sent: list[Sending] = []
        self._in_doubt: list[Sending] = []
        """Answered 503: not counted, or counted all the same, until they are sent again."""
        self.is_followed = False
        self.token = ""
        """Sent with each post, where there is one."""
        self.environment: dict[str, str] = {}
        """For the commands of the page, beside what the machine has."""
        self.units: dict[str, dict[str, Callable[[], object]]] = {
            "flowtally": {"start": self._start, "stop": self._stop, "restart": self._restart}
        }
        """What `systemctl` knows, by name and verb."""
        self._page = RUNBOOKS / f"{page}.md"
        self._batches = BatchGenerator(seed, 0)
        self._home = service.data.parent
        log = self._home / "flowtally.log"
        if not log.exists():
            log.symlink_to(service.output_path)
        self._programs = service.folder / "programs"
        self._programs.mkdir()
        program = self._programs / "flowtally"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowtally.cli.main "$@"\n')
        program.chmod(0o700)

    @property
    def home(self) -> Path:
        """The folder in which the commands are typed."""
        return self._home

    def post(self, count: int = 5) -> None:
        """Has so many batches acknowledged."""
        for _ in range(count):
            self.post_one(self._batches.next())

    def post_one(self, sending: Sending) -> None:
        """Has this batch acknowledged."""
        assert self.deliver(sending) in (200, 202)
        self._count(sending)

    def take_over(self, sendings: Iterable[Sending]) -> None:
        """Counts what was acknowledged by whoever wrote the folder."""
        for sending in sendings:
            self._count(sending)

    def _count(self, sending: Sending) -> None:
        self.expected.add(sending)
        self.sent.append(sending)

    def deliver(self, sending: Sending) -> int:
        """Sends one batch once, counted by nobody; returns the status."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with Connection(self.service.port, headers) as connection:
            return send(connection, sending.body, sending.key).status

    def resend(self) -> None:
        """Sends all of it once more, as agents do after a restore; what is there counts once."""
        for sending in self.sent:
            assert self.deliver(sending) in (200, 202)

    def refused(self) -> None:
        """Posts until a batch is refused; it counts if it was not."""

        def is_refused() -> bool:
            sending = self._batches.next()
            status = self.deliver(sending)
            if status in (200, 202):
                self._count(sending)
            else:
                self._in_doubt.append(sending)
            return status == 503

        wait_for(is_refused, READY_S_MAX, "nothing is refused", self.service.output)

    def add_token(self, name: str, *may: str) -> str:
        """A new token, in the file `tokens.json`."""
        scopes = [word for scope in may for word in ("--may", scope)]
        command = [sys.executable, "-m", "flowtally.cli.main", "token", "add", name, *scopes]
        done = subprocess.run(
            [*command, "--tokens", "tokens.json"],
            cwd=self._home,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def start_with_tokens(self) -> None:
        """Starts a service that wants one of them, and so tells nobody who has none that it is
        ready."""
        self.service.set(tokens=str(self._home / "tokens.json"))
        self._start()

    def start_without_tokens(self) -> None:
        """Stops it, and starts one that wants none: whoever looks whether all is there has none."""
        self._stop()
        self.service.set(tokens=None)
        self.service.start()
        self.token = ""

    def start_with_failing_syncs(self, library: Path, file_name: str) -> Callable[[], None]:
        """Starts, and from the first batches on has every sync of a file fail, until somebody mends
        the disk: by what is returned."""
        armed = self.service.folder / "armed"
        self.service.environment = {"LD_PRELOAD": str(library), "FAULTS_ARM": str(armed)}
        self.service.start_ready()
        self.post()
        armed.write_text(file_name)
        self.refused()
        return armed.unlink

    def follow(
        self, before: Mapping[str, Callable[[], object]] | None = None, without: str = ""
    ) -> None:
        """Types all of the page, `without` the parts (`###`) whose heading begins so: those are of
        other trouble, and of another test. `before` a command (its beginning) somebody does by hand
        what no command can; each of these must come up. Raises `AssertionError` with all that was
        not as it stands in the page."""
        by_hand = dict(before or {})
        wrong: list[str] = []
        typed = 0
        for command, shown in steps(_text_without(self._page.read_text(), without)):
            for beginning in [one for one in by_hand if command.startswith(one)]:
                by_hand.pop(beginning)()
            code, printed = self._type_until(command, shown)
            print(f"$ {command}\n{printed}", end="")
            if code != 0 or not is_as_shown(printed, shown):
                wrong.append(f"$ {command}\n(exit code {code})\n{printed}\nnot as shown:\n{shown}")
            typed += 1
        assert not wrong, "\n".join(wrong)
        assert typed, f"{self._page.name} has no commands"
        assert not by_hand, f"never typed: {by_hand}"
        self.is_followed = True

    def _type_until(self, command: str, shown: str) -> tuple[int, str]:
        deadline_s = time.monotonic() + _SHOWN_S_MAX
        while True:
            code, printed = self._type(command)
            is_over = code == 0 and is_as_shown(printed, shown)
            if is_over or not _LOOKS.match(command) or time.monotonic() > deadline_s:
                return code, printed
            time.sleep(_PAUSE_S)

    def _type(self, command: str) -> tuple[int, str]:
        if command.startswith("systemctl "):
            verb, unit = command.split()[1:]
            self.units[unit][verb]()
            return 0, ""
        done = subprocess.run(
            ["bash", "-c", command.replace("127.0.0.1:8080", f"127.0.0.1:{self.service.port}")],
            cwd=self._home,
            env={
                **os.environ,
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT / "src"),
                "FLOWTALLY_URL": f"http://127.0.0.1:{self.service.port}",
                "FLOWTALLY_PORT": str(self.service.port),
                "LC_ALL": "C.UTF-8",
                **self.environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_S_MAX,
            check=False,
        )
        printed = done.stdout.replace(str(self._home), "/srv/flowtally")
        return done.returncode, printed if printed.endswith("\n") or not printed else printed + "\n"

    def _start(self) -> None:
        self.service.start()
        wait_for(
            lambda: not self.service.is_alive() or self.service.answers("/livez", 200),
            READY_S_MAX,
            "it neither serves nor ends",
            self.service.output,
        )

    def _stop(self) -> None:
        if self.service.is_alive():
            self.service.stop()

    def _restart(self) -> None:
        self._stop()
        self._start()

    def assert_over(self) -> None:
        """The page was followed; the service accepts, and everything is there, once."""
        assert self.is_followed, f"{self._page.name} was not followed"
        self.service.wait_ready()
        for sending in self._in_doubt:
            assert self.deliver(sending) in (200, 202)
            self.expected.add(sending)
        self.post(3)
        assert_exact(self.service, self.expected)
        assert self.service.stop() == 0, self.service.output()
        assert_service_sound(self.service, self.expected)


def _text_without(text: str, heading: str) -> str:
    if not heading:
        return text
    left, count = re.subn(rf"^### {heading}.*?(?=^##)", "", text, flags=re.MULTILINE | re.DOTALL)
    assert count, f"the page has no part of its own for {heading}"
    return left
