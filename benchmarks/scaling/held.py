"""The points of two curves: a service that holds many flows, in few hours or in many."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.clients import Posting, measure, over_http
from benchmarks.run import bodies_of, timed_read, warm_reads
from benchmarks.subject import FLOWTALLY, Running, SubjectFailed, disk_bytes, running
from benchmarks.traffic import HOUR_OF_READS, Pool, Record, body_of, hour_of_flows

_APPS = 2_000
_FIRST_HOUR = 400_000
_FILL_RECORDS = 50_000
_FILL_BODIES_AT_ONCE = 2
_UPDATE_RECORDS = 1_000
_UPDATE_BODIES = 200
_CONNECTIONS = 8
_COMPACTED_S_MAX = 180.0
_LOOK_EVERY_S = 0.5
_RECENT_SHARE_MAX = 0.05
"""What compaction leaves lie when nothing else is to do: less is not worth its write."""


class Held:
    """So many flows in so many hours, by their numbers: nothing is kept, all can be made again."""

    def __init__(self, flows: int, hours: int) -> None:
        self.flows = flows
        self.hours = hours

    def record(self, number: int) -> Record:
        """The record that makes flow `number`."""
        rank, hour = divmod(number, self.hours)
        target, source = divmod(rank, _APPS)
        vpc, target = divmod(target, _APPS)
        return Record(
            f"service-{source:04d}",
            f"service-{target:04d}",
            f"vpc-{vpc}",
            _FIRST_HOUR + hour,
            number % 997,
            1,
        )

    def bodies(self) -> Iterator[bytes]:
        """A record for each flow, in batches."""
        for start in range(0, self.flows, _FILL_RECORDS):
            numbers = range(start, min(start + _FILL_RECORDS, self.flows))
            yield body_of(map(self.record, numbers))

    def updates(self) -> Pool:
        """Batches of records for flows that are held, any of them."""
        draw = random.Random(3)
        count = _UPDATE_RECORDS * _UPDATE_BODIES
        records = [self.record(draw.randrange(self.flows)) for _ in range(count)]
        return Pool(_UPDATE_RECORDS, records)


def measure_held(
    flows: int, hours: int, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Fills a service, then reads an hour of it and posts to it, each after a restart."""
    held = Held(flows, hours)
    large = hour_of_flows(options.apps, options.vpcs)
    with running(FLOWTALLY, folder) as started:
        began_s = time.monotonic()
        fill(started, [*bodies_of(large)])
        fill(started, held.bodies())
        fill_s = time.monotonic() - began_s
        _wait_until_compacted(started, options)
    with running(FLOWTALLY, folder) as started:
        cold_ms = 1000 * timed_read(started)
        warm = warm_reads(started, large, options.repeats)
        measured, times = _post(started, held, options, folder)
        began_s = time.perf_counter()
        status, answer = started.get("/v1/hours")
        hours_ms = 1000 * (time.perf_counter() - began_s)
        assert status == 200
        _assert_hours(json.loads(answer)["hours"], held, times, started.subject.name)
        _wait_until_compacted(started, options)
    written = disk_bytes(started.data)
    return {
        **measured,
        "cold_ms": cold_ms,
        **warm,
        "hours_ms": hours_ms,
        "fill_records_per_s": (flows + len(large)) / fill_s,
        "memory_bytes_per_flow": measured["memory_bytes_highest"] / flows,
        "disk_bytes": written,
        "disk_bytes_per_flow": written / (flows + len(large)),
    }


def fill(started: Running, bodies: Sequence[bytes] | Iterator[bytes]) -> None:
    """Posts bodies, a few at once, and again where the service asks for patience."""

    def post(body: bytes) -> None:
        while not started.post_or_wait(body):
            time.sleep(_LOOK_EVERY_S)

    with ThreadPoolExecutor(_FILL_BODIES_AT_ONCE) as threads:
        waiting = []
        for body in bodies:
            waiting.append(threads.submit(post, body))
            if len(waiting) > 2 * _FILL_BODIES_AT_ONCE:
                waiting.pop(0).result()
        for one in waiting:
            one.result()


def _post(
    started: Running, held: Held, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, Any], list[tuple[Record, int]]]:
    """What is taken while all this is held, and what was posted, each record with its count."""
    pool = held.updates()
    bodies = folder / "updates"
    pool.write(bodies)
    posting = Posting(options.clients, _CONNECTIONS, options.warm_up, options.seconds)
    measured, seen = measure(over_http(started), pool.batch_records, bodies, posting)
    posted = [
        (record, count)
        for batch, count in zip(pool.batches, seen.times, strict=True)
        for record in batch
    ]
    return asdict(measured), posted


def _assert_hours(
    found: Sequence[dict[str, Any]], held: Held, posted: Sequence[tuple[Record, int]], name: str
) -> None:
    """Holds each hour's number of flows and its sum against what was sent to it."""
    expected = {_FIRST_HOUR + hour: [0, 0] for hour in range(held.hours)}
    for number in range(held.flows):
        of = expected[_FIRST_HOUR + number % held.hours]
        of[0] += 1
        of[1] += number % 997
    for record, count in posted:
        expected[record.hour][1] += count * record.bytes_rx
    told = {
        line["hour"]: [line["flows"], line["bytes_rx"]]
        for line in found
        if line["hour"] != HOUR_OF_READS
    }
    if told != expected:
        raise SubjectFailed(f"{name} has wrong sums in {len(told)} hours")


def _wait_until_compacted(started: Running, options: argparse.Namespace) -> None:
    """Until what is left to be summed is not worth a write, which takes a quiet half minute."""
    deadline_s = time.monotonic() + _COMPACTED_S_MAX
    while not options.small:
        facts = started.facts("applier")
        waiting_bytes = started.facts("journal")["pending_bytes"]
        if not waiting_bytes and facts["rows_recent"] <= _RECENT_SHARE_MAX * facts["rows_base"]:
            return
        if time.monotonic() > deadline_s:
            raise SubjectFailed(f"{started.subject.name} does not compact: {facts}")
        time.sleep(_LOOK_EVERY_S)
