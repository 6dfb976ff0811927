"""Log lines: whole, and not to be forged."""

from __future__ import annotations

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
