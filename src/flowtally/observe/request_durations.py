"""The histogram of request durations, for what is noted with every request.

Counts in plain lists and makes metrics of them when somebody asks: prometheus_client's own takes a
lock for each number and costs four times as much. Used from the event loop only, so it takes none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

Labels = tuple[str, str, int]


class _Counted:
    __slots__ = ("counts", "sum_s")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum_s = 0.0


class RequestDurations(Collector):
    """Durations by `(method, route, status)`; register it once."""

    def __init__(self, name: str, text: str, buckets_s: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._buckets_s = (*buckets_s, float("inf"))
        self._bounds = [*(str(float(bound)) for bound in buckets_s), "+Inf"]
        self._counted: dict[Labels, _Counted] = {}

    def observe(self, labels: Labels, duration_s: float) -> None:
        """Notes one request."""
        counted = self._counted.get(labels)
        if counted is None:
            counted = self._counted[labels] = _Counted(len(self._buckets_s))
        counted.counts[bisect_left(self._buckets_s, duration_s)] += 1
        counted.sum_s += duration_s

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=("method", "route", "status"))
        for (method, route, status), counted in self._counted.items():
            buckets = list(zip(self._bounds, accumulate(counted.counts), strict=True))
            family.add_metric((method, route, str(status)), buckets, counted.sum_s)
        yield family
