"""A service that does what it should, too slowly: others use what it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path
from threading import Event

from tests.crash.batches import HOURS, Record, Sending, encode
from tests.crash.calls import Connection
from tests.crash.service import READY_S_MAX, wait_for
from tests.runbooks.incident import Incident

_POST_INTERVAL_S = 0.02
_SYNC_MS = 2_200
"""What a sync takes longer while the dump runs: one is a slow commit, three are no stuck part."""
_DUMP = """
import os, pathlib, signal
signal.alarm(600)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
slow, pid = pathlib.Path("slow"), pathlib.Path("nightly-dump.pid")
slow.write_text("{sync_ms} journal.sqlite")
pid.write_text(str(os.getpid()))
signal.sigwait([signal.SIGTERM])
slow.unlink()
"""
_LARGE_HOURS = HOURS[:4]
_FLOWS = 60_000
_ANSWERS = tuple(
    product(
        _LARGE_HOURS, ("json", "ndjson", "csv", "arrow", "parquet"), ("identity", "gzip", "zstd")
    )
)
"""Of every large hour, in each format and coding: none is made once for two who ask."""


def test_slow_writes(incident: Incident, faults_library: Path) -> None:
    """The disk is slow for as long as somebody else's dump runs."""
    service = incident.service
    service.environment = {
        "LD_PRELOAD": str(faults_library),
        "FAULTS_SLOW": str(incident.home / "slow"),
    }
    service.set(access_log=True)
    service.start_ready()
    with _agents(incident), _dump(incident.home):
        incident.follow()


def test_slow_reads(incident: Incident) -> None:
    """Large hours change all the time, and a dashboard reads all of them, in every form, without
    telling what it has."""
    service = incident.service
    incident.token = incident.add_token("agents", "write")
    operator = incident.add_token("operator", "read", "write", "admin")
    dashboard = incident.add_token("dashboard", "read")
    incident.environment["FLOWTALLY_TOKEN"] = operator
    service.set(access_log=True)
    incident.start_with_tokens()
    for hour in _LARGE_HOURS:
        incident.post_one(_large(hour))
    with _agents(incident), _dashboard(service.port, dashboard):
        incident.follow()
    incident.start_without_tokens()


def _large(hour: int) -> Sending:
    records = tuple(
        Record(f"app-{number}", "api", "vpc-0", hour, number, 2 * number)
        for number in range(_FLOWS)
    )
    return Sending(f"large-{hour}", records, encode(records))


def _agents(incident: Incident) -> AbstractContextManager[None]:
    """They post one batch after the other."""

    def post(ended: Event) -> None:
        while not ended.wait(_POST_INTERVAL_S):
            incident.post(1)

    return _until_the_end([post])


def _dashboard(port: int, token: str) -> AbstractContextManager[None]:
    """Reads everything again and again, until it is not let in any more."""

    def reader(hour: int, form: str, coding: str) -> Callable[[Event], None]:
        def read(ended: Event) -> None:
            headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": coding}
            status = 200
            with Connection(port, headers) as connection:
                while status == 200 and not ended.is_set():
                    path = f"/v1/flows?hour={hour}&format={form}"
                    status = connection.request("GET", path).status
            assert status in (200, 401)

        return read

    return _until_the_end([reader(*answer) for answer in _ANSWERS])


@contextmanager
def _until_the_end(what: list[Callable[[Event], None]]) -> Iterator[None]:
    """Runs them beside what is in the block; each must end when it is told to, and well."""
    ended = Event()
    with ThreadPoolExecutor(len(what)) as threads:
        running = [threads.submit(one, ended) for one in what]
        try:
            yield
        finally:
            ended.set()
    for one in running:
        one.result()


@contextmanager
def _dump(home: Path) -> Iterator[None]:
    """A process beside the service, which somebody else has to end."""
    program = home / "nightly-dump"
    program.write_text(_DUMP.format(sync_ms=_SYNC_MS))
    process = subprocess.Popen([sys.executable, program.name], cwd=home)
    try:
        started = home / "nightly-dump.pid"
        wait_for(started.exists, READY_S_MAX, "the dump does not run")
        yield
        assert process.wait(READY_S_MAX) == 0, "nobody has ended the dump"
    finally:
        process.kill()
        process.wait()
