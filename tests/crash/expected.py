"""What the service must answer, kept in a dict of Python's integers.

Written apart from the product on purpose: it imports nothing of it, and adds up record by record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from tests.crash.batches import HOURS, Record, Sending
from tests.crash.calls import get

Totals = dict[tuple[str, str, str], tuple[int, int]]
"""Received and sent bytes of each flow of an hour."""


class Expected:
    """The sums of every batch that was counted, and how many there were; safe from any thread."""

    def __init__(self) -> None:
        self.batches = 0
        self.records = 0
        self._sums: dict[tuple[int, str, str, str], list[int]] = {}
        self._lock = threading.Lock()

    def add(self, sending: Sending) -> None:
        """Counts one batch. The caller adds each once, when its first 2xx has come."""
        with self._lock:
            self.batches += 1
            for record in sending.records:
                self._add_record(record)

    def _add_record(self, record: Record) -> None:
        self.records += 1
        flow = (record.hour, record.src_app, record.dest_app, record.vpc_id)
        total = self._sums.setdefault(flow, [0, 0])
        total[0] += record.bytes_rx
        total[1] += record.bytes_tx

    def hour(self, hour: int) -> list[dict[str, Any]]:
        """The exact answer to `GET /v1/flows?hour=`."""
        with self._lock:
            rows = [(flow[1:], total) for flow, total in self._sums.items() if flow[0] == hour]
        rows.sort(key=lambda row: tuple(name.encode() for name in row[0]))
        return [
            {
                "src_app": src_app,
                "dest_app": dest_app,
                "vpc_id": vpc_id,
                "hour": hour,
                "bytes_rx": bytes_rx,
                "bytes_tx": bytes_tx,
            }
            for (src_app, dest_app, vpc_id), (bytes_rx, bytes_tx) in rows
        ]

    def totals(self, hour: int) -> Totals:
        """The bytes of each flow of an hour."""
        with self._lock:
            return {
                flow[1:]: (total[0], total[1])
                for flow, total in self._sums.items()
                if flow[0] == hour
            }

    def bytes_total(self) -> tuple[int, int]:
        """Received and sent bytes of everything counted."""
        with self._lock:
            totals = list(self._sums.values())
        return sum(total[0] for total in totals), sum(total[1] for total in totals)


def differences(expected: Expected, port: int) -> list[str]:
    """Every difference between what was counted and what the service answers."""
    found: list[str] = []
    for hour in HOURS:
        answer = get(port, f"/v1/flows?hour={hour}")
        if answer.status != 200:
            found.append(f"hour {hour}: {answer}")
            continue
        found.extend(
            f"hour {hour}: {line}" for line in _compare(expected.hour(hour), answer.json())
        )
    return found


def _compare(wanted: list[dict[str, Any]], got: list[dict[str, Any]]) -> Iterable[str]:
    if wanted == got:
        return
    wanted_flows = {_flow(row): row for row in wanted}
    got_flows = {_flow(row): row for row in got}
    for flow in wanted_flows.keys() - got_flows.keys():
        yield f"lost {wanted_flows[flow]}"
    for flow in got_flows.keys() - wanted_flows.keys():
        yield f"extra {got_flows[flow]}"
    for flow in wanted_flows.keys() & got_flows.keys():
        if wanted_flows[flow] != got_flows[flow]:
            yield f"wanted {wanted_flows[flow]}, got {got_flows[flow]}"
    if wanted_flows == got_flows:
        yield "the rows are right, but their order is not, or a row comes twice"


def _flow(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["src_app"], row["dest_app"], row["vpc_id"]
