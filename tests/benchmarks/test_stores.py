"""The run of stores: what is unknown is left out, what a kill loses is found, a page is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stores import run
from benchmarks.stores.killing import measure_kills
from benchmarks.stores.known import STORES, store_of


def test_what_a_kill_loses_of_a_store_that_keeps_all(tmp_path: Path) -> None:
    found = measure_kills(STORES["duckdb"].subject, 1, 0.8, tmp_path)
    assert found["acknowledged"] > 0
    assert found["missing"] == 0


@pytest.mark.usefixtures("small_pools")
def test_a_run_and_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = store_of("unknown", "no store of this program", "--store", "unknown")
    monkeypatch.setattr(run, "STORES", {"unknown": unknown, "memory": STORES["memory"]})
    options = "--seconds 0.2 --warm-up 0.1 --connections 2 --batch-records 10 --apps 3 --vpcs 2"
    options += f" --repeats 1 --kills 1 --kill-after 0.8 --results {tmp_path}"
    run.main(options.split())
    printed = capsys.readouterr()
    [said] = [line for line in printed.err.splitlines() if "is left out" in line]
    assert said.startswith("unknown is left out: ")
    results = json.loads((tmp_path / "latest-stores.json").read_text())
    assert results["writes"][0]["records_per_s"] > 0
    assert results["reads"][0]["changed_ms"] > 0
    [kill] = results["kills"]
    assert 0 < kill["acknowledged"] == kill["missing"]
    row = f"{kill['missing']:,} of {kill['acknowledged']:,}, the last"
    assert row in printed.out
    assert "**unknown** was left out" in printed.out
