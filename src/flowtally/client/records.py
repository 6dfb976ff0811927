"""Reads records from a file or a stream: NDJSON line by line, or one JSON array piece by piece.

Records are handed on as they stand: whether they are valid is for the service to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from flowtally.errors import InvalidInput

_READ_BYTES = 256 * 1024
_RECORD_BYTES_MAX = 1024 * 1024
_SPACE = " \t\r\n"


def read_records(stream: BinaryIO, form: str = "auto") -> Iterator[bytes]:
    """The records of a stream, one after the other. `form` is auto, json or ndjson.

    Raises `InvalidInput` naming the line or the record.
    """
    first = _peek(stream)
    if form == "json" or (form == "auto" and first.lstrip()[:1] == b"["):
        yield from _array(first, stream)
    else:
        yield from _lines(first, stream)


def _peek(stream: BinaryIO) -> bytes:
    first = b""
    while not first.strip():
        chunk = stream.read(_READ_BYTES)
        if not chunk:
            break
        first += chunk
    return first


def _lines(first: bytes, stream: BinaryIO) -> Iterator[bytes]:
    rest = first
    number = 0
    while rest:
        *whole, rest = rest.split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield line.strip()
        if len(rest) > _RECORD_BYTES_MAX:
            raise InvalidInput(
                f"line {number + 1} has more than {_RECORD_BYTES_MAX} bytes"
            )
        chunk = stream.read(_READ_BYTES)
        if not chunk:
            if rest.strip():
                yield rest.strip()
            return
        rest += chunk


def _array(first: bytes, stream: BinaryIO) -> Iterator[bytes]:
    """Takes one element after the other off the front of what has been read so far."""
    decoder = json.JSONDecoder()
    text, pending = _decoded_part(first)
    text = text.lstrip(_SPACE)[1:]
    number = 0
    while True:
        text = text.lstrip(_SPACE)
        if number and text.startswith(","):
            text = text[1:].lstrip(_SPACE)
        if text.startswith("]"):
            if text[1:].strip(_SPACE) or stream.read(1).strip():
                raise InvalidInput("there is text after the end of the array")
            return
        try:
            _, end = decoder.raw_decode(text)
        except ValueError:
            end = 0
        if end and end < len(text):
            yield text[:end].encode()
            number += 1
            text = text[end:]
            continue
        chunk = stream.read(_READ_BYTES)
        if not chunk:
            raise InvalidInput(
                f"record {number} is not valid JSON, or the array is cut off"
            )
        if len(text) > _RECORD_BYTES_MAX:
            raise InvalidInput(f"record {number} is not valid JSON")
        pending += chunk
        decoded, pending = _decoded_part(pending)
        text += decoded


def _decoded_part(data: bytes) -> tuple[str, bytes]:
    """As much as is whole, and what may be the beginning of a character."""
    for cut in range(4):
        try:
            return data[: len(data) - cut].decode(), data[len(data) - cut :]
        except UnicodeDecodeError:
            continue
    raise InvalidInput("the input is not UTF-8")
