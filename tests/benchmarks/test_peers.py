"""The run beside peers: those that need no server, its page and its figure."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.command import begun
from benchmarks.peers.embedded import SQLite
from benchmarks.peers.known import PEERS
from benchmarks.peers.measuring import read_peer
from benchmarks.peers.peer import Missing, columns_of, sums_of
from benchmarks.peers.plot import plot
from benchmarks.peers.report import page
from benchmarks.peers.run import measure_all, parse
from benchmarks.results import best
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
    monkeypatch.setattr("benchmarks.peers.measuring.bodies_of", lambda _: twice.split(b"\n"))
    with pytest.raises(SubjectFailed, match="sqlite has 1 wrong sums"):
        read_peer(peer, records, tmp_path / "wrong", repeats=1)


@pytest.mark.usefixtures("small_pools")
def test_a_run_its_page_and_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise Missing("sqlite is not installed")

    monkeypatch.setattr("benchmarks.peers.run.SERVICES", {})
    monkeypatch.setattr("benchmarks.peers.run.PEERS", {"sqlite": PEERS["sqlite"]})
    options = ["--seconds", "0.5", "--warm-up", "0.1", "--connections", "1", "2"]
    options += ["--batch-records", "10", "--apps", "3", "--vpcs", "1", "--repeats", "1"]
    options += ["--results", str(tmp_path), "--name", "peers"]
    kept = begun(parse(options), tmp_path)
    measure_all(parse(options), tmp_path, kept)
    first = copy.deepcopy(kept.found)
    assert [line["connections"] for line in first["writes"]] == [1, 2]
    assert all(line["records_per_s"] > 0 for line in first["writes"])
    assert first["reads"][0]["cold_ms"] > 0

    # Resumed, it measures what is not there, and leaves what is.
    del kept.found["writes"][0]
    kept.keep()
    resumed = begun(parse([*options, "--resume"]), tmp_path)
    measure_all(parse(options), tmp_path, resumed)
    results = resumed.found
    assert sorted(line["connections"] for line in results["writes"]) == [1, 2]
    assert results["writes"][0] == first["writes"][1]
    assert results["reads"] == first["reads"]
    with pytest.raises(SystemExit, match="other values of seconds"):
        begun(parse([*options, "--resume", "--seconds", "0.4"]), tmp_path)

    monkeypatch.setattr(PEERS["sqlite"], "check", missing)
    without = begun(parse(options), tmp_path)
    measure_all(parse(options), tmp_path, without)
    assert without.found["left_out"] == {"sqlite": "sqlite is not installed"}

    # The page compares with Flowtally, which `make bench` measures; here any figures will do.
    results["command"] = "make bench-peers"
    results["peers"]["flowtally"] = {"about": "this one", "durability": "synced", "lighter": ""}
    results["left_out"]["redis"] = "redis-server is not installed"
    line = best(results["writes"], "sqlite", 10)
    ours = {**line, "who": "flowtally", "records_per_s": line["records_per_s"] / 2}
    results["writes"] += [ours, {**ours, "who": "redis", "failed": "it hung up"}]
    results["reads"].append({**results["reads"][0], "who": "flowtally", "changed_ms": 1e9})
    text = page(json.loads(json.dumps(results)))
    assert "at 10 a batch **sqlite** took 2.0 times as many records" in text
    assert "**redis** was left out: redis-server is not installed" in text
    drawn = ElementTree.fromstring(plot(results))
    bars = drawn.findall("{http://www.w3.org/2000/svg}rect")
    # For each of both: rate, p50 and p99, three costs, three reads; and the page behind them.
    assert len(bars) == 1 + 2 * (1 + 2 + 3 + 3)
