"""Metrics: a registry of their own, bounded labels, and a page that lists them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

from prometheus_client import REGISTRY

from flowtally.api.problems import kinds, problem_of
from flowtally.errors import BodyCutOff, CommitFailed, NotAccepting, TooLarge
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
    for error in (TooLarge("x"), BodyCutOff("x"), NotAccepting("x"), ValueError("x")):
        metrics.count_unanswered(error, "a-kind")
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


def values_of(metrics: Metrics) -> Callable[..., float | None]:
    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    return value


def with_parts(*parts: PartHealth, now_s: float = 3.5) -> Callable[..., float | None]:
    metrics = Metrics()
    metrics.watch_parts(lambda: parts, lambda: now_s)
    return values_of(metrics)


def test_parts() -> None:
    facts: dict[str, int | float | str | bool | None] = {"bytes": 7, "name": "text", "none": None}
    value = with_parts(PartHealth("journal", "error", 1.0, facts=facts, is_stuck=True))
    assert value("flowtally_part_state", part="journal") == 2
    assert value("flowtally_part_stuck", part="journal") == 1
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


def test_what_is_watched_has_a_name_of_its_own() -> None:
    value = with_parts(
        PartHealth("journal", "ok", 0, facts={"pending_bytes": 5, "last_sequence": 9}),
        PartHealth("applier", "ok", 0, facts={"rows_recent": 3, "rows_base": 4}),
    )
    assert value("flowtally_journal_pending_bytes") == 5
    assert value("flowtally_part_fact", part="journal", fact="pending_bytes") is None
    assert value("flowtally_part_fact", part="journal", fact="last_sequence") == 9
    assert value("flowtally_flows_held") == 7


def test_what_no_part_tells_is_not_there() -> None:
    value = with_parts(PartHealth("store", "ok", 0, facts={"rows": 1}))
    assert value("flowtally_disk_free_bytes") is None
    assert value("flowtally_ledger_imbalance_records") is None
    assert value("flowtally_compaction_duration_seconds_count") is None


def test_compactions_and_the_ledger() -> None:
    facts: dict[str, int | float | str | bool | None] = {"imbalance_records": 0, "took_ms": 250}
    facts |= {"accepted_records": 9, "summed_records": 4, "pending_records": 3}
    value = with_parts(
        PartHealth("applier", "ok", 0, facts={"compactions": 2, "compaction_s": 1.5}),
        PartHealth("ledger", "ok", 0, facts={**facts, "expired_records": 2}),
    )
    assert value("flowtally_compaction_duration_seconds_count") == 2
    assert value("flowtally_compaction_duration_seconds_sum") == 1.5
    assert value("flowtally_ledger_imbalance_records") == 0
    assert value("flowtally_ledger_check_duration_seconds") == 0.25
    found = [
        value("flowtally_ledger_records", account=account)
        for account in ("accepted", "summed", "pending", "expired")
    ]
    assert found == [9, 4, 3, 2]


def test_admission() -> None:
    metrics = Metrics()
    value = values_of(metrics)
    metrics.note_admission(True, 42, refused_total=3)
    metrics.note_admission(False, 0, refused_total=5)
    assert value("flowtally_ready") == 0
    assert value("flowtally_in_flight_bytes") == 0
    assert value("flowtally_admission_refused_total") == 5


def test_the_process() -> None:
    value = values_of(Metrics())
    assert (value("process_resident_memory_bytes") or 0) > 1_000_000
    assert (value("process_open_fds") or 0) > 2
    assert (value("process_start_time_seconds") or 0) > 1_600_000_000
    before = value("flowtally_threads") or 0
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    assert value("flowtally_threads") == before + 1
    leave.set()
    thread.join()


def test_the_reason_is_what_the_sender_is_told() -> None:
    metrics = Metrics()
    metrics.count_unanswered(TooLarge("x"), "too-large")
    assert values_of(metrics)("flowtally_batches_rejected_total", reason="too-large") == 1
    slugs = {slug for slug, _, _ in kinds()} - {"not-found", "method-not-allowed"}
    errors = [error("x") for error in (TooLarge, NotAccepting, BodyCutOff, ValueError)]
    told = {problem_of(error, "r").slug for error in (*errors, CommitFailed("x", 1, 5))}
    assert told == {"too-large", "not-accepting", "body-cut-off", "fault"}
    assert told <= slugs
