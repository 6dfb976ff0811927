"""What the API is given: the ports and the parts around them, by value, nothing global."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from flowtally import limits
from flowtally.api.answer_cache import AnswerCache
from flowtally.api.auth import Gate
from flowtally.clock import Clock
from flowtally.ingest.admission import Admission
from flowtally.ingest.committer import Committer
from flowtally.limits import BodyLimits
from flowtally.observe.health import HealthSource
from flowtally.observe.metrics import Metrics
from flowtally.ports import FlowSink, FlowSource


@dataclass(frozen=True)
class Services:
    """The parts that the API stands on; `compose.py` makes them."""

    sink: FlowSink
    source: FlowSource
    committer: Committer
    admission: Admission
    clock: Clock
    bounds: BodyLimits
    deadline_s: float
    metrics: Metrics
    stopping: Callable[[], bool]
    store_name: str
    gate: Gate = Gate(None, None)
    health_sources: tuple[HealthSource, ...] = ()
    """Parts beside the sink and the committer."""
    answers: AnswerCache = field(
        default_factory=lambda: AnswerCache(limits.READ_CACHE_BYTES_MAX), init=False, compare=False
    )
    """Of this source: parts that are put together anew (`dataclasses.replace`) begin without."""
    backup_underway: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, compare=False)
    """Held by the one who is given a backup: its copy stands in the store's one staging folder."""
