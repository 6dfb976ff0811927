"""The executable: its exit codes, one line for each error, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowtally import __version__
from flowtally.cli import main as main_module
from flowtally.cli.main import main
from flowtally.errors import DataFolderError, SettingsError
from tests.unit.cli.conftest import Call

DOWN = "http://127.0.0.1:1"


def test_the_version(call: Call) -> None:
    ended = call("version")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"flowtally {__version__} ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["fly"], "No such command 'fly'", id="command"),
        pytest.param(["serve", "--fly"], "No such option", id="option"),
        pytest.param(["query"], "Missing option '--hour'", id="missing"),
        pytest.param(["query", "--hour", "x"], "'--hour'", id="type"),
        pytest.param(["query", "--hour", "1", "--format", "xml"], "'--format'", id="choice"),
        pytest.param(["send", "gone"], "there is no file gone", id="file"),
        pytest.param(["send", "-", "--batch-records", "0"], "'--batch-records'", id="range"),
        pytest.param(["import", "aws-vpc", "gone"], "there is no file gone", id="import"),
        pytest.param(["send", "."], ". is a folder", id="folder"),
        pytest.param(["import", "aws-vpc", "-", "-"], "can be read once", id="twice"),
        pytest.param(["serve", "--port", "x"], "port must be a whole number", id="setting"),
        pytest.param(["query", "--hour", "1", "--url", "x"], "is not a URL", id="url"),
    ],
)
def test_a_wrong_call_is_2(call: Call, arguments: list[str], said: str) -> None:
    ended = call(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_without_arguments_it_helps(call: Call) -> None:
    ended = call()
    assert ended.code == 2
    assert "Commands:" in ended.out + ended.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingsError("port is odd"), 2, "flowtally: port is odd\n"),
        (DataFolderError("it is damaged"), 1, "flowtally: it is damaged\n"),
        (PermissionError(13, "Permission denied", "f"), 1, "Permission denied: 'f'"),
        (ZeroDivisionError("1/0"), 1, "a fault of flowtally itself: ZeroDivisionError: 1/0"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, call: Call, error: Exception, code: int, said: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main_module, "app", fails)
    ended = call("version")
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert said in ended.err
    with pytest.raises(type(error)):
        main(["--debug", "version"])


def test_a_service_that_is_not_there_is_1(call: Call) -> None:
    Path("f").write_text('{"a":1}')
    ended = call("send", "--url", DOWN, "--give-up-after-s", "0", "f")
    assert (ended.code, ended.out) == (1, "")
    so_far, error = ended.err.splitlines()
    assert so_far.startswith("so far: 0 records in 0 batches")
    assert error.startswith(f"flowtally: gave up on {DOWN} after 1 attempts: ")


def test_it_starts_without_what_it_does_not_need() -> None:
    """Each import costs: a person waits for `--help`, and `send` may run every minute."""
    heavy = "fastapi duckdb pyarrow httptools httpx2 asyncio sqlite3 rich".split()
    program = (
        "import sys; from flowtally.cli import main;"
        f"before = [name for name in {heavy} if name in sys.modules];"
        "from flowtally.client import records, sending; from flowtally.cli import progress;"
        # httpx2 brings asyncio with it or not, as its own libraries have it.
        f"after = [name for name in {heavy} if name in sys.modules and name != 'asyncio'];"
        "print(before, after)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == "[] ['httpx2']\n"
