"""A sync fails once: nothing is acknowledged from then on, and the sync is never tried again.

After a failed sync the kernel may drop what it could not write and report success the next time, so
a second try proves nothing. `faults.c` makes the syncs fail, and counts them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.accounts import (
    assert_exact,
    assert_nothing_extra,
    assert_service_sound,
    assert_sound,
)
from tests.crash.calls import get, post
from tests.crash.expected import Expected
from tests.crash.failing import assert_refuses, assert_resumes, writing
from tests.crash.service import READY_S_MAX, Service, wait_for


@dataclass
class Faults:
    """The switch of `faults.c`, and what it wrote down."""

    arm: Path
    log: Path

    def fail_syncs_of(self, name: str) -> None:
        """From now on syncs fail: of paths with this name in them, or of the one after "="."""
        draft = self.arm.with_suffix(".draft")
        draft.write_text(name)
        draft.rename(self.arm)

    def mend(self) -> None:
        self.arm.unlink()

    def syncs(self, name: str) -> list[str]:
        """The outcome of each sync of files with this name in their path, in order."""
        lines = self.log.read_text().splitlines()
        return [line.split(" ")[0] for line in lines if name in line]


@pytest.fixture
def faults(service: Service, faults_library: Path) -> Faults:
    found = Faults(service.folder / "armed", service.folder / "syncs.log")
    service.environment = {
        "LD_PRELOAD": str(faults_library),
        "FAULTS_ARM": str(found.arm),
        "FAULTS_LOG": str(found.log),
    }
    return found


acknowledging = pytest.mark.parametrize(
    ("store", "file", "part"),
    [("duckdb", "journal.sqlite", "journal"), ("sql", "flows.sqlite", "database")],
)
"""The stores that acknowledge what they have synced themselves, and the file that it is in."""


@acknowledging
def test_a_failed_sync_of_what_acknowledges(
    service: Service, faults: Faults, seed: int, store: str, file: str, part: str
) -> None:
    """Final until the next start, even though the disk is well again at once."""
    service.set(store=store)
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        faults.fail_syncs_of(file)
        assert_refuses(service, writers, expected, part)
        faults.mend()
        assert_refuses(service, writers, expected, part)
        outcomes = faults.syncs(file)
        assert outcomes.count("failed") == 1
        assert outcomes[-1] == "failed", "a sync was tried again"
        assert " failed" in service.output()
        service.kill()
        service.start_ready()
        assert_resumes(service, writers, expected)
    assert service.stop() == 0, service.output()
    assert_service_sound(service, expected)


@acknowledging
def test_the_cause_is_found_in_the_log_by_the_request_id(
    service: Service, faults: Faults, store: str, file: str, part: str
) -> None:
    """A sender is told no more than the id of its request; the log has what was done, to which
    batch, and why it failed, under that id."""
    service.set(store=store)
    service.start_ready()
    assert post(service.port, b"[]", "before").status == 200
    faults.fail_syncs_of(file)
    problem = post(service.port, b"[]", "lost").json()
    assert problem["status"] == 503
    lines = [json.loads(line) for line in service.output_path.read_text().splitlines()]
    [found] = [line for line in lines if problem["request_id"] in line.get("request_ids", ())]
    assert (found["event"], found["level"]) == ("commit failed", "error")
    assert found["purpose"] == "store a group of batches"
    assert (found["batches"], found["batch_ids"]) == (1, ["lost"])
    assert "disk I/O error" in found["exception"]
    assert ", in commit\n" in found["exception"], "the trace does not lead to where it happened"
    health = get(service.port, "/health").json()["parts"]
    assert [one["name"] for one in health if one["state"] == "error"] == [part]


@acknowledging
def test_stops_in_order_after_a_failed_sync(
    service: Service, faults: Faults, seed: int, store: str, file: str, part: str
) -> None:
    """SIGTERM ends the process in time, and what was acknowledged is there at the next start."""
    service.set(store=store)
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        faults.fail_syncs_of(file)
        assert_refuses(service, writers, expected, part)
        service.stop()
        assert faults.syncs(file).count("failed") == 1, "a sync was tried again"
        faults.mend()
        service.start_ready()
        assert_resumes(service, writers, expected)
    assert service.stop() == 0, service.output()
    assert_service_sound(service, expected)


def test_a_failed_sync_of_the_sums(service: Service, faults: Faults, seed: int) -> None:
    """The journal holds what the sums lack; acknowledgement stops, and goes on by itself."""
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        faults.fail_syncs_of("sums.duckdb")
        wait_for(lambda: "failed" in faults.syncs("sums.duckdb"), READY_S_MAX, "no sync has failed")
        assert_refuses(service, writers, expected, "applier")
        faults.mend()
        assert_resumes(service, writers, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def test_a_failed_sync_of_the_results(service: Service, faults: Faults, seed: int) -> None:
    """The journal holds what they lack, so batches are taken; the runs fail until it is mended."""
    service.set(store="hourly", aggregate_interval_s=0.05)
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        faults.fail_syncs_of("results.sqlite")
        wait_for(lambda: _run_failed(service), READY_S_MAX, "no run has failed")
        assert writers.wait_acknowledged(20, READY_S_MAX), writers.counts
        assert_nothing_extra(service, expected)
        faults.mend()
        assert_resumes(service, writers, expected)
    assert not _run_failed(service)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def _run_failed(service: Service) -> bool:
    parts = get(service.port, "/health").json()["parts"]
    [found] = [part for part in parts if part["name"] == "aggregator"]
    assert found["state"] in ("ok", "warning"), found
    return bool(found["last_error"])


def test_the_folder_cannot_be_synced(service: Service, faults: Faults, seed: int) -> None:
    """A file whose name is not durable is not durable: the journal keeps what it holds."""
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        faults.fail_syncs_of(f"={service.data}")
        assert_refuses(service, writers, expected, "applier")
        service.kill()
        os.unlink(faults.arm)
        service.start_ready()
        assert_resumes(service, writers, expected)
    assert get(service.port, "/readyz").status == 200
    assert_exact(service, expected)
