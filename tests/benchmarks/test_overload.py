"""A flood and a soak of seconds: exact sums, Retry-After, bounds. No speed is looked at."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.command import begun
from benchmarks.overload.flood import Flooded
from benchmarks.overload.flooding import measure_load, recovery
from benchmarks.overload.loads import Clients, Load
from benchmarks.overload.report import figure, page
from benchmarks.overload.run import parse
from benchmarks.overload.soaking import measure_soak
from benchmarks.overload.watching import slope, thirds

OPTIONS = (
    "--seconds 1.5 --warm-up 0.1 --peak-seconds 0.4 --calm-seconds 1 --soak-seconds 3"
    " --look-every 0.1 --name small"
)
SMALL = Load(
    "closed-loop",
    "more connections than may be served",
    [Clients(10, (4,), connections=1_400)],
)


def test_slopes_and_thirds() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == 2.0
    assert slope([(1.0, 3.0)]) == 0.0
    assert thirds([1, 5, 2, 2, 9, 3]) == [5, 2, 9]


def test_when_it_is_normal_again() -> None:
    # Each 0.1 s a probe of 10 ms; in the flood and for two seconds after it, 500 ms.
    acks = [(at / 10 + (wait := 0.5 if 10 <= at / 10 < 22 else 0.01), wait, 0) for at in range(300)]
    found = recovery(Flooded([0], acks=acks), begin_s=10.0, end_s=20.0, calm_s=10.0)
    assert found["normal_after_s"] == 2
    assert found["normal_p99_ms"] == pytest.approx(10.0)
    assert recovery(Flooded([0]), 10.0, 20.0, 10.0)["normal_after_s"] is None


@pytest.mark.usefixtures("small_pools")
def test_a_flood_and_a_soak(tmp_path: Path) -> None:
    options = parse([*OPTIONS.split(), "--results", str(tmp_path)])
    flood = measure_load(SMALL, options, tmp_path / "flood")
    assert flood["records_per_s"] > 0
    assert flood["flows_checked"] > 0
    assert flood["without_retry_after"] == 0
    assert flood["memory_bytes_highest"] < flood["memory_bytes_bound"]
    # 1,024 are served, the rest waits in the kernel; files and threads need few.
    assert flood["descriptors_highest"] < 1_024 + 100
    soak = measure_soak(options, tmp_path / "soak")
    assert min(soak[name] for name in ("repeats", "reads", "refused", "cut_off")) > 0
    assert soak["threads"]["highest_of_thirds"][-1] < 100

    results = begun(options, tmp_path).found | {"name": "small", "command": "make bench-overload"}
    results |= {"floods": [{"load": "closed-loop"} | flood], "soaks": [{"load": "soak"} | soak]}
    text = page(results)
    assert "| closed-loop | 1,400 |" in text
    assert "## Soak" in text
    drawn = figure(results)
    assert drawn is not None
    ElementTree.fromstring(drawn)
