"""JSON and NDJSON bodies into tallies: strict, and as fast as Python allows.

msgspec reads and checks the records; a loop sums them. One number then proves that nothing was
overlooked: each record has its six fields, and a body with exactly six colons per record has no
room for a repeated field, an unknown one, or one that nests. If there are more, or anything was
refused, `close_look` reads each record by itself: it owns the rules and names every fault.

Integers may be written `-0`, which is the integer 0. Insignificant white space is that of RFC 8259.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge
from flowtally.model import Tally
from flowtally.wire.fields import RECORD_FIELDS
from flowtally.wire.rules import REPEATED, Faults, NotAnInteger, name_fault, shown

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
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])

_COMMAS_PER_RECORD_MAX = 8
"""A refused body with more commas than this per permitted record is not looked at closely: only
its first fault is named, because listing them would cost more than the body may."""
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS_MAX = 20


def decode_array(body: bytes, records_max: int) -> tuple[Tally, int]:
    """The tally of a JSON array of records, and how many they were."""
    _require_utf8(body)
    try:
        records = _array.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(error, body, records_max, _elements) from error
    _require_count(len(records), records_max)
    tally = sum_records(records)
    if tally is None or body.count(b":") != len(RECORD_FIELDS) * len(records):
        close_look(_elements(body))
        tally = sum_records(records, names_known_good=True)
    assert tally is not None
    return tally, len(records)


def decode_lines(body: bytes, records_max: int) -> tuple[Tally, int]:
    """The tally of NDJSON: one record a line, the last newline optional, no empty line."""
    _require_utf8(body)
    if body.lstrip(b" \t\r\n").startswith(b"["):
        raise InvalidInput(
            "the body is a JSON array, not NDJSON: send it as application/json"
        )
    lines = body.count(b"\n") + (not body.endswith(b"\n")) if body else 0
    _require_count(lines, records_max)
    try:
        records = _record.decode_lines(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(error, body, records_max, _lines) from error
    tally = sum_records(records)
    if (
        tally is None
        or len(records) != lines
        or body.count(b":") != len(RECORD_FIELDS) * len(records)
    ):
        close_look(_lines(body))
        tally = sum_records(records, names_known_good=True)
    assert tally is not None
    return tally, len(records)


def sum_records(
    records: Iterable[Record], names_known_good: bool = False
) -> Tally | None:
    """The tally of records, or None where a name breaks a rule that msgspec does not know.

    The loop that every record passes: a dict and a list, nothing else.
    """
    rows: dict[tuple[str, str, str, int], list[int]] = {}
    find = rows.get
    for record in records:
        flow = (record.src_app, record.dest_app, record.vpc_id, record.hour)
        row = find(flow)
        if row is None:
            rows[flow] = [record.bytes_rx, record.bytes_tx, 1]
        else:
            row[0] += record.bytes_rx
            row[1] += record.bytes_tx
            row[2] += 1
    if not names_known_good:
        names = {name for flow in rows for name in flow[:3]}
        if any(map(name_fault, names)):
            return None
    return Tally(rows)


def close_look(texts: Sequence[bytes | msgspec.Raw]) -> None:
    """Reads each record by itself and raises `InvalidRecords` naming all that is wrong, if any is."""
    faults = Faults()
    for index, text in enumerate(texts):
        _look_at(index, bytes(text), faults)
    if faults.total:
        raise faults.error()


def _look_at(index: int, text: bytes, faults: Faults) -> None:
    if not text.strip():
        faults.add(f"/{index}", "is empty")
        return
    try:
        record = json.loads(
            text,
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=NotAnInteger,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        faults.add(f"/{index}", f"nests deeper than {limits.UNKNOWN_DEPTH_MAX}")
        return
    except ValueError as error:
        faults.add(f"/{index}", f"is not valid JSON: {error}")
        return
    if not isinstance(record, dict):
        faults.add(f"/{index}", f"must be an object, not {shown(record)}")
        return
    faults.add_record(index, record)
    for field, value in record.items():
        if field not in RECORD_FIELDS and _depth(value) > limits.UNKNOWN_DEPTH_MAX:
            faults.add(
                f"/{index}",
                f"has a field that nests deeper than {limits.UNKNOWN_DEPTH_MAX}",
            )


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                members[name] = REPEATED
            seen.add(name)
    return members


def _integer(text: str) -> int | NotAnInteger:
    return int(text) if len(text) <= _DIGITS_MAX else NotAnInteger(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _depth(value: object) -> int:
    """How deep a value nests: a number is 0 deep, an empty array 1."""
    depth = 0
    level = [value]
    while True:
        inner: list[object] = []
        found = False
        for one in level:
            if isinstance(one, (list, dict)):
                found = True
                inner.extend(one.values() if isinstance(one, dict) else one)
        if not found:
            return depth
        depth += 1
        level = inner


def _elements(body: bytes) -> Sequence[msgspec.Raw]:
    return _raw_array.decode(body)


def _lines(body: bytes) -> Sequence[bytes]:
    return body.removesuffix(b"\n").split(b"\n") if body else []


def _require_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"the body is not valid UTF-8 at byte {error.start}"
        ) from error


def _require_count(records: int, records_max: int) -> None:
    if records > records_max:
        raise TooLarge(f"the batch has {records} records, and may have {records_max}")


def _refusal(
    error: Exception, body: bytes, records_max: int, texts_of: Any
) -> InvalidInput:
    """Why a body was refused: every bad record, if it can be taken apart, else the first fault."""
    start = body.lstrip(b" \t\r\n")[:1]
    if texts_of is _elements and start == b"{":
        return InvalidInput(
            "the body is a single object: send an array of records, [{...}], or NDJSON with"
            " Content-Type application/x-ndjson"
        )
    if texts_of is _elements and start != b"[" and start:
        return InvalidInput(f"the body must be a JSON array of records; {error}")
    if body.count(b",") > _COMMAS_PER_RECORD_MAX * records_max:
        return InvalidInput(f"the body was refused: {error}")
    try:
        texts = texts_of(body)
        _require_count(len(texts), records_max)
        close_look(texts)
    except InvalidInput as refusal:
        return refusal
    except (msgspec.DecodeError, RecursionError) as malformed:
        error = malformed
    if isinstance(error, RecursionError):
        return InvalidInput(f"the body nests deeper than {limits.UNKNOWN_DEPTH_MAX}")
    if _HALF_PAIR.search(body):
        return InvalidInput("the body holds half of a surrogate pair, or is cut off")
    return InvalidInput(
        f"the body is not valid JSON: {error}" if body else "the body is empty"
    )
