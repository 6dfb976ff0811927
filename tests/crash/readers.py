"""Readers beside the writers: what was acknowledged is seen, and what was seen is never taken back.

Each read waits for the applier, so a kill that strikes during one strikes the applier at work.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tests.crash.batches import HOURS
from tests.crash.calls import Connection, NoAnswer
from tests.crash.expected import Expected, Totals

READERS = 2
_PAUSE_S = 0.02


class Readers:
    """Start, stop; `answered` counts the whole answers."""

    def __init__(
        self,
        port: int,
        seed: int,
        expected: Expected,
        readers: int = READERS,
        visible_on_return: bool = True,
        connect: Callable[[int], Connection] = Connection,
    ) -> None:
        self.answered = 0
        self._visible_on_return = visible_on_return
        self._port = port
        self._connect = connect
        self._expected = expected
        self._seen: dict[int, Totals] = {}
        self._failures: list[str] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(random.Random(f"{seed}/{number}"),), name=f"reader-{number}"
            )
            for number in range(readers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Raises `AssertionError` with what went wrong, if anything did."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, "\n".join(self._failures)

    def wait_answered(self, more: int, timeout_s: float) -> bool:
        """Waits until there are this many more whole answers than now; False after too long."""
        with self._changed:
            wanted = self.answered + more
            return self._changed.wait_for(lambda: self.answered >= wanted, timeout_s)

    def _run(self, draw: random.Random) -> None:
        with self._connect(self._port) as connection:
            while not self._stopping.wait(_PAUSE_S):
                self._read(connection, draw.choice(HOURS))

    def _read(self, connection: Connection, hour: int) -> None:
        acknowledged = self._expected.totals(hour)
        with self._changed:
            seen = self._seen.get(hour, {})
        try:
            answer = connection.request("GET", f"/v1/flows?hour={hour}")
        except NoAnswer:
            return
        if answer.status == 503:
            return
        found: Totals = {
            (row["src_app"], row["dest_app"], row["vpc_id"]): (row["bytes_rx"], row["bytes_tx"])
            for row in answer.json()
        }
        with self._changed:
            self.answered += 1
            self._changed.notify_all()
            if self._visible_on_return:
                self._failures += _fallen(found, acknowledged, f"hour {hour}: acknowledged")
            self._failures += _fallen(found, seen, f"hour {hour}: read before")
            self._seen[hour] = found


def _fallen(found: Totals, floor: Totals, what: str) -> list[str]:
    return [
        f"{what}: {flow} {least}, read now: {found.get(flow)}"
        for flow, least in floor.items()
        if flow not in found or any(now < was for now, was in zip(found[flow], least, strict=True))
    ]
