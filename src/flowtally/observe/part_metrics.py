"""What the parts say of themselves, as metrics: those that an operator watches under names of their
own, in base units; the rest as `flowtally_part_fact`.

A metric is there only where a part of the running store tells it: a store without a journal shows
no journal of zero bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from flowtally.model import PartHealth
from flowtally.observe.health import STATES

_THREADS_FIELD = 17
"""Of /proc/self/stat, counted behind the name of the command."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A fact that has a name of its own."""

    name: str
    about: str
    facts: tuple[tuple[str, str], ...]
    """Part and fact; where several are told, they are added up."""
    scale: float = 1.0
    is_counter: bool = False


def _milli(*facts: tuple[str, str]) -> tuple[tuple[tuple[str, str], ...], float]:
    return facts, 1e-3


_NAMED = (
    _Named(
        "flowtally_aggregation_last_duration_seconds",
        "How long the last run of the hourly store took.",
        *_milli(("aggregator", "last_run_took_ms")),
    ),
    _Named(
        "flowtally_aggregations",
        "Runs of the hourly store since the start.",
        (("aggregator", "runs"),),
        is_counter=True,
    ),
    _Named(
        "flowtally_clock_jump_seconds",
        "How far the wall clock was set while the service runs, until it is undone or a day old.",
        (("clock", "jumped_s"),),
    ),
    _Named(
        "flowtally_disk_free_bytes",
        "Room left on the file system of the data.",
        (("disk", "free_bytes"),),
    ),
    _Named(
        "flowtally_disk_free_min_bytes",
        "Below this room nothing is acknowledged.",
        (("disk", "free_bytes_min"),),
    ),
    _Named(
        "flowtally_flows_held",
        "Rows of sums: one for each flow and arrival hour, more until they are compacted.",
        (("applier", "rows_recent"), ("applier", "rows_base"), ("store", "rows")),
    ),
    _Named(
        "flowtally_journal_log_bytes",
        "The write-ahead log of the journal, or of the sql store's SQLite.",
        (("journal", "log_bytes"), ("database", "log_bytes")),
    ),
    _Named(
        "flowtally_journal_pending_bytes",
        "Tallies that are journalled and not yet in the sums.",
        (("journal", "pending_bytes"),),
    ),
    _Named(
        "flowtally_ledger_check_duration_seconds",
        "How long the last count of the ledger took.",
        *_milli(("ledger", "took_ms")),
    ),
    _Named(
        "flowtally_ledger_imbalance_records",
        "Records too many or missing at the last count of the ledger; must be 0.",
        (("ledger", "imbalance_records"),),
    ),
    _Named(
        "flowtally_pending_batches",
        "Batches that are acknowledged and not yet in the sums.",
        (("applier", "pending_batches"), ("aggregator", "pending_batches")),
    ),
    _Named(
        "flowtally_pending_oldest_age_seconds",
        "How long the oldest batch has waited for a run of the hourly store.",
        *_milli(("aggregator", "oldest_pending_age_ms")),
    ),
    _Named(
        "flowtally_queued_batches",
        "Batches that wait for the next commit.",
        (("committer", "queued_batches"),),
    ),
    _Named(
        "flowtally_queued_flows",
        "Flows of the batches that wait for the next commit.",
        (("committer", "queued_flows"),),
    ),
    _Named(
        "flowtally_snapshot_age_seconds",
        "How old the memory store's last snapshot is.",
        *_milli(("snapshot", "age_ms")),
    ),
)
_LEDGER_ACCOUNTS = {
    account: ("ledger", f"{account}_records")
    for account in ("accepted", "summed", "pending", "expired")
}
"""Each account, and the fact that tells of it."""
_ELSEWHERE = {
    *(fact for named in _NAMED for fact in named.facts),
    *_LEDGER_ACCOUNTS.values(),
    ("applier", "compactions"),
    ("applier", "compaction_s"),
    # The same as the journal's.
    ("aggregator", "pending_bytes"),
}


class PartMetrics(Collector):
    """Collects from the parts at each scrape. `parts` is asked then, and `now_s` for their age."""

    def __init__(self) -> None:
        self.parts: Callable[[], Sequence[PartHealth]] = lambda: ()
        self.now_s: Callable[[], float] = lambda: 0.0

    def describe(self) -> Iterable[Metric]:
        """Every family that there can be, without values."""
        return [*self._of(()), *(_family(named) for named in _NAMED), _compactions(), _ledger()]

    def collect(self) -> Iterator[Metric]:
        """The families that there are now."""
        parts = self.parts()
        facts = {
            (part.name, fact): float(value)
            for part in parts
            for fact, value in part.facts.items()
            if isinstance(value, int | float)
        }
        yield from self._of(parts)
        for named in _NAMED:
            found = [facts[fact] for fact in named.facts if fact in facts]
            if found:
                family = _family(named)
                family.add_metric([], sum(found) * named.scale)
                yield family
        if ("applier", "compactions") in facts:
            compactions = _compactions()
            compactions.add_metric(
                [], int(facts["applier", "compactions"]), facts["applier", "compaction_s"]
            )
            yield compactions
        ledger = _ledger()
        for account, fact in _LEDGER_ACCOUNTS.items():
            if fact in facts:
                ledger.add_metric([account], facts[fact])
        if ledger.samples:
            yield ledger

    def _of(self, parts: Sequence[PartHealth]) -> Iterator[Metric]:
        now_s = self.now_s()
        state = _gauge("flowtally_part_state", "How a part is: 0 ok, 1 warning, 2 error.")
        stuck = _gauge(
            "flowtally_part_stuck", "1 where a part gives no sign of life, or has ended; else 0."
        )
        age = _gauge(
            "flowtally_part_beat_age_seconds",
            "How long ago a part last proved that it is alive.",
        )
        fact = _gauge(
            "flowtally_part_fact", "What else a part says of itself, as on /health.", "fact"
        )
        for part in parts:
            state.add_metric([part.name], STATES.index(part.state))
            stuck.add_metric([part.name], part.is_stuck)
            age.add_metric([part.name], max(now_s - part.beat_s, 0.0))
            for name, value in part.facts.items():
                if isinstance(value, int | float) and (part.name, name) not in _ELSEWHERE:
                    fact.add_metric([part.name, name], value)
        yield from (age, fact, state, stuck)


def threads() -> int:
    """Threads of this process, those of libraries included; where the kernel does not tell, those
    that run Python."""
    try:
        stat = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
        return int(stat[_THREADS_FIELD])
    except (OSError, ValueError, IndexError):
        return threading.active_count()


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=("part", *labels))


def _family(named: _Named) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if named.is_counter else GaugeMetricFamily
    return kind(named.name, named.about)


def _compactions() -> SummaryMetricFamily:
    return SummaryMetricFamily(
        "flowtally_compaction_duration_seconds", "Compactions of the duckdb store since the start."
    )


def _ledger() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "flowtally_ledger_records",
        "Records by account, at the last count of the ledger: accepted = summed + pending +"
        " expired.",
        labels=("account",),
    )
