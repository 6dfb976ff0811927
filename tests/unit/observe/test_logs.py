"""Where lines go, which are held back, and what is counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from flowtally import limits
from flowtally.access.tokens import new_token
from flowtally.clock import ManualClock
from flowtally.observe.log_levels import apply_levels
from flowtally.observe.log_lines import request_id_of_task
from flowtally.observe.logs import TurnHandler, counts, set_up


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger; all is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    apply_levels("warning", {}, access_log=True)
    root.setLevel(level)


@pytest.mark.parametrize("form", ["json", "human"])
def test_a_token_is_in_no_line(root: logging.Logger, form: str) -> None:
    stream, token = io.StringIO(), new_token()
    set_up(form, "debug", stream)
    log = logging.getLogger("flowtally.test")
    log.info("posted", extra={"batch_id": token, "path": f"/x?token={token}&y"})
    log.debug(f"Authorization: Bearer {token}")
    try:
        raise ValueError(f"no such key: {token}")
    except ValueError:
        log.exception("it failed")
    text = stream.getvalue()
    assert text.count("flt_***") >= 4
    assert token[4:] not in text


def test_set_up_twice_writes_once(root: logging.Logger) -> None:
    stream = io.StringIO()
    for _ in range(2):
        set_up("auto", "warning", stream)
    logging.getLogger("flowtally.test").info("too little")
    logging.getLogger("flowtally.test").warning("enough", extra={"count": 1})
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "enough"
    set_up("human", "info", stream)
    logging.getLogger("flowtally.test").info("for a person")
    assert stream.getvalue().endswith(" info     for a person\n")


class Recorder(io.StringIO):
    """Notes each piece as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[list[str]] = []

    def write(self, text: str) -> int:
        if text:
            self.pieces.append([json.loads(line)["event"] for line in text.splitlines()])
        return len(text)


def test_the_lines_of_a_turn_are_written_in_one_piece_and_in_order(root: logging.Logger) -> None:
    stream = Recorder()
    set_up("json", "info", stream)
    logger = logging.getLogger("flowtally.test")

    async def turns() -> None:
        logger.info("1")
        logger.info("2")
        await asyncio.sleep(0)
        assert stream.pieces == [["1", "2"]]
        logger.info("3")
        await asyncio.to_thread(logger.info, "4")
        logger.info("5")
        logger.error("6")
        assert [name for piece in stream.pieces for name in piece] == list("123456")
        logger.info("7")

    asyncio.run(turns())
    logging.shutdown([lambda: root.handlers[0]])
    assert stream.pieces[-1] == ["7"]
    logger.info("8")
    assert stream.pieces[-1] == ["8"]


def test_a_log_that_cannot_be_written_stops_nothing(root: logging.Logger) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    async def turn() -> None:
        logging.getLogger("flowtally.test").info("into the void")
        await asyncio.sleep(0)
        logging.getLogger("flowtally.test").error("into the void")

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        set_up("json", "info", stream)
        asyncio.run(turn())


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was written since the last time."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    stream.seek(0)
    stream.truncate()
    return lines


@dataclass
class Log:
    """A log that is set up, at a time that stands still."""

    stream: io.StringIO
    clock: ManualClock
    handler: TurnHandler

    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.stream)


@pytest.fixture
def log(root: logging.Logger) -> Log:
    stream, clock = io.StringIO(), ManualClock()
    return Log(stream, clock, set_up("json", "info", stream, clock=clock))


def test_what_repeats_is_held_back_and_told_once_the_interval_is_over(log: Log) -> None:
    logger = logging.getLogger("flowtally.test")
    before = counts.events["warning"], counts.suppressed
    for number in range(limits.LOG_REPEATS_MAX + 7):
        logger.warning("again", extra={"number": number})
    assert [line["number"] for line in log.lines()] == list(range(limits.LOG_REPEATS_MAX))
    log.handler.tell_repeats()
    assert log.lines() == []
    log.clock.advance_ms(int(limits.LOG_REPEATS_INTERVAL_S * 1000))
    log.handler.tell_repeats()
    [line] = log.lines()
    assert (line["event"], line["level"], line["logger"], line["repeated"]) == (
        "again",
        "warning",
        "flowtally.test",
        7,
    )
    logger.warning("again", extra={"number": -1})
    assert [line["number"] for line in log.lines()] == [-1]
    log.handler.tell_repeats(at_once=True)
    assert log.lines() == []
    assert counts.events["warning"] - before[0] == limits.LOG_REPEATS_MAX + 8
    assert counts.suppressed - before[1] == 7


def test_how_often_is_told_before_the_event_is_written_again(log: Log) -> None:
    logger = logging.getLogger("flowtally.test")
    for _ in range(limits.LOG_REPEATS_MAX + 1):
        logger.error("again")
    log.lines()
    log.clock.advance_ms(int(limits.LOG_REPEATS_INTERVAL_S * 1000))
    logger.error("again", extra={"number": 1})
    assert [line.get("repeated") or line["number"] for line in log.lines()] == [1, 1]


def test_another_event_is_not_held_back_with_one_that_repeats(log: Log) -> None:
    def fail(kind: type[Exception]) -> None:
        try:
            raise kind("why")
        except kind as error:
            logging.getLogger("flowtally.test").error("failed", exc_info=error)

    for _ in range(100):
        fail(ValueError)
    log.lines()
    fail(KeyError)
    logging.getLogger("flowtally.other").error("failed")
    logging.getLogger("flowtally.test").critical("failed")
    logging.getLogger("flowtally.test").error("failed otherwise")
    assert len(log.lines()) == 4


def test_what_is_no_trouble_is_never_held_back(log: Log) -> None:
    for _ in range(100):
        logging.getLogger("flowtally.test").info("fine")
    assert len(log.lines()) == 100


def test_the_requests_of_what_is_held_back_are_named(log: Log) -> None:
    for number in range(limits.LOG_REPEATS_MAX + 20):
        token = request_id_of_task.set(f"req-{number}")
        logging.getLogger("flowtally.test").error("again")
        request_id_of_task.reset(token)
    log.lines()
    token = request_id_of_task.set("another")
    log.handler.tell_repeats(at_once=True)
    request_id_of_task.reset(token)
    [line] = log.lines()
    assert line["request_ids"] == [
        f"req-{limits.LOG_REPEATS_MAX + number}" for number in range(limits.LOG_IDS_MAX)
    ]
    assert "request_id" not in line


def test_the_table_of_what_repeats_has_a_bound_and_loses_no_count(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_KINDS_MAX", 3)
    logger = logging.getLogger("flowtally.test")
    for _ in range(limits.LOG_REPEATS_MAX + 4):
        logger.error("again")
    log.lines()
    for number in range(3):
        logger.error(f"event {number}")
    assert [line.get("repeated") for line in log.lines()] == [None, None, 4, None]


def test_threads_lose_no_event(log: Log) -> None:
    before = counts.events["error"], counts.suppressed

    def shout() -> None:
        for _ in range(500):
            logging.getLogger("flowtally.test").error("again")

    threads = [threading.Thread(target=shout) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.handler.tell_repeats(at_once=True)
    *written, last = log.lines()
    assert len(written) == limits.LOG_REPEATS_MAX
    assert len(written) + last["repeated"] == 2000
    assert counts.events["error"] - before[0] == 2000
    assert counts.suppressed - before[1] == last["repeated"]


def test_what_cannot_be_written_is_told_in_a_line_of_its_own(log: Log) -> None:
    class Evil:
        def __str__(self) -> str:
            raise ValueError("\nforged")

    logging.getLogger("flowtally.test").info("event", extra={"value": Evil()})
    assert [(line["event"], line["of"]) for line in log.lines()] == [
        ("an event could not be written", "flowtally.test (ValueError)"),
    ]


def test_other_settings_are_taken_on_while_it_runs(log: Log) -> None:
    journal = logging.getLogger("flowtally.ingest.journal")
    applier = logging.getLogger("flowtally.stores.duckdb.applier")
    access = logging.getLogger("flowtally.access")

    def heard() -> list[str]:
        for logger in (journal, applier, access):
            logger.debug(f"{logger.name} debug")
            logger.info(f"{logger.name} info")
            logger.critical(f"{logger.name} critical")
        found = [line["event"].rpartition(".")[2] for line in log.lines()]
        log.handler.tell_repeats(at_once=True)
        return found

    everything = [
        f"{name} {level}"
        for name in ("journal", "applier", "access")
        for level in ("debug", "info", "critical")
    ]
    log.handler.configure("json", "debug", {}, access_log=True)
    assert heard() == everything
    log.handler.configure("json", "debug", {"journal": "info", "applier": "error"}, False)
    assert heard() == ["journal info", "journal critical", "applier critical"]
    log.handler.configure("json", "error", {"journal": "debug", "access": "info"}, True)
    assert heard() == [
        *everything[:3],
        "applier critical",
        "access info",
        "access critical",
    ]
    log.handler.configure("human", "info", {"journal": "off"}, True)
    journal.critical("silence")
    access.info("for a person")
    assert log.stream.getvalue().endswith(" info     for a person\n")
    assert "silence" not in log.stream.getvalue()
