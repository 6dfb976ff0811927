"""The benchmarks run, and hold every sum against what was sent. Figures are not looked at."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from benchmarks import run, traffic
from benchmarks.results import best
from benchmarks.subject import SUBJECTS, SubjectFailed, assert_equal

TINY = (
    "--seconds 0.2 --warm-up 0.1 --connections 2 --batch-records 1 --apps 4 --vpcs 2 --repeats 1"
    " --restarts 1"
)


def test_traffic_is_what_the_table_says_it_is() -> None:
    records = traffic.generated(20_000, seed=1)
    assert traffic.generated(20_000, seed=1) == records
    assert 112 < len(traffic.body_of(records)) / len(records) < 124
    assert len({record.vpc_id for record in records}) == traffic.VPCS
    assert {record.hour for record in records} == set(traffic.HOURS)
    sources = [record.src_app for record in records]
    busiest = sorted(set(sources), key=sources.count)[-20:]
    assert sum(sources.count(name) for name in busiest) > len(records) / 2
    assert len(set(sources)) > traffic.APPS / 2


def test_an_hour_holds_each_flow_once() -> None:
    records = traffic.hour_of_flows(100, 5)
    assert len(records) == 50_000
    assert len({record[:4] for record in records}) == 50_000


def test_bodies_and_their_sums_are_of_the_same_records(tmp_path: Path) -> None:
    pool = traffic.Pool(100_000)
    pool.write(tmp_path / "bodies")
    body = msgspec.json.decode((tmp_path / "bodies").read_bytes().split(b"\n")[1])
    times = [0, 3] + [0] * (len(pool.batches) - 2)
    total = sum(rx for rx, _ in pool.sums(times).values())
    assert total == 3 * sum(record["bytes_rx"] for record in body)


@pytest.mark.usefixtures("small_pools")
def test_a_run_measures_both_services_and_keeps_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.main([*TINY.split(), "--results", str(tmp_path), "--folder", str(tmp_path)])
    results = json.loads((tmp_path / "latest.json").read_text())
    assert [line["who"] for line in results["reads"]] == [subject.name for subject in SUBJECTS]
    assert all(line["flows"] == 32 for line in results["reads"])
    writes = results["writes"]
    for subject in SUBJECTS:
        assert best(writes, subject.name, 1)["records_per_s"] > 0
    assert (tmp_path / "latest.md").read_text() in capsys.readouterr().out


def test_a_wrong_sum_is_no_figure() -> None:
    record, other = traffic.generated(2, seed=1)
    once = traffic.summed([(record, 1)])
    assert_equal(once, once, "it")
    for wrong in ([], [(record, 2)], [(record, 1), (other, 1)]):
        with pytest.raises(SubjectFailed, match="it has 1 wrong sums"):
            assert_equal(traffic.summed(wrong), once, "it")


def test_of_several_numbers_of_connections_the_best_counts() -> None:
    tried = [
        {"who": "it", "batch_records": 1, "connections": count, "records_per_s": rate}
        for count, rate in ((8, 5.0), (64, 7.0), (128, 6.0))
    ]
    failed = {"who": "it", "batch_records": 10, "connections": 8, "failed": "it hung up"}
    assert best([*tried, failed], "it", 1)["connections"] == 64
    assert best([*tried, failed], "it", 10) == failed
    assert best(tried, "it", 10) == {}
