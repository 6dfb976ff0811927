"""The service's metrics, in a registry of their own: two services can live in one process.

Names and labels are listed in `docs/reference/metrics.md`, held by a test. Labels are bounded:
route templates and named outcomes, never what a client sent.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from flowtally import __version__
from flowtally.errors import BodyCutOff, InvalidInput, Unavailable
from flowtally.model import PartHealth, Receipt
from flowtally.observe.logs import LogCounts, counts
from flowtally.observe.part_metrics import PartMetrics, threads
from flowtally.observe.request_durations import RequestDurations

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
_METHODS = frozenset(("GET", "HEAD", "POST"))


class Metrics:
    """Counts what happens. Called from the event loop only."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._records = self._counter("flowtally_records", "Records accepted, repeats left out.")
        self._batches = self._counter("flowtally_batches", "Batches posted, by outcome.", "outcome")
        self._denied = self._counter(
            "flowtally_denied",
            "Requests and handshakes that were turned away before any of a body was read.",
            "reason",
        )
        self._requests = RequestDurations(
            "http_request_duration_seconds",
            "Requests, from their head to the end of the answer.",
            _SECONDS,
        )
        registry.register(self._requests)
        self._deprecated = self._counter(
            "flowtally_deprecated_requests",
            "Requests for what is marked deprecated.",
            "method",
            "route",
        )
        self._accepted = self._batches.labels("accepted")
        self._commit = self._histogram(
            "flowtally_commit_duration_seconds", "Commits of a group, with their sync."
        )
        self._queue = self._histogram(
            "flowtally_commit_queue_seconds",
            "How long the oldest batch of a group waited for its commit to begin.",
        )
        self._group = self._histogram(
            "flowtally_commit_group_batches", "Batches committed together.", _BATCHES
        )
        self._in_flight = self._gauge(
            "flowtally_in_flight_bytes", "Bytes of bodies not yet answered."
        )
        self._ready = self._gauge("flowtally_ready", "1 while batches are taken, else 0.")
        self._admission_refused = self._counter(
            "flowtally_admission_refused",
            "Bodies that were turned away because too many bytes were in flight.",
        )
        self._rejected = self._counter(
            "flowtally_batches_rejected",
            "Batches that were not acknowledged, by the reason that the sender was told.",
            "reason",
        )
        self._lag = self._histogram(
            "flowtally_event_loop_lag_seconds",
            "How much later than it was due the event loop did something, looked at each second.",
        )
        self.observe_lag = self._lag.observe
        """Notes one look at the event loop."""
        self._parts = PartMetrics()
        registry.register(self._parts)
        ProcessCollector(registry=registry)
        self._gauge("flowtally_threads", "Threads, those of libraries included.").set_function(
            threads
        )
        self._admission_refused_noted = 0
        build = self._gauge(
            "flowtally_build_info", "What is running; always 1.", "version", "python"
        )
        build.labels(__version__, platform.python_version()).set(1)
        registry.register(_LogCollector(counts))

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def names(self) -> list[str]:
        """Every metric's name, as it is documented."""
        return sorted(
            {
                f"{metric.name}_total" if metric.type == "counter" else metric.name
                for metric in (*self.registry.collect(), *self._parts.describe())
            }
        )

    def observe_commit(self, batches: int, queue_s: float, commit_s: float) -> None:
        """Notes one commit of the committer."""
        self._group.observe(batches)
        self._queue.observe(queue_s)
        self._commit.observe(commit_s)

    def observe_request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Notes one answered request; a status of 0 is one that nobody was left to answer."""
        self._requests.observe((_method(method), route, status), duration_s)

    def count_deprecated(self, method: str, route: str) -> None:
        """Notes a request for something that should no longer be used."""
        self._deprecated.labels(_method(method), route).inc()

    def count_denied(self, reason: str) -> None:
        """Notes that somebody was turned away; a reason is one of few words."""
        self._denied.labels(reason).inc()

    def count_batch(self, receipt: Receipt) -> None:
        """Notes a batch that was acknowledged."""
        if receipt.repeated:
            self._batches.labels("repeated").inc()
        else:
            self._accepted.inc()
            self._records.inc(receipt.records)

    def count_unanswered(self, error: Exception, reason: str) -> None:
        """Notes a batch that was not acknowledged, whose fault it was, and of which kind of problem
        the sender was told."""
        outcome = "failed"
        if isinstance(error, BodyCutOff):
            outcome = "cut_off"
        elif isinstance(error, InvalidInput):
            outcome = "refused"
        elif isinstance(error, Unavailable):
            outcome = "unavailable"
        self._batches.labels(outcome).inc()
        self._rejected.labels(reason).inc()

    def watch_parts(
        self, parts: Callable[[], Sequence[PartHealth]], now_s: Callable[[], float]
    ) -> None:
        """From now on the parts are asked at each scrape, how they are."""
        self._parts.parts, self._parts.now_s = parts, now_s

    def note_admission(self, ready: bool, in_flight_bytes: int, refused_total: int) -> None:
        """Notes what comes in at this moment."""
        self._ready.set(ready)
        self._in_flight.set(in_flight_bytes)
        new = refused_total - self._admission_refused_noted
        self._admission_refused_noted = refused_total
        self._admission_refused.inc(new)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


def _method(method: str) -> str:
    return method if method in _METHODS else "other"


class _LogCollector(Collector):
    """What the log counts by itself, as it is when it is asked for."""

    def __init__(self, log: LogCounts) -> None:
        self._log = log

    def collect(self) -> Iterable[CounterMetricFamily]:
        events = CounterMetricFamily(
            "flowtally_log_events",
            "Events logged, those held back among them.",
            labels=["level"],
        )
        for level in LOG_LEVELS:
            events.add_metric([level], self._log.events[level])
        yield events
        yield CounterMetricFamily(
            "flowtally_log_suppressed",
            "Events held back because the same was logged again and again.",
            value=self._log.suppressed,
        )
