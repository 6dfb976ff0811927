"""`flowtally health`: of services that are well, unwell, silent, hostile, or not there."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flowtally.client.client import FlowClient
from flowtally.client.health_watch import HealthWatch, History, Look
from flowtally.config import Settings
from tests.unit.cli.conftest import Call, Running, serving

OK = '{"status": "ok", "parts": []}'
WARNING = (
    '{"status": "warning", "parts": [{"name": "clock", "state": "warning", "detail": "it was set",'
    ' "hint": "docs/runbooks/clock-jumped.md", "unknown": 1}, {"name": "a", "state": "ok"}]}'
)
NOWHERE = "http://127.0.0.1:1"
LOOK = Look("1", "http://x", "ok", 1, "", ())


@pytest.fixture
def well() -> Iterator[Running]:
    with serving(Settings(store="memory", access_log=False)) as running:
        yield running


@contextmanager
def answering(*answers: Callable[[socket.socket], object]) -> Iterator[str]:
    """Something that answers each connection in its own way, the last one again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            left = list(answers)
            while True:
                connection, _ = listener.accept()
                with connection:
                    if ended.is_set():
                        return
                    connection.recv(65_536)
                    answer = left.pop(0) if len(left) > 1 else left[0]
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        address = listener.getsockname()
        try:
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            ended.set()
            socket.create_connection(address).close()
            thread.join(60)


def says(body: str, status: int = 200, headers: str = "") -> Callable[[socket.socket], object]:
    """An answer that is whole."""
    length = f"Connection: close\r\nContent-Length: {len(body)}\r\n"
    answer = f"HTTP/1.1 {status} X\r\n{headers}{length}\r\n{body}"
    return lambda connection: connection.sendall(answer.encode(errors="surrogateescape"))


def trickle(connection: socket.socket) -> None:
    """A byte now and then, without an end."""
    connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n")
    # It is the other end that gives up.
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def drip(connection: socket.socket) -> None:
    """A head now and then a byte, without an end: what came is never a whole answer."""
    connection.sendall(b"HTTP/1.1 200 X\r\nX: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def hold_off(connection: socket.socket) -> None:
    """Says again and again that an answer will come."""
    while True:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        time.sleep(0.05)


def flood(connection: socket.socket) -> None:
    """As fast as it can, without an end."""
    connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        connection.sendall(b" " * 65_536)


def test_a_service_that_is_well(call: Call, well: Running) -> None:
    done = call("health", "--once", well.url)
    assert done.code == 0, done
    head, line = done.lines
    assert head.split() == ["service", "state", "took", "what"]
    assert line.split()[:2] == [well.url, "ok"]


@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        (OK, 200, 0, "ok"),
        (WARNING, 200, 1, "clock warning: it was set (docs/runbooks/clock-jumped.md)"),
        (WARNING.replace('"warning"', '"error"'), 503, 2, "clock error: it was set"),
        ('{"status": "on fire", "parts": []}', 200, 2, "error"),
        ('{"detail": "no token"}', 401, 2, "unreachable"),
        ("<html>", 200, 2, "does not answer as flowtally"),
        ("<html>", 503, 2, "does not answer as flowtally"),
    ],
)
def test_the_exit_code(call: Call, body: str, status: int, code: int, told: str) -> None:
    with answering(says(body, status)) as url:
        done = call("health", "--count", "1", url)
    assert done.code == code, done
    assert told in done.out


@pytest.mark.parametrize(
    "answer", [trickle, drip, hold_off, flood, lambda connection: connection.recv(1)]
)
def test_whoever_does_not_come_to_an_end_is_unreachable(
    call: Call, well: Running, answer: Callable[[socket.socket], object]
) -> None:
    """The others are told all the same, and all of it in time."""
    with answering(answer) as url:
        began_s = time.monotonic()
        done = call("health", "--once", "--timeout-s", "0.5", url, well.url, NOWHERE)
        assert time.monotonic() - began_s < 10
    assert done.code == 2
    assert [line.split()[1] for line in done.lines[1:]] == ["unreachable", "ok", "unreachable"]


@pytest.mark.parametrize(
    "answer",
    [
        says("[" * 100_000),
        says("[" * 100_000, 500),
        says('{"status": "ok", "parts": [], "more": ' + "[" * 100_000),
        says('{"status": "\udcff", "parts": []}'),
        says("\udcff", 500),
        says("no gzip", headers="Content-Encoding: gzip\r\n"),
        says("", 301, headers="Location: http://[x/\r\n"),
        says("", headers="Set-Cookie: \udcff=;;;\r\n"),
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
        lambda connection: connection.sendall(b"\x00\xff" * 1_000),
    ],
)
def test_whatever_one_answers_the_others_are_looked_at(
    call: Call, well: Running, answer: Callable[[socket.socket], object]
) -> None:
    with answering(answer) as url:
        done = call("health", "--count", "2", "--interval-s", "0.1", url, well.url)
    assert done.code == 2, done
    assert [line.split()[1] for line in done.lines[1:]] == ["unreachable", "ok"], done


def test_one_that_hangs_does_not_hold_up_the_next_look(call: Call) -> None:
    began_s = time.monotonic()
    with answering(drip) as url:
        done = call("health", "--count", "3", "--interval-s", "0.1", "--timeout-s", "0.3", url)
    assert done.code == 2 and time.monotonic() - began_s < 10
    assert "no whole answer within 0.3 s" in done.out


def test_many_that_are_silent_take_no_longer_than_one() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent, ExitStack() as stack:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        clients = {
            f"{url}/{number}": stack.enter_context(FlowClient(f"{url}/{number}"))
            for number in range(150)
        }
        began_s = time.monotonic()
        looks = HealthWatch(clients, 3.0, time.monotonic).look("1")
        took_s = time.monotonic() - began_s
    assert [look.state for look in looks] == ["unreachable"] * 150
    # In five rounds of thirty they would take fifteen seconds.
    assert took_s < 9


def test_too_many_services_are_refused(call: Call) -> None:
    done = call("health", "--once", *(f"{NOWHERE}/{number}" for number in range(1_001)))
    assert done.code == 2 and "up to 1000 are watched" in done.err


def test_changes_are_lines(call: Call) -> None:
    with answering(says(OK), says(OK), says(WARNING), says(WARNING), says(OK)) as url:
        done = call("health", "--interval-s", "0.1", "--count", "5", url)
    assert done.code == 0
    changes = [line.split(maxsplit=1)[1].strip() for line in done.lines[2:]]
    assert changes == [
        f"{url}  ok -> warning: clock warning: it was set (docs/runbooks/clock-jumped.md)",
        f"{url}  warning -> ok",
    ]


def test_the_history(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    with answering(says(WARNING)) as url:
        for _ in range(2):
            call("health", "--once", "--history", str(file), url, NOWHERE)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["url"], line["state"]) for line in lines] == [
        (url, "warning"),
        (NOWHERE, "unreachable"),
    ] * 2
    assert lines[0]["parts"] == [
        {
            "part": "clock",
            "state": "warning",
            "why": "it was set",
            "hint": "docs/runbooks/clock-jumped.md",
        }
    ]
    assert lines[0]["ts"].endswith("Z") and lines[1]["error"]


def test_a_history_has_a_bound(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file, bytes_max=1_000)
    for number in range(100):
        history.add([Look(f"{number}", "http://x", "ok", 1, "", ())])
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        assert len(sizes) <= 2 and max(sizes) <= 1_000
    kept = (tmp_path / "history.jsonl.1").read_text() + file.read_text()
    found = [json.loads(line)["ts"] for line in kept.splitlines()]
    assert found == [str(number) for number in range(100 - len(found), 100)]
    assert len(found) > 10


def test_what_a_terminal_would_act_on_is_not_printed(call: Call) -> None:
    body = WARNING.replace("it was set", "\\u001b[2J\\u202e")
    with answering(says(body)) as url:
        done = call("health", "--once", url)
    assert all(line.isprintable() for line in done.lines)


def test_a_url_that_is_none(call: Call) -> None:
    done = call("health", "--once", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert "is not a URL" in done.err


def test_a_history_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    done = call("health", "--once", "--history", str(tmp_path), NOWHERE)
    # Not 1: that is a warning.
    assert done.code == 2
    assert "Is a directory" in done.err


def test_a_history_that_can_be_written_no_more(tmp_path: Path) -> None:
    """What did not fit is not in it, not even by half, and the next line is whole."""
    file = tmp_path / "history.jsonl"
    history = History(file)
    history.add([LOOK])
    size_bytes = file.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes + 10, hard))
    try:
        with pytest.raises(OSError):
            history.add([LOOK])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.stat().st_size == size_bytes
    history.add([LOOK])
    assert [json.loads(line)["ts"] for line in file.read_text().splitlines()] == ["1", "1"]


def test_a_full_disk_does_not_end_the_watch(call: Call) -> None:
    with answering(says(OK)) as url:
        done = call("health", "--count", "2", "--interval-s", "0.1", "--history", "/dev/full", url)
    assert done.code == 0, done
    assert done.err.count("the history is not kept") == 2
    assert done.lines[1].split()[1] == "ok"
