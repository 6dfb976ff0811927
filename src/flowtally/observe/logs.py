"""Where the log goes: standard error, the lines of one turn of the event loop in one piece.

Everything else logs through `logging.getLogger(__name__)` with `extra=`; how a line looks is
`log_lines.py`'s, what is held back because it repeats `log_repeats.py`'s, and which part logs from
which level on `log_levels.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import TextIO

from flowtally import limits
from flowtally.access.tokens import without_tokens
from flowtally.clock import Clock, SystemClock
from flowtally.observe.log_levels import apply_levels
from flowtally.observe.log_lines import Event, HumanFormatter, JsonFormatter
from flowtally.observe.log_repeats import Repeats


class LogCounts:
    """How many events were logged, by level, those held back among them; for the whole process."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.suppressed = 0
        self._lock = threading.Lock()

    def note(self, level: int, events: int = 1, suppressed: int = 0) -> None:
        """Notes events of a level, and how many of them were held back."""
        with self._lock:
            self.events[logging.getLevelName(level).lower()] += events
            self.suppressed += suppressed


counts = LogCounts()
"""`logging` is one for the whole process, and so are these."""


def set_up(
    log_format: str,
    log_level: str,
    stream: TextIO | None = None,
    *,
    levels: Mapping[str, str] | None = None,
    access_log: bool = True,
    clock: Clock | None = None,
) -> TurnHandler:
    """Sends everything that is logged to `stream` (standard error); may be called again."""
    handler = TurnHandler(stream or sys.stderr, clock or SystemClock())
    handler.configure(log_format, log_level, levels or {}, access_log)
    # What no line shows need not be found out for each of them: the Logging HOWTO, "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.getLogger().handlers[:] = [handler]
    return handler


class TurnHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop in one piece, and all others at once.

    A group of batches is answered in one turn. A write for each line would let go of the
    interpreter's lock as often, and each time wait until another thread gives it back: that was a
    third of what a small post cost.
    """

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        super().__init__(stream)
        # Added to without the lock: an `append` is whole, and `flush` takes from the other end.
        self._lines: deque[str | Event] = deque()
        self._repeats = Repeats(clock)

    def configure(
        self, log_format: str, log_level: str, levels: Mapping[str, str], access_log: bool
    ) -> None:
        """Takes on other settings; also while the service runs."""
        human = log_format == "human" or (log_format == "auto" and self.stream.isatty())
        self.setFormatter(HumanFormatter() if human else JsonFormatter())
        apply_levels(log_level, dict(levels), access_log)

    def handle(self, record: logging.LogRecord) -> bool:
        if isinstance(record, Event):
            self._take(record, record.levelno)
            return True
        admitted = True
        if record.levelno >= logging.WARNING:
            admitted, told = self._repeats.admit(record)
            self._write(told)
        counts.note(record.levelno, suppressed=0 if admitted else 1)
        return admitted and super().handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        # At once: its values may have changed by the end of the turn. Wherever a client put its
        # token, no line has it.
        self._take(without_tokens(self._line(record)), record.levelno)

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + self.terminator
        except Exception as error:
            # Whoever logs must not fail by it, and what `logging` would print instead is no line.
            lost = f"{record.name} ({type(error).__name__})"
            return self.format(_made("an event could not be written", lost)) + self.terminator

    def tell_repeats(self, at_once: bool = False) -> None:
        """Says how often events were held back in the intervals that are over; in all of them with
        `at_once`, when there is no later."""
        self._write(self._repeats.over(at_once))

    async def tell_repeats_regularly(self) -> None:
        """Does so until it is cancelled: an event that comes no more says nothing itself."""
        while True:
            await asyncio.sleep(limits.LOG_REPEATS_INTERVAL_S)
            self.tell_repeats()

    def _write(self, records: Iterable[logging.LogRecord]) -> None:
        for record in records:
            # Not in the name of the request that is answered meanwhile.
            Context().run(super().handle, record)

    def flush(self) -> None:
        """Writes what is there; called at exit as well."""
        self.acquire()
        try:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            texts = [line if isinstance(line, str) else self._line(line) for line in lines]
            counts.note(logging.INFO, sum(isinstance(line, Event) for line in lines))
            # A log that cannot be written, on a full disk or after its end was closed, is no reason
            # to serve nobody: nothing may come out of here into the event loop.
            with suppress(OSError, ValueError):
                self.stream.write("".join(texts))
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


def _made(event: str, of: str) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR", "msg": event, "of": of}
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
