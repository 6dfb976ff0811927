"""A store whose batches are visible later, over HTTP: 202, partial answers, a run on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flowtally.clock import ManualClock
from flowtally.steps import OnStep, ignore
from flowtally.stores.hourly.store import HourlySettings, HourlyStore
from tests.http.service import Service, assert_problem, encoded, record

AN_HOUR_MS = 3_600_000
RECENT_MS = 5 * 60_000
Make = Callable[..., Service]


@pytest.fixture
def make(make_service: Make, tmp_path: Path) -> Make:
    """A service over the hourly store."""

    def made(on_step: OnStep = ignore, deadline_s: float = 30.0) -> Service:
        def store(clock: ManualClock) -> HourlyStore:
            # No run begins by itself.
            return HourlyStore(tmp_path, clock, HourlySettings(aggregate_interval_s=1e9), on_step)

        return make_service(make_store=store, deadline_s=deadline_s)

    return made


def aggregate(service: Service) -> None:
    reply = service.post(b"", target="/v1/aggregate")
    assert (reply.status, reply.json()) == (200, {"settled": True})


def test_a_batch_is_durable_first_and_visible_after_the_run(make: Make) -> None:
    service = make()
    posted = service.post(encoded([record()]), {"Idempotency-Key": "k"})
    assert (posted.status, posted.json()) == (202, {"batch_id": "k", "records": 1, "flows": 1})
    again = service.post(encoded([record()]), {"Idempotency-Key": "k"})
    assert (again.status, again.body) == (202, posted.body)
    assert again.header("idempotency-replayed") == "true"
    waiting = service.get("/v1/flows?hour=1")
    assert (waiting.status, waiting.body) == (200, b"[]")
    assert waiting.header("flowtally-partial") == "true"
    assert waiting.header("flowtally-revision") == "0"
    assert service.get("/v1/flows?hour=2").header("flowtally-partial") is None
    assert service.get("/v1/ledger").json()["total"]["pending"]["records"] == 1
    aggregate(service)
    assert len(service.sums(1)) == 1
    assert service.get("/v1/ledger").json()["total"]["pending"]["records"] == 0


def test_what_is_processed_is_served_until_the_next_run(make: Make) -> None:
    service = make()
    service.post(encoded([record()]))
    aggregate(service)
    first = service.get("/v1/flows?hour=1")
    service.clock.advance_ms(RECENT_MS)
    assert service.get("/v1/flows?hour=1").header("flowtally-partial") is None
    service.post(encoded([record()]))
    second = service.get("/v1/flows?hour=1")
    assert (second.body, second.header("etag")) == (first.body, first.header("etag"))
    assert second.header("flowtally-partial") == "true"
    aggregate(service)
    third = service.get("/v1/flows?hour=1")
    assert third.header("etag") != first.header("etag")
    assert third.json()[0]["bytes_tx"] == 200


def test_an_unchanged_answer_says_whether_it_is_partial_now(make: Make) -> None:
    """Not what was true when the client got it."""
    service = make()
    service.post(encoded([record()]))
    aggregate(service)
    service.clock.advance_ms(RECENT_MS)
    tag = {"If-None-Match": service.get("/v1/flows?hour=1").header("etag") or ""}
    whole = service.get("/v1/flows?hour=1", tag)
    assert (whole.status, whole.header("flowtally-partial")) == (304, "false")
    service.post(encoded([record()]))
    more = service.get("/v1/flows?hour=1", tag)
    assert (more.status, more.header("flowtally-partial")) == (304, "true")
    aggregate(service)
    assert service.get("/v1/flows?hour=1", tag).status == 200


def test_a_batch_that_was_only_repeated_makes_nothing_partial(make: Make) -> None:
    service = make()
    service.post(encoded([record()]), {"Idempotency-Key": "k"})
    aggregate(service)
    service.clock.advance_ms(RECENT_MS)
    service.post(encoded([record()]), {"Idempotency-Key": "k"})
    assert service.get("/v1/flows?hour=1").header("flowtally-partial") is None


def test_a_long_run_goes_on_and_is_waited_for_again(make: Make) -> None:
    release = threading.Event()

    def hold(name: str) -> None:
        if name == "aggregate.read":
            assert release.wait(60)

    service = make(hold, deadline_s=0.1)
    service.post(encoded([record()]))
    for _ in range(2):
        reply = service.post(b"", target="/v1/aggregate")
        assert (reply.status, reply.json()) == (202, {"settled": False})
    release.set()
    while service.post(b"", target="/v1/aggregate").status == 202:
        pass
    assert len(service.sums(1)) == 1


def test_a_run_that_fails_is_told(make: Make) -> None:
    def fail(name: str) -> None:
        if name == "aggregate.read":
            raise OSError("no such luck")

    service = make(fail)
    service.post(encoded([record()]))
    reply = service.post(b"", target="/v1/aggregate")
    assert_problem(reply, 503, "not-accepting", "no such luck")
    health = service.get("/health")
    assert (health.status, health.json()["status"]) == (200, "warning")
    assert service.get("/readyz").status == 200


def test_the_health_of_the_runs(make: Make) -> None:
    service = make()

    def part() -> dict[str, object]:
        parts = service.get("/health").json()["parts"]
        [found] = [one for one in parts if one["name"] == "aggregator"]
        facts: dict[str, object] = found["facts"]
        return facts

    service.post(encoded([record()]))
    before = part()
    assert (before["pending_batches"], before["last_run_ms"]) == (1, None)
    aggregate(service)
    after = part()
    assert (after["pending_batches"], after["pending_bytes"]) == (0, 0)
    assert (after["last_run_ms"], after["runs"]) == (service.clock.now_ms(), 1)


def test_a_store_that_shows_all_at_once_has_nothing_to_aggregate(service: Service) -> None:
    assert service.post(encoded([record()])).status == 200
    aggregate(service)
    assert_problem(service.get("/v1/aggregate"), 405, "method-not-allowed", "takes POST")
