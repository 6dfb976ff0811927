"""Databases that somebody else stands in the way of: a report that was left in the middle of a
transaction, and a PostgreSQL that is not there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.crash.accounts import settle
from tests.crash.calls import get
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.runbooks.incident import Incident

_REPORT = """
import signal
import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("begun", flush=True)
signal.pause()
"""


def test_sql_store_failed(incident_on_sql: Incident) -> None:
    """SQLite's file is locked; or PostgreSQL was stopped."""
    incident = incident_on_sql
    incident.service.start_ready()
    incident.post()
    if "postgresql" in incident.units:
        incident.units["postgresql"]["stop"]()
        incident.refused()
        incident.follow(without="SQLite")
        return
    with _left_in_a_transaction(incident, "flows.sqlite"):
        incident.refused()
        incident.follow(without="PostgreSQL")


def test_aggregation_overdue(incident: Incident) -> None:
    """The results are locked while runs are due; batches are taken, and wait."""
    service = incident.service
    service.set(store="hourly", aggregate_interval_s=1.0)
    service.start_ready()
    incident.post()
    settle(service)
    with _left_in_a_transaction(incident, "results.sqlite"):
        incident.post(20)
        wait_for(
            lambda: "locked" in _last_error(service, "aggregator"),
            READY_S_MAX,
            "no run fails",
            service.output,
        )
        incident.follow()


@contextmanager
def _left_in_a_transaction(incident: Incident, name: str) -> Iterator[None]:
    """Somebody's report has a file of the data locked, until whoever follows the page ends it."""
    (incident.home / "report.py").write_text(_REPORT)
    with subprocess.Popen(
        ["python3", "report.py", f"data/{name}"],
        executable=sys.executable,
        cwd=incident.home,
        stdout=subprocess.PIPE,
        text=True,
    ) as report:
        try:
            assert report.stdout is not None
            assert report.stdout.readline() == "begun\n"
            yield
            assert report.wait(READY_S_MAX) == -signal.SIGTERM
        finally:
            report.kill()


def _last_error(service: Service, name: str) -> str:
    parts = get(service.port, "/health").json()["parts"]
    return json.dumps([part["last_error"] for part in parts if part["name"] == name])
