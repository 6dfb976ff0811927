"""The memory store's weaker promise: a kill loses what came after the last snapshot, and nothing
else. What is there again is the whole state of one moment.

Each of a few writers sends its batches one after the other, each with a flow of its own that counts
them. So the service says how many batches of each writer it has, and must have exactly the first
ones: no batch half there, none from after one that is not there, in whichever order they ended. The
writers then send all of it again, and everything counts once.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flowtally.steps import STEPS
from flowtally.stores.memory_snapshot import verify_snapshot
from tests.crash.accounts import assert_exact
from tests.crash.batches import BatchGenerator, Record, Sending, encode
from tests.crash.calls import Connection, NoAnswer, get, send
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.crash.test_power_cut import Disk, cut_power

_WRITERS = 3
_KILLED = -9
_COUNTED_IN = 1
_INTERVAL_S = 0.05


class Writer:
    """Sends batch after batch until it is told to stop; remembers when each was sent and answered.
    It stops at the first that is not answered: whether that one is there is open."""

    def __init__(self, port: int, seed: int, number: int) -> None:
        self.name = f"writer-{number}"
        self.sendings: list[Sending] = []
        self.sent_s: list[float] = []
        self.answered_s: list[float] = []
        self.replayed = 0
        self._port = port
        self._generator = BatchGenerator(seed, number)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _next(self) -> Sending:
        drawn = self._generator.next()
        counting = Record(self.name, "counted", "vpc-0", _COUNTED_IN, 1, 0)
        records = (*drawn.records, counting)
        return replace(drawn, records=records, body=encode(records))

    def _run(self) -> None:
        with Connection(self._port) as connection:
            while not self._stop.is_set():
                self.sendings.append(self._next())
                self.sent_s.append(time.monotonic())
                try:
                    answer = send(connection, self.sendings[-1].body, self.sendings[-1].key)
                except NoAnswer:
                    return
                assert answer.status == 200, answer
                self.answered_s.append(time.monotonic())

    def send_again(self) -> None:
        """Everything, under the same keys."""
        with Connection(self._port) as connection:
            for sending in self.sendings:
                answer = send(connection, sending.body, sending.key)
                assert answer.status == 200, answer
                self.replayed += answer.headers.get("idempotency-replayed") == "true"


def counted(service: Service) -> dict[str, int]:
    """How many batches of each writer are there."""
    answer = get(service.port, f"/v1/flows?hour={_COUNTED_IN}")
    return {
        one["src_app"]: one["bytes_rx"] for one in answer.json() if one["dest_app"] == "counted"
    }


def snapshot_sequence(service: Service) -> int:
    """How many batches were in the last snapshot."""
    parts = get(service.port, "/health").json()["parts"]
    [part] = [part for part in parts if part["name"] == "snapshot"]
    return int(part["facts"]["sequence"])


def assert_one_moment(service: Service, writers: list[Writer], least: int) -> None:
    """What is there is the whole state of one moment, not before the snapshot seen last."""
    found = counted(service)
    expected = Expected()
    there = [found.get(writer.name, 0) for writer in writers]
    for writer, count in zip(writers, there, strict=True):
        for sending in writer.sendings[:count]:
            expected.add(sending)
    assert_exact(service, expected)
    assert sum(there) >= least
    for writer, count in zip(writers, there, strict=True):
        last_sent_s = max(writer.sent_s[:count], default=0.0)
        for other, has in zip(writers, there, strict=True):
            missing = other.answered_s[has:]
            assert not missing or missing[0] > last_sent_s, "a later batch is there without it"


def assert_settles(service: Service, writers: list[Writer]) -> None:
    """All of it sent again counts once, and is there after an orderly stop."""
    there = counted(service)
    expected = Expected()
    for writer in writers:
        writer.send_again()
        assert writer.replayed == there.get(writer.name, 0)
        for sending in writer.sendings:
            expected.add(sending)
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert verify_snapshot(service.data).balances
    service.start_ready()
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()


@pytest.mark.parametrize(
    "step", ["at random", *(step for step in STEPS if step.startswith("snapshot."))]
)
def test_a_kill_leaves_one_moment(service: Service, seed: int, step: str) -> None:
    draw = random.Random(seed)
    service.set(store="memory", snapshot_interval_s=_INTERVAL_S)
    if step != "at random":
        service.set(die_at=step, die_at_count=draw.randint(3, 8))
    service.start_ready()
    writers = [Writer(service.port, seed, number) for number in range(_WRITERS)]
    least = 0
    for writer in writers:
        writer.start()
    try:
        if step == "at random":
            wanted = draw.randint(1, 40)
            wait_for(
                lambda: snapshot_sequence(service) >= wanted, READY_S_MAX, "no snapshot is taken"
            )
            least = snapshot_sequence(service)
            service.kill()
        assert service.wait_ended() == _KILLED, service.output()
    finally:
        for writer in writers:
            writer.stop()
    service.set(die_at=None)
    service.start_ready()
    assert_one_moment(service, writers, least)
    assert_settles(service, writers)


def test_power_cuts(service: Service, seed: int, faults_library: Path) -> None:
    """What was synced is left of the folder and its names: a snapshot is there or not."""
    image = service.folder / "image"
    image.mkdir()
    service.environment = {
        "LD_PRELOAD": str(faults_library),
        "FAULTS_IMAGE": str(image),
        "FAULTS_DATA": str(service.data),
    }
    draw = random.Random(seed)
    service.set(store="memory", snapshot_interval_s=_INTERVAL_S)
    service.start_ready()
    writers = [Writer(service.port, seed, number) for number in range(_WRITERS)]
    for writer in writers:
        writer.start()
    try:
        wanted = draw.randint(1, 40)
        wait_for(lambda: snapshot_sequence(service) >= wanted, READY_S_MAX, "no snapshot is taken")
        least = snapshot_sequence(service)
        service.kill()
    finally:
        for writer in writers:
            writer.stop()
    disk = Disk(draw, draw.choice([0.0, 0.5]))
    cut_power(service.data, image, service.folder / "before-cut", disk)
    service.start_ready()
    assert_one_moment(service, writers, least)
    assert_settles(service, writers)


def test_a_stop_keeps_everything_and_a_kill_leaves_it(service: Service, seed: int) -> None:
    """However often a process is killed that took nothing itself."""
    service.set(store="memory", snapshot_interval_s=3600.0)
    service.start_ready()
    writer = Writer(service.port, seed, 0)
    writer.start()
    wait_for(lambda: len(writer.answered_s) >= 20, READY_S_MAX, "no batches are taken")
    writer.stop()
    assert service.stop() == 0, service.output()
    for _ in range(2):
        service.start_ready()
        assert_one_moment(service, [writer], len(writer.answered_s))
        service.kill()


def test_a_second_process_is_refused_by_name(service: Service, seed: int) -> None:
    service.set(store="memory", snapshot_interval_s=3600.0)
    service.start_ready()
    second = Service(service.folder / "second", service.data)
    second.set(store="memory", snapshot_interval_s=3600.0)
    second.start()
    assert second.wait_ended() == 1
    assert f"process {service.pid}" in second.output()
    assert service.answers("/readyz", 200)
