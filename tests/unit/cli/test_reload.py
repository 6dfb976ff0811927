"""A SIGHUP: the settings of the log are taken on by the running process, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from flowtally.cli.reload import Reload
from flowtally.client.client import FlowClient
from flowtally.config import Settings
from flowtally.errors import DataFolderError
from tests.unit.cli.test_serve import EXIT_S, serving

SERVE = [sys.executable, "-m", "flowtally.cli.main", "serve", "--port", "0", "--store", "memory"]


def next_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stderr is not None
    line: dict[str, Any] = json.loads(process.stderr.readline())
    return line


def test_levels_and_format_change_and_a_faulty_file_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLOWTALLY_LOG_FORMAT", "json")
    file = Path("flowtally.toml")
    with serving("--store", "memory") as (process, url), FlowClient(url) as client:
        assert process.stderr is not None
        client.sums(1)
        assert next_line(process)["event"] == "request"

        file.write_text('log_levels = "access=off"\nretention_hours = 5\n')
        process.send_signal(signal.SIGHUP)
        line = next_line(process)
        assert (line["event"], line["logger"]) == ("reloaded", "flowtally.serve")
        assert line["changed"] == {"log_levels": " -> access=off"}
        assert line["wait_for_start"] == ["retention_hours"]
        client.sums(1)

        file.write_text('log_levels = "acess=off"')
        process.send_signal(signal.SIGHUP)
        # No line of the request before.
        line = next_line(process)
        assert (line["event"], line["level"]) == ("not reloaded, all stays as it was", "error")
        assert "did you mean access?" in line["error"]
        client.sums(1)

        file.write_text("access_log = true")
        process.send_signal(signal.SIGHUP)
        assert next_line(process)["changed"] == {"log_levels": "access=off -> "}
        client.sums(1)
        assert next_line(process)["event"] == "request"

        file.write_text("access_log = false")
        process.send_signal(signal.SIGHUP)
        assert next_line(process)["changed"] == {"access_log": "True -> False"}
        client.sums(1)
        process.send_signal(signal.SIGTERM)
        assert next_line(process)["event"] == "stopping"
        assert process.wait(EXIT_S) == 0


@pytest.mark.parametrize("outlives", [False, True])
def test_a_closed_terminal_ends_what_was_started_on_it_unless_by_nohup(outlives: bool) -> None:
    master, slave = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if outlives else signal.SIG_DFL)

    process = subprocess.Popen(
        SERVE,
        stdin=slave,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(slave)
    with process:
        try:
            while next_line(process)["event"] != "listening":
                pass
            process.send_signal(signal.SIGHUP)
            assert next_line(process)["event"] == "reloaded"
            os.close(master)
            if outlives:
                assert next_line(process)["event"] == "reloaded"
                process.send_signal(signal.SIGTERM)
            assert next_line(process)["event"] == "stopping"
            assert process.wait(EXIT_S) == 0
        finally:
            process.kill()


def test_a_part_that_cannot_stays_as_it_was_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also one whose settings are the same: the file that one names may have changed."""
    wanted = Settings(log_level="debug", log_format="human", port=1)
    reload = Reload(Settings(), lambda: wanted)
    taken: list[Settings] = []

    def refuse(settings: Settings) -> str:
        raise DataFolderError("no such file")

    def take(settings: Settings) -> None:
        taken.append(settings)

    reload.add("certificates", refuse, ["log_format"])
    reload.add("tokens", lambda settings: "1 revoked")
    reload.add("log", take, ["log_level"])
    reload()
    refused, told = caplog.records
    assert vars(refused)["part"] == "certificates"
    assert vars(refused)["error"] == "no such file"
    assert vars(told)["changed"] == {"tokens": "1 revoked", "log_level": "info -> debug"}
    assert vars(told)["wait_for_start"] == ["port"]
    assert taken == [wanted]
    caplog.clear()
    reload()
    assert vars(caplog.records[1])["changed"] == {"tokens": "1 revoked"}
