"""JSON and NDJSON bodies into tallies: strict, and as fast as Python allows.

msgspec reads and checks the records, and what it skips; a loop sums them. What is left to prove is
that it overlooked nothing: of a repeated field it keeps the last, and it lets unknown fields nest
as they like. Counting proves it, in C, for nearly every body: each record accepted has six keys
and three strings, so a body with exactly 18 quotes per record has room for nothing else. Where no
count proves it, or anything was refused, `close_look` reads the body again and has the last word.

White space that means nothing is that of RFC 8259. An integer may not be written `-0`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Annotated

import msgspec

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge
from flowtally.model import Tally
from flowtally.wire import close_look
from flowtally.wire.fields import NAME_FIELDS, RECORD_FIELDS
from flowtally.wire.rules import names_are_good

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.NAME_BYTES_MAX)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=limits.RECORD_BYTES_VALUE_MAX)]
_Hour = Annotated[int, msgspec.Meta(ge=0, le=limits.HOUR_MAX)]


class Record(msgspec.Struct, gc=False):
    """One record, as it stands in a body."""

    src_app: _Name
    dest_app: _Name
    vpc_id: _Name
    hour: _Hour
    bytes_rx: _Bytes
    bytes_tx: _Bytes


_record = msgspec.json.Decoder(Record)
_array = msgspec.json.Decoder(list[Record])

_QUOTES_PER_RECORD = 2 * (len(RECORD_FIELDS) + len(NAME_FIELDS))
_KEYS = [f'"{field}"'.encode() for field in RECORD_FIELDS]
_BEFORE_A_NUMBER = (b":", b" ", b"\t", b"\r", b"\n")


def decode_array(body: bytes, records_max: int) -> tuple[Tally, int]:
    """The tally of a JSON array of records, and how many they were."""
    _require_text(body)
    try:
        records = _array.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(close_look.read_array, body, records_max, error) from error
    close_look.require_count(len(records), records_max)
    tally = _sum_if_proven(body, records, arrays=1)
    if tally is not None:
        return tally, len(records)
    return _look_closely(close_look.read_array, body, records_max)


def decode_lines(body: bytes, records_max: int) -> tuple[Tally, int]:
    """The tally of NDJSON: one record a line, the last newline optional, no empty line."""
    _require_text(body)
    lines = body.count(b"\n") + (not body.endswith(b"\n")) if body else 0
    close_look.require_count(lines, records_max)
    try:
        records = _record.decode_lines(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(close_look.read_lines, body, records_max, error) from error
    if len(records) == lines and _each_on_its_line(body, lines):
        tally = _sum_if_proven(body, records, arrays=0)
        if tally is not None:
            return tally, len(records)
    return _look_closely(close_look.read_lines, body, records_max)


def sum_records(records: Iterable[Record]) -> tuple[Tally, bool]:
    """The tally of records, and whether any of their integers is 0.

    The loop that every record passes: a dict and a list, nothing else.
    """
    rows: dict[tuple[str, str, str, int], list[int]] = {}
    find = rows.get
    zero = False
    for record in records:
        hour = record.hour
        bytes_rx = record.bytes_rx
        bytes_tx = record.bytes_tx
        flow = (record.src_app, record.dest_app, record.vpc_id, hour)
        row = find(flow)
        if row is None:
            rows[flow] = [bytes_rx, bytes_tx, 1]
        else:
            row[0] += bytes_rx
            row[1] += bytes_tx
            row[2] += 1
        if not (bytes_tx and bytes_rx and hour):
            zero = True
    return Tally(rows), zero


def names_of(tally: Tally) -> set[str]:
    """The distinct app names and vpc_ids of a tally."""
    # One pass in C over the flows, and then the few distinct hours are left out.
    distinct: set[str | int] = set(chain.from_iterable(tally.rows))
    return {name for name in distinct if isinstance(name, str)}


def _sum_if_proven(body: bytes, records: list[Record], arrays: int) -> Tally | None:
    """The tally of records, or None where it is not proven that they are all that the body says."""
    quotes = body.count(b'"')
    if quotes != _QUOTES_PER_RECORD * len(records) and not _has_flat_extras_only(
        body, len(records), arrays
    ):
        return None
    tally, zero = sum_records(records)
    if zero and _may_hold_minus(body):
        return None
    return tally if names_are_good(names_of(tally)) else None


def _has_flat_extras_only(body: bytes, records: int, arrays: int) -> bool:
    """Whether unknown fields do not nest, and each known one stands once in each record.

    Without a backslash every quote is a string's end and every key stands as it is. No record
    lacks a key, so as many keys as records leave none for a second one in the same record.
    """
    return (
        b"\\" not in body
        and body.count(b"{") == records
        and body.count(b"[") == arrays
        and all(body.count(key) == records for key in _KEYS)
    )


def _may_hold_minus(body: bytes) -> bool:
    """Whether a number could be written `-0`, which msgspec takes for the integer 0."""
    return any(before in body and before + b"-" in body for before in _BEFORE_A_NUMBER)


def _each_on_its_line(body: bytes, lines: int) -> bool:
    """Whether records that are as many as the lines stand one on each: msgspec takes any white
    space between and within them. A newline cannot be part of a string."""
    return lines < 2 or lines - 1 in (body.count(b"}\n{"), body.count(b"}\r\n{"))


def _look_closely(
    read: Callable[[bytes, int], tuple[Tally, int]], body: bytes, records_max: int
) -> tuple[Tally, int]:
    if close_look.is_too_much(body, records_max):
        raise TooLarge(
            "the unknown fields of the batch hold too many values: more than"
            f" {limits.CLOSE_LOOK_MARKS_PER_RECORD_MAX * records_max} commas, brackets and escapes"
        )
    return read(body, records_max)


def _refusal(
    read: Callable[[bytes, int], tuple[Tally, int]],
    body: bytes,
    records_max: int,
    error: Exception,
) -> InvalidInput:
    """Why a body was refused: every fault, or the first where listing all would cost too much."""
    if not close_look.is_too_much(body, records_max):
        try:
            read(body, records_max)
        except InvalidInput as refusal:
            return refusal
    if isinstance(error, RecursionError):
        return InvalidInput(f"the body nests deeper than {limits.UNKNOWN_DEPTH_MAX}")
    return InvalidInput(f"the body is refused: {error}")


def _require_text(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not valid UTF-8 at byte {error.start}") from error
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidInput("the body begins with a byte order mark; JSON has none")
