"""The oracle: a dict of Python integers, written apart from the product. Imports nothing of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Oracle:
    """Sums records as a person would with a pencil."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str, str, int], list[int]] = {}
        self.keys: set[str] = set()

    def post(self, records: Iterable[Mapping[str, Any]], key: str | None = None) -> bool:
        """Counts a batch, once for each key; returns whether it was new."""
        if key is not None:
            if key in self.keys:
                return False
            self.keys.add(key)
        for record in records:
            flow = (record["src_app"], record["dest_app"], record["vpc_id"], record["hour"])
            sums = self.sums.setdefault(flow, [0, 0])
            sums[0] += record["bytes_rx"]
            sums[1] += record["bytes_tx"]
        return True

    def hour(self, hour: int) -> list[dict[str, Any]]:
        """The answer of a read, in the order of the names' UTF-8 bytes."""
        flows = sorted(
            (flow for flow in self.sums if flow[3] == hour),
            key=lambda flow: [name.encode() for name in flow[:3]],
        )
        return [
            {
                "src_app": flow[0],
                "dest_app": flow[1],
                "vpc_id": flow[2],
                "hour": hour,
                "bytes_rx": self.sums[flow][0],
                "bytes_tx": self.sums[flow][1],
            }
            for flow in flows
        ]

    def hours(self) -> list[int]:
        """The hours that hold a flow."""
        return sorted({flow[3] for flow in self.sums})
