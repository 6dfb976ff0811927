"""Log lines: one event each, with its values as fields; JSON, or for a person on a terminal.

Everything else logs through `logging.getLogger(__name__)` with `extra=`; only this module formats.
A value is escaped wholly, so that nothing a client sends can begin a line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import msgspec

_NOTHING = vars(logging.makeLogRecord({}))
_STANDARD = frozenset(_NOTHING) | {
    "message",
    "asctime",
    "taskName",
}

_encode = msgspec.json.Encoder(enc_hook=str).encode

request_id_of_task: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the running task answers; in every line that is logged meanwhile."""


def set_up(log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Sends everything that is logged to `stream` (standard error); may be called again."""
    stream = stream or sys.stderr
    human = log_format == "human" or (log_format == "auto" and stream.isatty())
    handler = TurnHandler(stream)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    # What no line shows need not be found out for each of them: the Logging HOWTO, "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())


class TurnHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop in one piece, and all others at once.

    A group of batches is answered in one turn. A write for each line would let go of the
    interpreter's lock as often, and each time wait until another thread gives it back: that was a
    third of what a small post cost.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        # Added to without the lock: an `append` is whole, and `flush` takes from the other end.
        self._lines: deque[str | Event] = deque()

    def handle(self, record: logging.LogRecord) -> bool:
        if not isinstance(record, Event):
            return super().handle(record)
        self._take(record, record.levelno)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # At once: its values may have changed by the end of the turn.
            line = self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
            return
        self._take(line, record.levelno)

    def flush(self) -> None:
        """Writes what is there; called at exit as well."""
        self.acquire()
        try:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            text = "".join(
                line if isinstance(line, str) else self.format(line) + self.terminator
                for line in lines
            )
            # A log that cannot be written, on a full disk or after its end was closed, is no reason
            # to serve nobody: nothing may come out of here into the event loop.
            with suppress(OSError, ValueError):
                self.stream.write(text)
                self.stream.flush()
        finally:
            self.release()

    def _take(self, line: str | Event, level: int) -> None:
        self._lines.append(line)
        loop = _running_loop()
        if loop is None or level >= logging.ERROR:
            self.flush()
        elif len(self._lines) == 1:
            loop.call_soon(self.flush)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Event(logging.LogRecord):
    """A record that is made of its fields alone, for what is logged of every request.

    `logging` finds out a dozen things about each of its own records that no line here shows; that
    was a sixth of what a small post cost. Give it to `Logger.handle`, where `isEnabledFor`. Its
    fields are written as they are, at the end of the turn: they hold the request's id, and no None.
    """

    def __init__(
        self, logger: str, level: int, event: str, created_ms: int, fields: dict[str, Any]
    ) -> None:
        # All else is as in a record of nothing: other people's handlers look for it.
        self.__dict__.update(_NOTHING)
        self.name = logger
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = event
        self.created = created_ms / 1000
        self.fields = fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII alone: to some readers U+2028 and U+0085 end a line as well.
        try:
            return _encode(line).decode("ascii")
        except UnicodeError:
            return json.dumps(line, default=str)


class HumanFormatter(logging.Formatter):
    """Time, level, event, then `name=value` for each field."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [
            _timestamp(record)[11:23],
            f"{record.levelname.lower():8}",
            record.getMessage(),
            *(f"{name}={_shown(value)}" for name, value in _fields(record).items()),
        ]
        text = " ".join(parts)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    if isinstance(record, Event):
        return record.fields
    fields = {name: value for name, value in _extra(record).items() if value is not None}
    request_id = request_id_of_task.get()
    if request_id is not None:
        fields["request_id"] = request_id
    return fields


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`: it stands among the record's own attributes."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)


def _timestamp(record: logging.LogRecord) -> str:
    return _moment(int(record.created * 1000))


@lru_cache(maxsize=2)
def _moment(epoch_ms: int) -> str:
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
