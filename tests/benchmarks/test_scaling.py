"""The curves: points that are measured on real services, their page and their figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.command import begun
from benchmarks.results import Line
from benchmarks.scaling.curves import CURVES
from benchmarks.scaling.held import Held, measure_held
from benchmarks.scaling.lasting import measure_half_load, measure_lasting, windows_between
from benchmarks.scaling.report import page
from benchmarks.scaling.run import parse

OPTIONS = (
    "--small --seconds 0.3 --warm-up 0.1 --clients 1 --apps 3 --vpcs 2 --repeats 1"
    " --half-load-connections 2 --name small"
)


def test_flows_have_numbers_and_no_two_are_one() -> None:
    held = Held(flows=5_000, hours=7)
    made = [held.record(number) for number in range(held.flows)]
    assert len({record[:4] for record in made}) == 5_000
    assert len({record.hour for record in made}) == 7
    assert {record[:4] for batch in held.updates().batches[:2] for record in batch} <= {
        record[:4] for record in made
    }


def test_windows_of_a_run() -> None:
    # Two a second, each after 0.1 s, but for a silence from 12.0 to 14.5.
    acks = [(at / 2, 0.1) for at in range(1, 60) if not 12.0 < at / 2 < 14.5]
    first, second, third = windows_between(
        [(100 + at, wait) for at, wait in acks], 100.0, 30.0, 10, [(112.2, 112.4)]
    )
    assert first["records_per_s"] == 19.0
    assert first["silence_ms"] == 500.0
    assert (second["silence_ms"], second["compactions"]) == (2_500.0, 1)
    assert (third["silence_ms"], third["compactions"]) == (500.0, 0)
    assert third["p99_ms"] == 100.0


@pytest.mark.usefixtures("small_pools")
def test_points_their_page_and_their_figures(tmp_path: Path) -> None:
    options = parse([*OPTIONS.split(), "--results", str(tmp_path)])
    results = begun(options, tmp_path)
    found: Line = results.found
    found |= {"name": "small", "command": "make bench-scaling"}
    held = {"flows_held": 300, "hours_held": 3}
    found["hours"] = [held | measure_held(300, 3, options, tmp_path / "held")]
    found["run-length"] = [measure_lasting(100, 2, 1.0, options, tmp_path / "lasting")]
    half = {"batch_records": 10}
    found["half-load"] = [half | measure_half_load(10, options, tmp_path / "half")]
    found["connections"] = [{"connections": 512, "failed": "it hung up"}]

    assert found["hours"][0]["records_per_s"] > 0
    [window] = found["run-length"][0]["windows"]
    assert window["worst_ms"] >= window["p99_ms"] > 0
    assert window["silence_ms"] > 0
    found_half = found["half-load"][0]
    assert 0.3 < found_half["records_per_s"] / found_half["most_records_per_s"] < 0.7
    assert found_half["ratio"] > 0

    text = page(found)
    for name in ("hours", "run-length", "half-load"):
        assert f"](small-{name}.svg)" in text
        figure = CURVES[name].figure(found)
        assert figure is not None
        drawn = ElementTree.fromstring(figure).findall("{http://www.w3.org/2000/svg}polyline")
        assert len(drawn) == sum(len(axes.keys) for axes in CURVES[name].panels)
    assert "| 512 | failed: it hung up |" in text
    assert CURVES["connections"].figure(found) is None
    assert "## Flows held" not in text
