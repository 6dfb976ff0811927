"""Holds back what is logged again and again, and counts it.

The first few times in an interval an event is written; what comes after them is counted, and once
the interval is over one line says how often (`repeated`). The same event is the same text of the
same logger at the same level, with the same kind of exception: another fault is never hidden behind
it. Only warnings and errors are held back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from flowtally import limits
from flowtally.clock import Clock
from flowtally.observe.log_lines import fields_of

_EVENT_LENGTH_MAX = 500


class _Kind(NamedTuple):
    logger: str
    level: int
    event: str
    exception: type[BaseException] | None

    @classmethod
    def of(cls, record: logging.LogRecord) -> _Kind:
        error = record.exc_info[0] if record.exc_info else None
        return cls(record.name, record.levelno, str(record.msg)[:_EVENT_LENGTH_MAX], error)


@dataclass(slots=True)
class _Seen:
    since_s: float
    written: int = 0
    held_back: int = 0
    request_ids: list[str] = field(default_factory=list)


class Repeats:
    """See the module. May be asked from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[_Kind, _Seen] = {}
        self._lock = threading.Lock()

    def admit(self, record: logging.LogRecord) -> tuple[bool, list[logging.LogRecord]]:
        """Whether the event is to be written, and what is to be written before it: lines that say
        how often others were held back."""
        kind = _Kind.of(record)
        now_s = self._clock.monotonic_s()
        told: list[logging.LogRecord] = []
        with self._lock:
            seen = self._seen.get(kind)
            if seen is not None and now_s - seen.since_s >= limits.LOG_REPEATS_INTERVAL_S:
                told += self._forget([kind])
                seen = None
            if seen is None:
                if len(self._seen) >= limits.LOG_KINDS_MAX:
                    told += self._forget([next(iter(self._seen))])
                seen = self._seen[kind] = _Seen(now_s)
            if seen.written < limits.LOG_REPEATS_MAX:
                seen.written += 1
                return True, told
            seen.held_back += 1
            request_id = fields_of(record).get("request_id")
            if isinstance(request_id, str) and len(seen.request_ids) < limits.LOG_IDS_MAX:
                seen.request_ids.append(request_id)
        return False, told

    def over(self, at_once: bool = False) -> list[logging.LogRecord]:
        """What is to be written of the intervals that are over; with `at_once`, of all."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            return self._forget(
                [
                    kind
                    for kind, seen in self._seen.items()
                    if at_once or now_s - seen.since_s >= limits.LOG_REPEATS_INTERVAL_S
                ]
            )

    def _forget(self, kinds: Iterable[_Kind]) -> list[logging.LogRecord]:
        gone = ((kind, self._seen.pop(kind)) for kind in kinds)
        now_ms = self._clock.now_ms()
        return [_line(kind, seen, now_ms) for kind, seen in gone if seen.held_back]


def _line(kind: _Kind, seen: _Seen, now_ms: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": kind.logger,
            "levelno": kind.level,
            "levelname": logging.getLevelName(kind.level),
            "msg": kind.event,
            "created": now_ms / 1000,
            "repeated": seen.held_back,
            "exception_type": kind.exception and kind.exception.__qualname__,
            "request_ids": seen.request_ids or None,
        }
    )
