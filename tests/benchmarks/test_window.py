"""The load, on a service that is slow: how long a window lasts, and what a wait is counted from."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.clients import Posting, Target, measure
from benchmarks.subject import SubjectFailed


@contextmanager
def answering_after(delay_s: float, status: int = 200) -> Iterator[Target]:
    """A service that takes so long for each answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the body of an answer waits for the acknowledgement of its head.
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay_s)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing: the test says what is wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(server.server_port)]
    try:
        yield Target("it", [os.getpid()], lambda: list(command))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    path = tmp_path / "bodies"
    path.write_bytes(b"[1]\n[2]\n[3]")
    return path


def test_a_window_lasts_until_enough_was_acknowledged(bodies: Path) -> None:
    posting = Posting(processes=2, connections=1, warm_up_s=0.0, seconds=0.1)
    with answering_after(0.02) as target:
        measured, seen = measure(target, 1, bodies, posting)
    assert 20 <= measured.batches == len(seen.waits_s) == sum(seen.times)
    assert 0.3 < measured.seconds < 1.2


def test_a_window_does_not_last_for_ever(bodies: Path) -> None:
    posting = Posting(processes=1, connections=2, warm_up_s=0.0, seconds=0.05)
    with answering_after(0.2) as target:
        measured, _ = measure(target, 1, bodies, posting)
    assert measured.batches <= 6


def test_a_wait_is_counted_from_when_a_batch_was_due(bodies: Path) -> None:
    posting = Posting(processes=1, connections=1, warm_up_s=0.0, seconds=0.6, batches_per_s=50)
    with answering_after(0.04) as target:
        measured, _ = measure(target, 1, bodies, posting)
    # Each takes twice the time that there is until the next is due: the queue grows all the time.
    assert measured.p50_ms > 100
    assert measured.worst_ms > 1.5 * measured.p50_ms


def test_a_batch_that_is_refused_is_no_figure(bodies: Path) -> None:
    posting = Posting(processes=1, connections=1, warm_up_s=0.0, seconds=0.1)
    with answering_after(0.0, 503) as target, pytest.raises(SubjectFailed, match="503"):
        measure(target, 1, bodies, posting)
