"""The run beside peers: those that need no server, its page and its figure."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.peers.embedded import SQLite
from benchmarks.peers.known import PEERS
from benchmarks.peers.peer import Missing, columns_of, sums_of
from benchmarks.peers.plot import plot
from benchmarks.peers.report import page
from benchmarks.peers.run import measure_all, parse, read_peer
from benchmarks.subject import SubjectFailed
from benchmarks.traffic import Record, body_of, hour_of_flows

_RECORDS = [
    Record("b", "c", "v", 1, 10, 1),
    Record("a", "c", "v", 1, 5, 2),
    Record("b", "c", "v", 1, 7, 3),
]


def test_a_batch_is_summed_and_in_the_order_of_its_keys() -> None:
    body = body_of(_RECORDS)
    assert sums_of(body) == {("b", "c", "v", 1): [17, 4], ("a", "c", "v", 1): [5, 2]}
    assert columns_of(body) == [["a", "b"], ["c", "c"], ["v", "v"], [1, 1], [5, 17], [2, 4]]


@pytest.mark.parametrize("name", ["duckdb", "sqlite"])
def test_what_is_posted_can_be_read(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]
    peer.start(tmp_path)
    connection = peer.connector(tmp_path)()
    for _ in range(2):
        connection.post(body_of(_RECORDS))
    assert connection.read(1) == {("a", "c", "v", 1): (10, 4), ("b", "c", "v", 1): (34, 8)}
    assert connection.read(2) == {}
    connection.close()


def test_a_wrong_sum_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = hour_of_flows(apps=2, vpcs=1)
    peer = SQLite()
    assert read_peer(peer, records, tmp_path / "right", repeats=1)["changed_ms"] > 0
    twice = body_of(records) + b"\n" + body_of(records[:1])
    monkeypatch.setattr("benchmarks.peers.run.bodies_of", lambda _: twice.split(b"\n"))
    with pytest.raises(SubjectFailed, match="sqlite has 1 wrong sums"):
        read_peer(peer, records, tmp_path / "wrong", repeats=1)


def test_a_run_its_page_and_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise Missing("sqlite is not installed")

    monkeypatch.setattr("benchmarks.peers.run.SERVICES", {})
    monkeypatch.setattr("benchmarks.peers.run.PEERS", {"sqlite": PEERS["sqlite"]})
    options = ["--seconds", "0.5", "--warm-up", "0.1", "--connections", "1", "2"]
    options += ["--batch-records", "10", "--apps", "3", "--vpcs", "1", "--repeats", "1"]
    results = measure_all(parse(options), tmp_path)
    results["command"] = "make bench-peers"
    [line] = results["writes"]
    assert line["sqlite"]["records_per_s"] > 0
    assert results["reads"]["sqlite"]["changed_ms"] > 0
    monkeypatch.setattr(PEERS["sqlite"], "check", missing)
    without = measure_all(parse(options), tmp_path)
    assert without["left_out"] == {"sqlite": "sqlite is not installed"}

    # The page compares with Flowtally, which `make bench` measures; here any figures will do.
    results["peers"]["flowtally"] = {"about": "this one", "durability": "synced"}
    results["left_out"]["redis"] = "redis-server is not installed"
    line["flowtally"] = {**line["sqlite"], "records_per_s": line["sqlite"]["records_per_s"] / 2}
    results["reads"]["flowtally"] = {"changed_ms": 1e9, "unchanged_ms": 1.0}
    text = page(json.loads(json.dumps(results)))
    assert "at 10 records a batch **sqlite** took 2.0 times as many" in text
    assert "**redis** was left out: redis-server is not installed" in text
    drawn = ElementTree.fromstring(plot(results))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 2
