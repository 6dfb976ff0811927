"""`flowtally serve` as a process, and `verify` of its folder while it runs and after."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowtally.client.client import FlowClient
from tests.unit.cli.conftest import Call

EXIT_S = 10
BODY = (
    b'[{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":300,"bytes_tx":100}]'
)
BALANCES = "balances: every accepted batch, record and byte is accounted for"


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL, which it says itself."""
    command = [sys.executable, "-m", "flowtally.cli.main", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said = json.loads(line)
                if said["event"] == "listening":
                    yield process, said["url"]
                    break
            else:
                pytest.fail("the service ended before it listened")
        finally:
            process.kill()


@pytest.mark.parametrize("store", ["duckdb", "sql"])
def test_it_serves_and_stops_cleanly_and_its_folder_is_verified(
    call: Call, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setenv("FLOWTALLY_DATA", "there")
    monkeypatch.setenv("FLOWTALLY_STORE", store)
    with serving() as (process, url):
        with FlowClient(url) as client:
            receipt = client.post(BODY, "k")
            assert (receipt.records, receipt.repeated) == (1, False)
            assert client.sums(1) == json.loads(BODY)
        running = call("verify")
        assert (running.code, running.err) == (0, "")
        assert running.lines[0] == f"asked the service on {url}"
        assert running.lines[-1] == BALANCES
        refused = call("serve", "--port", "0")
        assert refused.code == 1
        assert refused.err.splitlines()[-1] == (
            "flowtally: the data folder there is in use by flowtally process"
            f" {process.pid}, which serves on {url}"
        )
        # Twice, as where a process group is told: the second does not cut the first one short.
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_S) == 0
    # Which store it was is seen from the folder.
    monkeypatch.delenv("FLOWTALLY_STORE")
    stopped = call("verify", "--data", "there")
    assert (stopped.code, stopped.err) == (0, "")
    assert stopped.lines == running.lines[1:]


def test_a_folder_that_is_none_or_damaged_is_named(call: Call) -> None:
    ended = call("verify", "--data", "gone")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("flowtally: gone is not a data folder of flowtally")
    Path("bad").mkdir()
    Path("bad/journal.sqlite").write_bytes(b"x" * 5000)
    ended = call("verify", "--data", "bad")
    assert (ended.code, ended.out) == (1, "")
    assert "bad/journal.sqlite" in ended.err
    assert ended.err.count("\n") == 1


def test_a_port_that_is_taken_is_a_setting_that_cannot_be_used(call: Call, url: str) -> None:
    ended = call("serve", "--store", "memory", "--port", url.rpartition(":")[2])
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("flowtally: cannot listen on 127.0.0.1:")


def test_an_hourly_folder_is_aggregated_and_verified_running_and_stopped(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWTALLY_DATA", "there")
    with serving("--store", "hourly") as (process, url):
        with FlowClient(url) as client:
            client.post(BODY, "k")
            assert client.sums(1) == []
            assert call("verify").lines[-1] == BALANCES
            done = call("aggregate")
            assert (done.code, done.err) == (0, "")
            assert done.lines == [
                f"asked the service on {url}: every acknowledged batch is in the sums"
            ]
            assert client.sums(1) == json.loads(BODY)
            assert call("aggregate", "--url", url).lines == done.lines
            client.post(BODY, "other")
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_S) == 0
    assert any(line.split()[1:3] == ["pending", "1"] for line in call("verify").lines)
    done = call("aggregate")
    assert done.lines == ["aggregated 1 batches in there: every acknowledged batch is in the sums"]
    verified = call("verify")
    assert verified.lines[-1] == BALANCES
    assert not any("pending" in line for line in verified.lines)
    other = call("serve", "--port", "0", "--store", "duckdb")
    assert other.code == 1
    assert "holds the data of the store hourly (results.sqlite)" in other.err
    assert call("aggregate", "--data", "gone").code == 1
