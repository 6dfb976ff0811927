"""How one event of the log is written: as JSON, or for a person on a terminal.

Promises: one event begins one line, whatever is in it. In JSON that is all of it, and every text
can be read back. For a person, the trace of an exception follows in indented lines; every text is
escaped, so that none can begin a line, or look like one.
Leaves to others: which events are written, and where to (`logs.py`).
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

NOTHING = vars(logging.makeLogRecord({}))
"""What every record has."""
_STANDARD = frozenset(NOTHING) | {
    "message",
    "asctime",
    "taskName",
}
_INDENT = "    "
_PLAIN = re.compile(r"[!#-&(-<>-\[\]-~]+")
"""Printable ASCII without spaces, quotes, backslashes and equals signs."""
_CHAIN_MAX = 10
"""Exceptions of one trace: a cause of a cause, and the members of groups."""
_FRAMES_MAX = 30
"""Calls of each that are shown, the innermost."""

_encode = msgspec.json.Encoder(enc_hook=str).encode

request_id_of_task: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the running task answers; in every line that is logged meanwhile."""


class Event(logging.LogRecord):
    """A record that is made of its fields alone, for what is logged of every request.

    `logging` finds out a dozen things about each of its own records that no line here shows; that
    was a sixth of what a small post cost. Give it to `Logger.handle`, where `isEnabledFor`. Its
    fields are written as they are, at the end of the turn: they hold the request's id, no None and
    no token.
    """

    def __init__(
        self, logger: str, level: int, event: str, created_ms: int, fields: dict[str, Any]
    ) -> None:
        # All else is as in a record of nothing: other people's handlers look for it.
        self.__dict__.update(NOTHING)
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
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII alone: to some readers U+2028 and U+0085 end a line as well.
        try:
            text = _encode(line).decode("ascii")
        except UnicodeError:
            text = json.dumps(line, default=str)
        # The one letter that no encoder escapes and no terminal prints.
        return text if "\x7f" not in text else text.replace("\x7f", "\\u007f")


class HumanFormatter(logging.Formatter):
    """Time, level, event, then `name=value` for each field; an exception's trace indented below."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [
            _timestamp(record)[11:23],
            f"{record.levelname.lower():8}",
            _escaped(record.getMessage()),
            *(f"{_value(name)}={_value(value)}" for name, value in fields_of(record).items()),
        ]
        lines = [" ".join(parts)]
        if record.exc_info and record.exc_info[1] is not None:
            lines += (_INDENT + _escaped(line) for line in _trace(record.exc_info[1]))
        return "\n".join(lines)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The values of an event, by name; with the id of the request that is answered."""
    if isinstance(record, Event):
        return record.fields
    fields = {name: value for name, value in _extra(record).items() if value is not None}
    request_id = request_id_of_task.get()
    if request_id is not None:
        fields.setdefault("request_id", request_id)
    return fields


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`: it stands among the record's own attributes."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _trace(error: BaseException) -> Iterator[str]:
    """The lines of a trace, not yet escaped: the newlines of a message are still in its line.

    `traceback` puts messages and calls together as text, in which they can no longer be told apart.
    """
    waiting: list[tuple[str, BaseException]] = [("", error)]
    seen: set[int] = set()
    while waiting:
        lead, error = waiting.pop(0)
        if id(error) in seen:
            continue
        if len(seen) == _CHAIN_MAX:
            yield "... and more exceptions"
            return
        seen.add(id(error))
        yield f"{lead}{type(error).__module__}.{type(error).__qualname__}: {_told(error)}"
        for note in getattr(error, "__notes__", ()):
            yield f"  {note}"
        frames = traceback.extract_tb(error.__traceback__)
        if len(frames) > _FRAMES_MAX:
            yield f"  ... {len(frames) - _FRAMES_MAX} calls left out"
        for frame in frames[-_FRAMES_MAX:]:
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
        if error.__cause__ is not None:
            waiting.append(("caused by ", error.__cause__))
        elif error.__context__ is not None and not error.__suppress_context__:
            waiting.append(("while handling ", error.__context__))
        if isinstance(error, BaseExceptionGroup):
            waiting += (("one of them: ", member) for member in error.exceptions)


def _told(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be made)"


def _escaped(text: str) -> str:
    """Printable ASCII, in one line; spaces stay."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _value(value: object) -> str:
    """As it is, or else as a literal of Python, where it could be taken for something else."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else ascii(text)


def _timestamp(record: logging.LogRecord) -> str:
    return _moment(int(record.created * 1000))


@lru_cache(maxsize=2)
def _moment(epoch_ms: int) -> str:
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
