"""The right alert fires: services are brought into trouble under the eyes of a real Prometheus."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowtally.stores.sql.tables import tallies
from tests.crash.calls import get, post
from tests.crash.disk import fill
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.crash.test_health import body, posting
from tests.prometheus import ROOT, Prometheus, promtool, scraping

_MIB = 1024 * 1024
_EXPECTED = {"FlowtallyDiskFilling", "FlowtallySlowWrites"}
"""Where the disk that the tests run on is nearly full; and for minutes after a commit that hung,
which was slow indeed."""


def assert_fires(prometheus: Prometheus, alert: str, page: str, severity: str) -> None:
    """It fires, names its runbook, and that is there."""
    wait_for(
        lambda: alert in prometheus.firing(),
        READY_S_MAX,
        f"{alert} does not fire",
        lambda: str(prometheus.firing()),
    )
    fired = prometheus.firing()[alert]
    assert fired["runbook_url"] == f"docs/runbooks/{page}.md"
    assert (ROOT / fired["runbook_url"]).exists()
    assert fired["severity"] == severity
    assert fired["instance"] in fired["summary"]


def assert_quiet(prometheus: Prometheus) -> None:
    """No alert fires any more, once everything was looked at anew."""
    before = prometheus.last_scrape()
    wait_for(lambda: prometheus.last_scrape() > before, READY_S_MAX, "nothing is scraped")
    scraped = prometheus.last_scrape()
    wait_for(lambda: prometheus.last_evaluation() > scraped, READY_S_MAX, "no rule is evaluated")
    wait_for(
        lambda: not prometheus.firing().keys() - _EXPECTED,
        READY_S_MAX,
        "an alert fires",
        lambda: str(prometheus.firing()),
    )


def test_nothing_fires_where_all_is_well(service: Service, tmp_path: Path) -> None:
    service.start_ready()
    with scraping(service.port, tmp_path / "prometheus") as prometheus:
        for number in range(20):
            assert post(service.port, body(number)).status == 200
        assert get(service.port, "/v1/flows?hour=1").status == 200
        assert_quiet(prometheus)


@pytest.mark.parametrize(
    ("kind", "alert", "page", "severity"),
    [
        ({"block_at": "commit.written"}, "FlowtallyPartStuck", "part-stuck", "critical"),
        ({"block_at": "commit.written"}, "FlowtallyNotReady", "part-stuck", "critical"),
        ({"block_at": "apply.read"}, "FlowtallyPartStuck", "part-stuck", "critical"),
        ({"cancel": "journal-tidy"}, "FlowtallyPartStuck", "part-stuck", "critical"),
        ({"clock_ahead_ms": 7_200_000}, "FlowtallyClockJumped", "clock-jumped", "warning"),
    ],
    ids=["stuck-writer", "not-ready", "stuck-applier", "dead-task", "clock"],
)
def test_trouble_fires_its_alert(
    service: Service,
    tmp_path: Path,
    kind: dict[str, object],
    alert: str,
    page: str,
    severity: str,
) -> None:
    service.start_ready()
    with scraping(service.port, tmp_path / "prometheus") as prometheus:
        assert_quiet(prometheus)
        service.trouble(**kind)
        sender = posting(service)
        assert_fires(prometheus, alert, page, severity)
        service.trouble()
        sender.join(READY_S_MAX)
        if "cancel" in kind:
            service.kill()
            service.start_ready()
        assert_quiet(prometheus)


def test_a_full_disk_fires(service_on_small_disk: Service, tmp_path: Path) -> None:
    service = service_on_small_disk
    service.start_ready()
    ballast = service.data.parent / "ballast"
    with scraping(service.port, tmp_path / "prometheus") as prometheus:
        assert_fires(prometheus, "FlowtallyDiskFilling", "disk-full", "warning")
        fill(ballast, leave_bytes=24 * _MIB)
        assert_fires(prometheus, "FlowtallyDiskFull", "disk-full", "critical")
        ballast.unlink()
        assert_quiet(prometheus)


def test_a_service_that_is_gone_fires(service: Service, tmp_path: Path) -> None:
    service.start_ready()
    with scraping(service.port, tmp_path / "prometheus") as prometheus:
        assert_quiet(prometheus)
        service.kill()
        assert_fires(prometheus, "FlowtallyDown", "will-not-start", "critical")


def test_an_imbalance_fires(service: Service, tmp_path: Path) -> None:
    service.set(store="sql")
    service.start_ready()
    assert post(service.port, body(1)).status == 200
    assert service.stop() == 0
    with closing(sqlite3.connect(service.data / "flows.sqlite")) as connection:
        connection.execute(f"UPDATE {tallies.name} SET records = records + 3")
        connection.commit()
    service.start_ready()
    with scraping(service.port, tmp_path / "prometheus") as prometheus:
        assert_fires(prometheus, "FlowtallyLedgerImbalance", "imbalance", "critical")


@pytest.mark.parametrize("store", ["duckdb", "hourly", "sql", "memory"])
def test_the_metrics_keep_to_the_conventions(service: Service, store: str) -> None:
    """Of a service that has something to tell."""
    service.set(store=store, snapshot_interval_s=3600.0)
    service.start_ready()
    assert post(service.port, body(1)).status in (200, 202)
    assert post(service.port, b"{}").status == 400

    def is_counted() -> bool:
        return b"flowtally_ledger_imbalance_records 0.0" in get(service.port, "/metrics").body

    wait_for(is_counted, READY_S_MAX, "the ledger is not counted")
    assert promtool("check", "metrics", given=get(service.port, "/metrics").body) == ""
