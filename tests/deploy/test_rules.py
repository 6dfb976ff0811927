"""The alert rules: sound for promtool, each firing where it should and nowhere else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus import ROOT, RULES, alerts_in_rules, promtool

_LABELS = 'job="flowtally",instance="a:8080"'
_GIB = 1024**3


@dataclass(frozen=True)
class Case:
    """Series, one value a minute, under which an alert fires; and others under which it does not,
    which are as near to it as they can be."""

    fires: dict[str, str]
    quiet: dict[str, str]
    after: str = "30m"


def part(name: str, state: int, stuck: int = 0) -> dict[str, str]:
    """A part in a state, for an hour."""
    return {
        f'flowtally_part_state{{part="{name}"}}': f"{state}x60",
        f'flowtally_part_stuck{{part="{name}"}}': f"{stuck}x60",
    }


def histogram(name: str, labels: str, below: str, above: str) -> dict[str, str]:
    """Observations, a hundred a minute, all between two bounds."""
    return {
        f'{name}_bucket{{{labels}le="{below}"}}': "0x60",
        f'{name}_bucket{{{labels}le="{above}"}}': "0+100x60",
        f'{name}_bucket{{{labels}le="+Inf"}}': "0+100x60",
    }


_COMMITS = "flowtally_commit_duration_seconds"
_LAGS = "flowtally_event_loop_lag_seconds"
_REQUESTS = "http_request_duration_seconds"
_READS = 'route="/v1/flows",method="GET",status="200",'
_MEMORY = "process_resident_memory_bytes"
_FREE = "flowtally_disk_free_bytes"
_FREE_MIN = {"flowtally_disk_free_min_bytes": f"{_GIB // 16}x480"}
CASES = {
    "FlowtallyDown": Case({"up": "0x60"}, {"up": "1x60"}),
    "FlowtallyNotReady": Case({"flowtally_ready": "0x60"}, {"flowtally_ready": "1x60"}),
    "FlowtallyPartStuck": Case(part("applier", 2, stuck=1), part("applier", 2)),
    "FlowtallyJournalFailed": Case(part("journal", 2), part("journal", 2, stuck=1)),
    "FlowtallyStoreFailed": Case(part("applier", 2), part("applier", 2, stuck=1)),
    "FlowtallySqlStoreFailed": Case(part("database", 2), part("database", 2, stuck=1)),
    "FlowtallyMemoryStoreFull": Case(part("store", 2), part("store", 1)),
    "FlowtallySnapshotFailed": Case(part("snapshot", 1), part("snapshot", 0)),
    "FlowtallyAggregationOverdue": Case(part("aggregator", 1), part("aggregator", 0)),
    "FlowtallyDiskFull": Case(part("disk", 2), part("disk", 1)),
    "FlowtallyDiskFilling": Case(part("disk", 1), part("disk", 2)),
    "FlowtallyClockJumped": Case(
        {"flowtally_clock_jump_seconds": "-7x60"}, {"flowtally_clock_jump_seconds": "0x60"}
    ),
    "FlowtallyLedgerImbalance": Case(
        {"flowtally_ledger_imbalance_records": "2x60"}, part("ledger", 2, stuck=1)
    ),
    "FlowtallySlowWrites": Case(
        histogram(_COMMITS, "", "1.0", "2.5"), histogram(_COMMITS, "", "0.5", "1.0")
    ),
    "FlowtallyEventLoopSlow": Case(
        histogram(_LAGS, "", "0.25", "0.5"), histogram(_LAGS, "", "0.1", "0.25")
    ),
    "FlowtallySendersTurnedAway": Case(
        {'flowtally_batches_total{outcome="unavailable"}': "0+10x60"},
        {'flowtally_batches_total{outcome="refused"}': "0+10x60"},
    ),
    "FlowtallySlowReads": Case(
        histogram(_REQUESTS, _READS, "2.5", "5.0"), histogram(_REQUESTS, _READS, "1.0", "2.5")
    ),
    "FlowtallyMemoryGrowing": Case(
        {_MEMORY: f"{_GIB}x360 {2 * _GIB}x120"},
        # After a start, and where little is held, it may.
        {_MEMORY: f"{_GIB // 4}x360 {_GIB // 2}x120"},
        after="7h",
    ),
    "FlowtallyDescriptorsRunningOut": Case(
        {"process_open_fds": "81x60", "process_max_fds": "100x60"},
        {"process_open_fds": "80x60", "process_max_fds": "100x60"},
    ),
    "FlowtallyCredentialsUnusable": Case(part("tokens", 2), part("tokens", 2, stuck=1)),
    "FlowtallyCallersRefused": Case(
        {f'{_REQUESTS}_count{{status="401",route="/v1/flows",method="POST"}}': "0+120x60"},
        {f'{_REQUESTS}_count{{status="404",route="unknown",method="GET"}}': "0+120x60"},
    ),
}
MORE = [
    # 18 GiB that lose 1 GiB an hour will be full within a day; 18 GiB that stay will not.
    (
        "FlowtallyDiskFilling",
        Case(
            {_FREE: f"{18 * _GIB}-{_GIB // 60}x480", **_FREE_MIN},
            {_FREE: f"{18 * _GIB}x480", **_FREE_MIN},
            after="6h",
        ),
    ),
    ("FlowtallyLedgerImbalance", Case(part("ledger", 2), part("ledger", 1))),
    ("FlowtallyCredentialsUnusable", Case(part("certificate", 1), part("certificate", 0))),
    ("FlowtallyJournalFailed", Case(part("journal", 2), part("journal", 1))),
]


def labelled(series: str) -> str:
    """The series with the labels that a scrape adds."""
    name, _, labels = series.rstrip("}").partition("{")
    return f"{name}{{{_LABELS}{',' if labels else ''}{labels}}}"


def story(alert: str, series: dict[str, str], after: str, fires: bool) -> dict[str, Any]:
    """A test as promtool reads it."""
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return {
        "interval": "1m",
        "input_series": [
            {"series": labelled(name), "values": values} for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": after,
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def test_the_rules_are_sound() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(alerts_in_rules())


@pytest.mark.parametrize("alert", sorted(CASES))
def test_an_alert_fires_where_it_should_and_only_there(alert: str, tmp_path: Path) -> None:
    cases = [CASES[alert], *(case for name, case in MORE if name == alert)]
    tests = [
        one
        for case in cases
        for one in (
            story(alert, case.fires, case.after, fires=True),
            story(alert, case.quiet, case.after, fires=False),
        )
    ]
    file = tmp_path / "rules.test.yml"
    # JSON is YAML.
    file.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests})
    )
    assert "SUCCESS" in promtool("test", "rules", file)


def test_a_story_that_is_told_wrong_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "rules.test.yml"
    wrong = [story("FlowtallyDown", {"up": "1x60"}, "30m", fires=True)]
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": wrong}))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", file)


@pytest.mark.parametrize("alert", sorted(alerts_in_rules()))
def test_every_alert_leads_to_a_runbook_that_names_it(alert: str) -> None:
    rule = alerts_in_rules()[alert]
    [url] = re.findall(r"runbook_url: (\S+)", rule)
    assert url.startswith("docs/runbooks/")
    assert f"`{alert}`" in (ROOT / url).read_text()
    assert re.search(r"severity: (critical|warning)\n", rule)
    assert re.search(r"summary: .*\{\{ \$labels\.instance \}\}", rule)
