"""Reading records: the same whatever the pieces in which they come, and strict about the frame."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.client import records
from flowtally.client.records import read_records
from flowtally.errors import InvalidInput
from flowtally.wire.media import BodyFormat

JSON, NDJSON = BodyFormat.JSON, BodyFormat.NDJSON


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, piece_bytes: int) -> None:
        super().__init__(data)
        self._piece_bytes = piece_bytes

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._piece_bytes)


def read(data: bytes, form: BodyFormat | None = None, **options: bool) -> list[bytes]:
    return list(read_records(io.BytesIO(data), form, **options)[1])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(values, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_an_array_comes_apart_into_its_elements(
    elements: list[Any], piece_bytes: int, indent: int | None, as_ascii: bool
) -> None:
    body = json.dumps(elements, indent=indent, ensure_ascii=as_ascii)
    data = f"\n {body}\r\n ".encode(errors="surrogatepass")
    form, found = read_records(Dripping(data, piece_bytes))
    assert form is JSON
    assert [json.loads(one) for one in found] == elements


@given(st.lists(values, max_size=6), st.integers(1, 40))
def test_lines_come_apart_into_records(elements: list[Any], piece_bytes: int) -> None:
    lines = [json.dumps({"x": one}).encode() for one in elements]
    data = b"\r\n\n".join(lines)
    form, found = read_records(Dripping(data, piece_bytes))
    assert form is NDJSON
    assert list(found) == lines


def test_records_are_handed_on_as_they_stand() -> None:
    assert read(b'[ {"a" : 1.0,"a":2} ,\n"x",-0]') == [b'{"a" : 1.0,"a":2}', b'"x"', b"-0"]
    assert read(b' {"a":1},{"a":2} \n garbage') == [b'{"a":1},{"a":2}', b"garbage"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"[1 2]", "after record 1 comes neither a comma nor the end"),
        (b"[1,]", "record 2 is not valid JSON"),
        (b"[,1]", "record 1 is not valid JSON"),
        (b"[1", "record 1 is not valid JSON, or the array is cut off"),
        (b"[1,", "record 2 is not valid JSON, or the array is cut off"),
        (b"[", "record 1 is not valid JSON, or the array is cut off"),
        (b"[{]", "record 1 is not valid JSON, or the array is cut off"),
        (b"[1]x", "there is text after the end"),
        (b"[1]   \n  ]", "there is text after the end"),
        (b'["\xff"]', "the input is not UTF-8"),
        (b'["\xc3', "the input is not UTF-8"),
        (b"[" * 100_000, "record 1 is nested too deep"),
        (b"[" + b'{"a":' + b"1" * 5_000_000 + b"}]", "record 1 is not valid JSON, or too large"),
        (b" " * 2_000_000, "the input begins with more than"),
        (b"x" * 2_000_000, "line 1 has more than"),
    ],
)
def test_a_frame_that_is_broken(data: bytes, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        read(data)


def test_the_records_before_a_fault_are_handed_on() -> None:
    _, found = read_records(io.BytesIO(b"[1,2,x]"))
    assert [next(found), next(found)] == [b"1", b"2"]
    with pytest.raises(InvalidInput, match="record 3"):
        next(found)


def test_the_form_can_be_told() -> None:
    with pytest.raises(InvalidInput, match="not a JSON array"):
        read(b'{"a":1}', JSON)
    assert read(b"[1,2]\n[3]", NDJSON) == [b"[1,2]", b"[3]"]


def test_a_line_that_is_still_being_written_can_be_left() -> None:
    data = b'{"a":1}\n{"a":2'
    assert read(data) == [b'{"a":1}', b'{"a":2']
    assert read(data, ended_lines_only=True) == [b'{"a":1}']


@pytest.mark.parametrize("data", [b"", b" \n\n", b"[]", b" [ ] \n"])
def test_nothing_is_in_it(data: bytes) -> None:
    assert read(data) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window holds one piece and what is left of the last one, however long the array is."""
    monkeypatch.setattr(records, "_READ_BYTES", 1000)
    windows = []
    decoded = records._Text._read

    def spied(self: Any) -> bool:
        found = decoded(self)
        windows.append(len(self._text))
        return found

    monkeypatch.setattr(records._Text, "_read", spied)
    assert len(read(b"[" + b",".join([b'{"a":"0123456789"}'] * 5000) + b"]")) == 5000
    assert len(windows) > 90
    assert max(windows) < 1050
