"""Log lines: whole, and not to be forged, whatever text is in them."""

from __future__ import annotations

import ast
import io
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.observe.log_lines import (
    Event,
    HumanFormatter,
    JsonFormatter,
    request_id_of_task,
)

EVIL = 'a\nb\r\x00\x1b[31m\x85\u2028"{}\u202e \ud800é'
TEXT = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(
    [
        EVIL,
        '\n{"event":"forged"}',
        "\n00:00:00.250 info     forged",
        "a=1 b=2",
        "",
        "'",
        "\\n",
        "%s",
    ]
)
"""Any text; half surrogate pairs as well, which a client can send in a JSON escape."""
BEGINS = re.compile(r"\d\d:\d\d:\d\d\.\d\d\d (debug|info|warning|error|critical) *\b")


def made(message: str = "event", **fields: object) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "flowtally.test", "levelname": "INFO", "msg": message, "created": 0.25}
    )
    vars(record).update(fields)
    return record


def raised(text: str, cause: str, note: str) -> Exception:
    """An exception with a trace, a cause with one of its own, and a note."""
    try:
        try:
            raise OSError(cause)
        except OSError as error:
            raise ValueError(text) from error
    except ValueError as error:
        error.add_note(note)
        return error


def whole(text: str) -> str:
    """Both halves of a surrogate pair are one letter to whoever reads JSON."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def test_a_json_line() -> None:
    assert json.loads(JsonFormatter().format(made(count=3, nothing=None))) == {
        "ts": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "logger": "flowtally.test",
        "event": "event",
        "count": 3,
    }


def test_a_line_for_a_person() -> None:
    text = HumanFormatter().format(made(count=3, name_of_app="a b", url="http://[::1]:80/a?b"))
    assert text == ("00:00:00.250 info     event count=3 name_of_app='a b' url=http://[::1]:80/a?b")


def test_a_trace_for_a_person() -> None:
    error = raised("why\nnot", "a disk", "seen")
    first, *rest = HumanFormatter().format(made(exc_info=(type(error), error, None))).split("\n")
    assert first == "00:00:00.250 info     event"
    here = re.escape(__file__)
    for line, pattern in zip(
        rest,
        [
            r"    builtins\.ValueError: why\\nnot",
            r"      seen",
            rf"      {here}:\d+ in raised: raise ValueError\(text\) from error",
            r"    caused by builtins\.OSError: a disk",
            rf"      {here}:\d+ in raised: raise OSError\(cause\)",
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line


def test_a_long_trace_is_cut() -> None:
    def deep(left: int) -> None:
        if not left:
            raise KeyError(left)
        deep(left - 1)

    def chained(left: int) -> None:
        try:
            if left:
                chained(left - 1)
        finally:
            raise ValueError(left)

    for fail, expected in ((deep, "      ... 72 calls left out"), (chained, "    ... and more")):
        with pytest.raises((KeyError, ValueError)) as caught:
            fail(100)
        record = made(exc_info=(caught.type, caught.value, caught.tb))
        lines = HumanFormatter().format(record).split("\n")
        assert any(line.startswith(expected) for line in lines), lines
        assert len(lines) < 50


def test_an_exception_group_is_shown() -> None:
    group = ExceptionGroup("both", [ValueError("one"), KeyError("two")])
    text = HumanFormatter().format(made(exc_info=(type(group), group, None)))
    assert "one of them: builtins.ValueError: one" in text
    assert "one of them: builtins.KeyError: 'two'" in text


@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
def test_no_text_begins_a_line_for_a_person(
    event: str, name: str, value: str, why: str, cause: str, request_id: str
) -> None:
    error = raised(why, cause, value)
    record = made(event, value=value, exc_info=(type(error), error, error.__traceback__))
    vars(record)[f"x{name}"] = name
    token = request_id_of_task.set(request_id)
    try:
        text = HumanFormatter().format(record)
    finally:
        request_id_of_task.reset(token)
    first, *rest = text.splitlines()
    assert text.split("\n") == [first, *rest]
    assert all(line.isascii() and line.isprintable() for line in (first, *rest))
    assert BEGINS.match(first)
    assert all(line.startswith("    ") for line in rest)
    assert not any(BEGINS.match(line) for line in rest)
    # As many frames, notes and exceptions as there are without any text in them.
    assert len(rest) == 5


@given(TEXT)
def test_a_value_for_a_person_can_be_read_back(value: str) -> None:
    text = HumanFormatter().format(made(value=value)).partition(" value=")[2]
    assert (ast.literal_eval(text) if text[0] in "'\"" else text) == value
    assert text[0] in "'\"" or not set(text) & set(" ='\"\\")


@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_every_text_is_in_its_json_line_and_can_be_read_back(
    event: str, value: str, why: str, cause: str, request_id: str
) -> None:
    error = raised(why, cause, value)
    record = made(event, value=value, list=[value], exc_info=(ValueError, error, None))
    token = request_id_of_task.set(request_id)
    try:
        line = JsonFormatter().format(record)
    finally:
        request_id_of_task.reset(token)
    assert line.isascii() and line.isprintable()
    found = json.loads(line)
    assert found["event"] == whole(event)
    assert (found["value"], found["list"]) == (whole(value), [whole(value)])
    assert found["request_id"] == whole(request_id)
    told = "ValueError" + f": {why}" * bool(why)
    assert found["exception"].endswith(whole(f"{told}\n{value}"))
    assert whole("OSError" + f": {cause}" * bool(cause)) in found["exception"]


@given(TEXT, TEXT)
def test_what_is_logged_of_every_request_is_as_safe(value: str, batch_id: str) -> None:
    record = Event("flowtally.access", logging.INFO, "request", 250, {"a": value, "b": batch_id})
    line = JsonFormatter().format(record)
    assert line.isascii() and line.isprintable()
    found = json.loads(line)
    assert (found["a"], found["b"]) == (whole(value), whole(batch_id))
    [text] = HumanFormatter().format(record).splitlines()
    assert text.isascii() and text.isprintable()


def test_a_value_that_json_does_not_know_is_written_as_text() -> None:
    assert (
        json.loads(JsonFormatter().format(made(path=io.UnsupportedOperation("x"))))["path"] == "x"
    )


def test_the_request_is_named() -> None:
    token = request_id_of_task.set("req-1")
    try:
        line = json.loads(JsonFormatter().format(made()))
        other = json.loads(JsonFormatter().format(made(request_id="req-2")))
    finally:
        request_id_of_task.reset(token)
    assert line["request_id"] == "req-1"
    assert other["request_id"] == "req-2"
    assert "request_id" not in json.loads(JsonFormatter().format(made()))
