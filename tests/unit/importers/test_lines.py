"""Lines of log files: plain or gzip, whole or named as damaged."""

from __future__ import annotations

import gzip
import io
import os

import pytest

from flowtally.errors import InvalidInput
from flowtally.importers.lines import lines_of

TEXT = b"one\r\ntwo\n\nfour"
LINES = [b"one", b"two", b"", b"four"]


def opened(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TEXT, id="plain"),
        pytest.param(gzip.compress(TEXT), id="gzip"),
        pytest.param(gzip.compress(TEXT[:5]) + gzip.compress(TEXT[5:]), id="members"),
    ],
)
def test_what_is_in_it(data: bytes) -> None:
    stream = opened(data)
    assert list(lines_of(stream, "x")) == LINES
    assert not stream.closed


@pytest.mark.parametrize("data", [b"", gzip.compress(b"")], ids=["nothing", "gzip"])
def test_nothing_is_in_it(data: bytes) -> None:
    assert list(lines_of(opened(data), "x")) == []


def test_a_pipe_is_read_as_well() -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as sink:
        sink.write(gzip.compress(TEXT))
    with open(reading, "rb") as stream:
        assert list(lines_of(stream, "-")) == LINES


def test_damaged_gzip_is_named() -> None:
    whole = gzip.compress(b"".join(b"%d\n" % number for number in range(10_000)))
    for data in (whole[:-20], whole[:500] + b"\0" * 50 + whole[550:], whole + b"garbage"):
        with pytest.raises(InvalidInput, match=r"^x: damaged gzip after line "):
            list(lines_of(opened(data), "x"))


def test_a_line_without_end_is_not_taken_into_memory() -> None:
    bomb = gzip.compress(b"ok\n" + b"0" * 1_000_000)
    with pytest.raises(InvalidInput, match=r"^x:2: more than 65536 bytes in a line"):
        list(lines_of(opened(bomb), "x"))
