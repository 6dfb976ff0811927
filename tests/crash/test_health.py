"""What goes wrong in a running service shows on `/health` within ten seconds, with the page that
helps; and it shows that it is over.

The parts say nothing themselves while they are stuck, so each is made to be: a thread that comes to
a named step goes no further, a background task is ended, the clock is set, the disk is filled.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from threading import Thread
from typing import Any

import pytest

from flowtally.stores.sql.tables import tallies
from tests.crash.calls import NoAnswer, get, post
from tests.crash.disk import fill
from tests.crash.service import READY_S_MAX, Service, wait_for

_SHOWN_S_MAX = 10.0
_MIB = 1024 * 1024


def body(number: int) -> bytes:
    """One record, of its own flow."""
    record = {"src_app": f"app-{number}", "dest_app": "db", "vpc_id": "v", "hour": 1}
    return json.dumps([{**record, "bytes_rx": 3, "bytes_tx": 1}]).encode()


def parts_of(service: Service) -> dict[str, Any]:
    """The parts on `/health`, by name."""
    return {part["name"]: part for part in get(service.port, "/health").json()["parts"]}


def assert_shows(service: Service, name: str, state: str, page: str, told: str = "") -> None:
    """In time, and with its page."""
    began_s = time.monotonic()
    wait_for(
        lambda: parts_of(service)[name]["state"] == state,
        READY_S_MAX,
        f"the {name} is not {state}",
        lambda: f"{parts_of(service)}\n{service.output()}",
    )
    took_s = time.monotonic() - began_s
    part = parts_of(service)[name]
    assert took_s <= _SHOWN_S_MAX, f"only after {took_s:.1f} s"
    assert part["hint"] == f"docs/runbooks/{page}.md", part
    assert told in part["detail"] + part["last_error"], part


def assert_well_again(service: Service, warnings: frozenset[str] = frozenset({"disk"})) -> None:
    """Nothing is wrong any more. Of the disk that the tests run on nothing is known."""

    def is_well() -> bool:
        states = {name: part["state"] for name, part in parts_of(service).items()}
        found = {name for name, state in states.items() if state != "ok"}
        return found <= warnings and "error" not in states.values()

    wait_for(is_well, READY_S_MAX, "something is still wrong", lambda: str(parts_of(service)))
    assert get(service.port, "/readyz").status == 200


def posting(service: Service) -> Thread:
    """Somebody posts; whether and when that is answered is another matter."""

    def send() -> None:
        try:
            post(service.port, body(1))
        except NoAnswer:
            return

    thread = Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("store", ["duckdb", "hourly"])
def test_a_stuck_writer(service: Service, store: str) -> None:
    """A thread that hangs in the middle of a commit: the event loop turns, nothing is accepted."""
    service.set(store=store)
    service.start_ready()
    service.trouble(block_at="commit.written")
    sender = posting(service)
    assert_shows(service, "journal", "error", "part-stuck", "no sign of life")
    assert_shows(service, "committer", "error", "part-stuck", "a commit has been under way")
    ready = get(service.port, "/readyz")
    assert ready.status == 503
    assert "is stuck" in ready.json()["reason"]
    assert get(service.port, "/livez").status == 200
    service.trouble()
    sender.join(READY_S_MAX)
    # That the commit was slow is told for a while.
    assert_well_again(service, frozenset({"disk", "committer"}))
    assert service.stop() == 0, service.output()


def test_a_writer_that_is_stuck_while_nobody_writes(service: Service) -> None:
    service.start_ready()
    service.trouble(block_at="discard.written")
    assert_shows(service, "journal", "error", "part-stuck", "no sign of life")
    assert get(service.port, "/readyz").status == 503
    service.trouble()
    assert_well_again(service)


@pytest.mark.parametrize(
    ("store", "step", "part"),
    [("duckdb", "apply.read", "applier"), ("hourly", "aggregate.read", "aggregator")],
)
def test_stuck_behind_the_journal(service: Service, store: str, step: str, part: str) -> None:
    """Batches are taken all the same: the journal has room for them."""
    service.set(store=store, aggregate_interval_s=1.0)
    service.start_ready()
    service.trouble(block_at=step)
    assert post(service.port, body(1)).status in (200, 202)
    assert_shows(service, part, "error", "part-stuck", "no sign of life")
    assert get(service.port, "/readyz").status == 200
    assert post(service.port, body(2)).status in (200, 202)
    service.trouble()
    assert_well_again(service)


def test_a_stuck_snapshot(service: Service) -> None:
    service.set(store="memory", snapshot_interval_s=0.2)
    service.start_ready()
    service.trouble(block_at="snapshot.written")
    assert post(service.port, body(1)).status == 200
    assert_shows(service, "snapshot", "error", "part-stuck", "no sign of life")
    service.trouble()
    assert_well_again(service)


@pytest.mark.parametrize(
    ("store", "task", "part"),
    [
        ("duckdb", "journal-tidy", "tidying"),
        ("hourly", "journal-tidy", "tidying"),
        ("sql", "sql-tidy", "tidying"),
        ("memory", "memory-snapshots", "snapshot"),
        ("duckdb", "ledger-check", "ledger"),
        ("duckdb", "watch", "event_loop"),
        ("duckdb", "watch", "clock"),
    ],
)
def test_a_dead_background_task(service: Service, store: str, task: str, part: str) -> None:
    """Batches are taken all the same. It does not come back before the next start."""
    service.set(store=store, snapshot_interval_s=3600.0)
    service.start_ready()
    assert_well_again(service)
    service.trouble(cancel=task)
    assert_shows(service, part, "error", "part-stuck", "its background task was cancelled")
    assert get(service.port, "/readyz").status == 200
    assert post(service.port, body(1)).status in (200, 202)
    # A stop is a stop all the same.
    assert service.stop() == 0, service.output()


@pytest.mark.parametrize("store", ["duckdb", "hourly", "sql"])
def test_a_disk_that_fills(service_on_small_disk: Service, store: str) -> None:
    service = service_on_small_disk
    service.set(store=store)
    service.start_ready()
    assert_shows(service, "disk", "warning", "disk-full")
    ballast = service.data.parent / "ballast"
    fill(ballast, leave_bytes=24 * _MIB)
    assert_shows(service, "disk", "error", "disk-full")
    assert get(service.port, "/readyz").status == 503
    ballast.unlink()
    assert_well_again(service)


@pytest.mark.parametrize("store", ["duckdb", "memory"])
@pytest.mark.parametrize("ahead_ms", [7_200_000, -7_200_000])
def test_a_clock_that_is_set(service: Service, store: str, ahead_ms: int) -> None:
    """Nothing else looks stuck, or alive, by that."""
    service.set(store=store)
    service.start_ready()
    service.trouble(clock_ahead_ms=ahead_ms)
    assert_shows(service, "clock", "warning", "clock-jumped", "by 7200 s")
    assert {part["state"] for part in parts_of(service).values()} <= {"ok", "warning"}
    assert get(service.port, "/readyz").status == 200
    service.trouble()
    assert_well_again(service)


def test_a_ledger_that_does_not_balance(service: Service) -> None:
    """Somebody has changed a number in a file."""
    service.set(store="sql")
    service.start_ready()
    assert post(service.port, body(1)).status == 200
    wait_for(
        lambda: parts_of(service)["ledger"]["facts"].get("imbalance_records") == 0,
        READY_S_MAX,
        "nothing is counted",
    )
    assert service.stop() == 0
    with closing(sqlite3.connect(service.data / "flows.sqlite")) as connection:
        connection.execute(f"UPDATE {tallies.name} SET records = records + 3")
        connection.commit()
    service.start_ready()
    assert_shows(service, "ledger", "error", "imbalance", "it does NOT balance")
    assert parts_of(service)["ledger"]["facts"]["imbalance_records"] > 0
    # It is told, and the next batch is counted all the same.
    assert post(service.port, body(2)).status == 200
