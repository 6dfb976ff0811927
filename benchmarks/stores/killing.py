"""What a kill can lose: a service under load is killed, and what it had acknowledged is looked for.

Each batch is one record of a flow of its own, so a read of the hour lists the batches that are
there.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.subject import Running, Subject, SubjectFailed, running
from benchmarks.traffic import Record, body_of

_HOUR = 490_000
_CONNECTIONS = 4


def measure_kills(subject: Subject, kills: int, seconds_max: float, folder: Path) -> dict[str, Any]:
    """Kills it so many times, always on the same folder, each at a moment that is drawn."""
    draw = random.Random(7)
    numbers = count()
    acknowledged: dict[int, float] = {}
    missing: set[int] = set()
    lost_s = 0.0
    for _ in range(kills):
        with running(subject, folder) as started:
            before = set(acknowledged)
            killed_s = _post_until_killed(
                started, numbers, acknowledged, seconds_max * draw.uniform(0.5, 1.0)
            )
            if len(acknowledged) == len(before):
                raise SubjectFailed(f"{subject.name} acknowledged nothing before it was killed")
        with running(subject, folder) as started:
            started.settle()
            there = _there(started)
        lost = acknowledged.keys() - there - missing
        lost_s = max([lost_s, *(killed_s - acknowledged[number] for number in lost - before)])
        missing |= lost
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "missing": len(missing),
        "missing_s": lost_s,
    }


def _post_until_killed(
    started: Running, numbers: count[int], acknowledged: dict[int, float], after_s: float
) -> float:
    """Posts over a few connections, and kills the service meanwhile; says when."""
    killed = threading.Event()

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", started.port)
        try:
            while not killed.is_set():
                number = next(numbers)
                body = body_of([Record("killed", f"batch-{number}", "v", _HOUR, 1, 1)])
                headers = {"Content-Type": "application/json", "Idempotency-Key": f"{number}"}
                connection.request("POST", "/v1/flows", body, headers)
                answer = connection.getresponse()
                answer.read()
                if 200 <= answer.status < 300:
                    acknowledged[number] = time.monotonic()
        except (OSError, http.client.HTTPException):
            if not started.killed:
                raise
        finally:
            connection.close()

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        posting = [threads.submit(post) for _ in range(_CONNECTIONS)]
        time.sleep(after_s)
        killed_s = time.monotonic()
        started.kill()
        started.process.wait()
        killed.set()
        for one in posting:
            one.result()
    return killed_s


def _there(started: Running) -> set[int]:
    """The numbers of the batches that are there. Raises `SubjectFailed` if one counts twice."""
    rows = json.loads(started.sums(_HOUR))
    if any(row["bytes_rx"] != 1 for row in rows):
        raise SubjectFailed(f"{started.subject.name} counted a batch twice")
    return {int(row["dest_app"].removeprefix("batch-")) for row in rows}
