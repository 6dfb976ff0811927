"""Reads records from a file or a stream: NDJSON line by line, or one JSON array piece by piece.

Records are handed on as they stand: whether they are valid is for the service to say. Memory is
bounded by the longest record that is permitted, and one piece.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from flowtally.errors import InvalidInput
from flowtally.wire.media import BodyFormat

_READ_BYTES = 256 * 1024
_RECORD_BYTES_MAX = 1024 * 1024
_SPACE = " \t\r\n"


def read_records(
    stream: BinaryIO, form: BodyFormat | None = None, ended_lines_only: bool = False
) -> tuple[BodyFormat, Iterator[bytes]]:
    """The form of a stream (told by its first character where `form` is None), and its records.

    The iterator raises `InvalidInput` naming the line or the record. With `ended_lines_only` a last
    line that is not ended yet is left: somebody is still writing it.
    """
    first = _first_piece(stream)
    if form is None:
        form = BodyFormat.JSON if first.lstrip()[:1] == b"[" else BodyFormat.NDJSON
    if form is BodyFormat.JSON:
        return form, _elements(first, stream)
    return form, _lines(first, stream, ended_lines_only)


def _first_piece(stream: BinaryIO) -> bytes:
    """Up to the first that is not space, which tells the form."""
    first = b""
    while not first.strip():
        piece = stream.read(_READ_BYTES)
        if not piece:
            break
        first += piece
        if len(first) > _RECORD_BYTES_MAX and not first.strip():
            raise InvalidInput(f"the input begins with more than {_RECORD_BYTES_MAX} spaces")
    return first


def _lines(first: bytes, stream: BinaryIO, ended_lines_only: bool) -> Iterator[bytes]:
    rest = first
    number = 0
    while rest:
        *whole, rest = rest.split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield line.strip()
        if len(rest) > _RECORD_BYTES_MAX:
            raise InvalidInput(f"line {number + 1} has more than {_RECORD_BYTES_MAX} bytes")
        piece = stream.read(_READ_BYTES)
        if not piece:
            if rest.strip() and not ended_lines_only:
                yield rest.strip()
            return
        rest += piece


def _elements(first: bytes, stream: BinaryIO) -> Iterator[bytes]:
    """The elements of an array, each as it is written, one after the other."""
    text = _Text(first, stream)
    if text.next_character() != "[":
        raise InvalidInput("the input is not a JSON array of records")
    text.at += 1
    number = 0
    while True:
        character = text.next_character()
        if character == "]" and number == 0:
            break
        number += 1
        yield text.take_value(number).encode()
        character = text.next_character()
        if character == "]":
            break
        if character != ",":
            raise InvalidInput(f"after record {number} comes neither a comma nor the end")
        text.at += 1
    text.at += 1
    if text.next_character():
        raise InvalidInput("there is text after the end of the array")


class _Text:
    """A window on the stream's text: what has been read and not yet taken."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._stream = stream
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._decoder = json.JSONDecoder()
        self._text = self._decoded(first)
        self.at = 0

    def next_character(self) -> str:
        """The next that is not space, which is left there; nothing at the end."""
        while True:
            while self.at < len(self._text):
                if self._text[self.at] not in _SPACE:
                    return self._text[self.at]
                self.at += 1
            if not self._read():
                return ""

    def take_value(self, number: int) -> str:
        """The JSON value that begins here. Raises `InvalidInput` where there is none."""
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self.at)
            except RecursionError:
                raise InvalidInput(f"record {number} is nested too deep") from None
            except ValueError:
                end = 0
            # At the window's end a number may go on; and a value is always followed by something.
            if 0 < end < len(self._text):
                value = self._text[self.at : end]
                self.at = end
                return value
            if len(self._text) - self.at > _RECORD_BYTES_MAX:
                raise InvalidInput(f"record {number} is not valid JSON, or too large")
            if not self._read():
                raise InvalidInput(f"record {number} is not valid JSON, or the array is cut off")

    def _read(self) -> bool:
        piece = self._stream.read(_READ_BYTES)
        self._text = self._text[self.at :] + self._decoded(piece)
        self.at = 0
        return bool(piece)

    def _decoded(self, piece: bytes) -> str:
        try:
            return self._utf8.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise InvalidInput("the input is not UTF-8") from error
