"""Log lines: one event each, with its values as fields; JSON, or for a person on a terminal.

Everything else logs through `logging.getLogger(__name__)` with `extra=`; only this module formats.
A value is escaped wholly, so that nothing a client sends can begin a line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}

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
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)
            return
        loop = _running_loop()
        if loop is None or record.levelno >= logging.ERROR:
            self.flush()
        elif len(self._lines) == 1:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is there; called at exit as well."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            # A log that cannot be written, on a full disk or after its end was closed, is no reason
            # to serve nobody: nothing may come out of here into the event loop.
            with suppress(OSError, ValueError):
                self.stream.write("".join(lines))
                self.stream.flush()
        finally:
            self.release()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
        try:
            text = msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:
            text = ""
        # ASCII alone: to some readers U+2028 and U+0085 end a line as well.
        return text if text and text.isascii() else json.dumps(line, default=str)


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
    fields = {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and value is not None
    }
    request_id = request_id_of_task.get()
    if request_id is not None:
        fields["request_id"] = request_id
    return fields


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
