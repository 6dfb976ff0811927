"""Metrics: a registry of their own, bounded labels, and a page that lists them."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import REGISTRY

from flowtally.errors import BodyCutOff, NotAccepting, TooLarge
from flowtally.model import PartHealth, Receipt
from flowtally.observe.metrics import Metrics

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_every_metric_is_documented() -> None:
    listed = PAGE.read_text().split("\n\n")[2]
    rows = re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)
    assert rows == Metrics().names()


def test_two_services_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.count_batch(Receipt("a", records=3, flows=1))
    assert one.registry.get_sample_value("flowtally_records_total") == 3
    assert other.registry.get_sample_value("flowtally_records_total") == 0
    assert REGISTRY.get_sample_value("flowtally_records_total") is None


def test_outcomes_of_batches() -> None:
    metrics = Metrics()
    metrics.count_batch(Receipt("a", 3, 1))
    metrics.count_batch(Receipt("a", 3, 1, repeated=True))
    metrics.count_unanswered(TooLarge("x"))
    metrics.count_unanswered(BodyCutOff("x"))
    metrics.count_unanswered(NotAccepting("x"))
    metrics.count_unanswered(ValueError("x"))
    for outcome in ("accepted", "repeated", "refused", "cut_off", "unavailable", "failed"):
        labels = {"outcome": outcome}
        assert metrics.registry.get_sample_value("flowtally_batches_total", labels) == 1
    assert metrics.registry.get_sample_value("flowtally_records_total") == 3


def test_a_method_that_a_client_made_up_is_other() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.observe_request(f"BREW{number}", "/v1/flows", 405, 0.1)
    labels = {"method": "other", "route": "/v1/flows", "status": "405"}
    count = metrics.registry.get_sample_value("http_request_duration_seconds_count", labels)
    assert count == 100


def test_commits() -> None:
    metrics = Metrics()
    metrics.observe_commit(batches=7, queue_s=0.5, commit_s=0.25)
    values = {
        name: metrics.registry.get_sample_value(f"{name}_sum")
        for name in (
            "flowtally_commit_group_batches",
            "flowtally_commit_queue_seconds",
            "flowtally_commit_duration_seconds",
        )
    }
    assert list(values.values()) == [7, 0.5, 0.25]


def test_parts() -> None:
    metrics = Metrics()
    facts: dict[str, int | float | str | bool | None] = {"bytes": 7, "name": "text", "none": None}
    metrics.note_parts([PartHealth("journal", "error", 1_000, facts=facts)], 3_500, 42)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("flowtally_in_flight_bytes") == 42
    assert value("flowtally_part_state", part="journal") == 2
    assert value("flowtally_part_beat_age_seconds", part="journal") == 2.5
    assert value("flowtally_part_fact", part="journal", fact="bytes") == 7
    assert value("flowtally_part_fact", part="journal", fact="name") is None


def test_request_durations_are_buckets_that_add_up() -> None:
    metrics = Metrics()
    for duration_s in (0.001, 0.0011, 0.3, 99.0):
        metrics.observe_request("POST", "/v1/flows", 200, duration_s)
    metrics.observe_request("BREW", "/v1/flows", 400, 0.3)

    def sample(name: str, method: str = "POST", status: str = "200", **more: str) -> float | None:
        labels = {"method": method, "route": "/v1/flows", "status": status, **more}
        return metrics.registry.get_sample_value(f"http_request_duration_seconds_{name}", labels)

    found = [sample("bucket", le=le) for le in ("0.001", "0.0025", "0.25", "0.5", "30.0", "+Inf")]
    assert found == [1, 2, 2, 3, 3, 4]
    assert sample("count") == 4
    assert sample("sum") == 99.3021
    assert sample("count", "other", "400") == 1
