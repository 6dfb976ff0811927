"""Log lines: whole, and not to be forged."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from flowtally.observe.logs import HumanFormatter, JsonFormatter, request_id_of_task, set_up

EVIL = 'a\nb\r\x00\x1b[31m\x85\u2028"{}\u202e \ud800é'


def made(message: str = "event", **fields: object) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "flowtally.test", "levelname": "INFO", "msg": message, "created": 0.25}
    )
    vars(record).update(fields)
    return record


def test_a_json_line() -> None:
    assert json.loads(JsonFormatter().format(made(count=3, nothing=None))) == {
        "ts": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "logger": "flowtally.test",
        "event": "event",
        "count": 3,
    }


def test_a_line_for_a_person() -> None:
    text = HumanFormatter().format(made(count=3, name_of_app="a b"))
    assert text == "00:00:00.250 info     event count=3 name_of_app='a b'"


@pytest.mark.parametrize("formatter", [JsonFormatter(), HumanFormatter()])
def test_a_hostile_value_stays_within_its_line(formatter: logging.Formatter) -> None:
    text = formatter.format(made(value=EVIL))
    assert len(text.splitlines()) == 1
    assert text.isascii() and text.isprintable()


def test_a_hostile_value_can_be_read_back() -> None:
    assert json.loads(JsonFormatter().format(made(value=EVIL)))["value"] == EVIL


def test_a_value_that_json_does_not_know_is_written_as_text() -> None:
    assert (
        json.loads(JsonFormatter().format(made(path=io.UnsupportedOperation("x"))))["path"] == "x"
    )


@pytest.mark.parametrize("formatter", [JsonFormatter(), HumanFormatter()])
def test_an_exception_is_shown(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        record = made(exc_info=(ValueError, error, error.__traceback__))
    assert "ValueError: why" in formatter.format(record)


def test_the_request_is_named() -> None:
    token = request_id_of_task.set("req-1")
    try:
        line = json.loads(JsonFormatter().format(made()))
    finally:
        request_id_of_task.reset(token)
    assert line["request_id"] == "req-1"
    assert "request_id" not in json.loads(JsonFormatter().format(made()))


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


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
