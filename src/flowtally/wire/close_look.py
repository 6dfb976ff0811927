"""The second, slow reader of JSON and NDJSON: it owns the rules and names every fault.

`json_records` asks it whenever its own quick proof does not hold: because something is wrong, or
because a body has unknown fields or escapes in which something could hide. It reads each record by
itself with the standard library's reader, made strict, so that the two readers share no code; what
it accepts it sums itself. A body with too many values for that is refused instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge
from flowtally.model import Tally
from flowtally.wire.fields import RECORD_FIELDS
from flowtally.wire.rules import REPEATED, Faults, NotAnInteger, shown

_WHITE_SPACE = b" \t\r\n"
_DIGITS_MAX = 20
"""More digits are out of every range; turning 10^5 of them into an integer would take long."""
_HALF_PAIR = re.compile(
    r"(?:[^\\]++|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\(?!u[dD][89a-fA-F]).)*+"
    r"(?P<half>\\u[dD][89a-fA-F])",
    re.DOTALL,
)
"""Matches up to the first half of a surrogate pair, whole pairs and other escapes passed over. One
match without going back, because a body may hold millions of escapes."""

_raw_array = msgspec.json.Decoder(list[msgspec.Raw])


def is_too_much(body: bytes, records_max: int) -> bool:
    """Whether a body could have more values and escapes than are looked at closely: each can cost
    a Python object. There are no more than these marks, and one."""
    marks = sum(map(body.count, (b",", b"[", b"{", b"\\")))
    return marks > limits.CLOSE_LOOK_MARKS_PER_RECORD_MAX * records_max


def read_array(body: bytes, records_max: int) -> tuple[Tally, int]:
    """The tally of a JSON array and its records' number, or the refusal that names every fault."""
    start = body.lstrip(_WHITE_SPACE)[:1]
    if not start:
        raise InvalidInput("the body is empty: a batch of no records is []")
    if start == b"{":
        raise InvalidInput(
            "the body is a single object: send an array of records, [{...}], or NDJSON with"
            " Content-Type application/x-ndjson"
        )
    try:
        texts = _raw_array.decode(body)
    except RecursionError:
        raise InvalidInput(_too_deep("the body")) from None
    except msgspec.ValidationError:
        raise InvalidInput("the body must be a JSON array of records") from None
    except msgspec.DecodeError as error:
        raise InvalidInput(_malformed(body, error)) from error
    return _read(texts, records_max)


def read_lines(body: bytes, records_max: int) -> tuple[Tally, int]:
    """The tally of NDJSON and its records' number, or the refusal that names every fault."""
    if body.lstrip(_WHITE_SPACE).startswith(b"["):
        raise InvalidInput("the body is a JSON array, not NDJSON: send it as application/json")
    return _read(body.removesuffix(b"\n").split(b"\n") if body else [], records_max)


def require_count(records: int, records_max: int) -> None:
    """Raises `TooLarge` where a batch has too many records."""
    if records > records_max:
        raise TooLarge(f"the batch has {records} records, and may have {records_max}")


def _read(texts: Sequence[bytes | msgspec.Raw], records_max: int) -> tuple[Tally, int]:
    require_count(len(texts), records_max)
    faults = Faults()
    read = [_record(index, bytes(text).decode(), faults) for index, text in enumerate(texts)]
    faults.raise_if_any()
    tally = Tally()
    for src_app, dest_app, vpc_id, hour, bytes_rx, bytes_tx in read:
        tally.add((src_app, dest_app, vpc_id, hour), bytes_rx, bytes_tx)
    return tally, len(texts)


def _record(index: int, text: str, faults: Faults) -> tuple[Any, ...]:
    """The values of one record in the order of their fields; whatever is wrong goes to `faults`."""
    pointer = f"/{index}"
    if not text.strip(" \t\r\n"):
        faults.add(pointer, "is empty")
        return ()
    try:
        record = _decoder.decode(text)
    except RecursionError:
        faults.add(pointer, _too_deep("it").removeprefix("it "))
        return ()
    except json.JSONDecodeError as error:
        faults.add(pointer, f"is not valid JSON: {error.msg} (character {error.pos})")
        return ()
    except ValueError as error:
        faults.add(pointer, f"is not valid JSON: {error}")
        return ()
    if not isinstance(record, dict):
        faults.add(pointer, f"must be an object, not {shown(record)}")
        return ()
    faults.add_record(index, record)
    if len(record) > len(RECORD_FIELDS):
        _look_at_unknown(pointer, text, record, faults)
    return tuple(map(record.get, RECORD_FIELDS))


def _look_at_unknown(pointer: str, text: str, record: dict[str, Any], faults: Faults) -> None:
    """Unknown fields are ignored, but must be JSON of a bounded depth, and text."""
    unknown = [value for field, value in record.items() if field not in RECORD_FIELDS]
    if _depth(unknown) - 1 > limits.UNKNOWN_DEPTH_MAX:
        faults.add(pointer, _too_deep("an unknown field"))
    if "\\" in text and _HALF_PAIR.match(text):
        faults.add(pointer, "holds half of a surrogate pair, which is not valid UTF-8")


def _depth(value: object) -> int:
    """How deep a value nests: a number is 0 deep, an empty array 1."""
    depth = 0
    level = [value]
    while True:
        nesting = [one for one in level if isinstance(one, (list, dict))]
        if not nesting:
            return depth
        depth += 1
        level = [
            inner for one in nesting for inner in (one.values() if isinstance(one, dict) else one)
        ]


def _members(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    members: dict[Any, Any] = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for position, (name, value) in enumerate(pairs):
            if name in seen:
                members[name] = REPEATED
            seen.add(name)
            # All values are kept, under keys that no JSON has: each is looked at for its depth.
            members[name, position] = value
    return members


def _integer(text: str) -> int | NotAnInteger:
    # "-0" would be the integer 0 to some readers and the float -0.0 to others.
    return int(text) if len(text) <= _DIGITS_MAX and text != "-0" else NotAnInteger(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


_decoder = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=NotAnInteger,
    parse_constant=_refuse_constant,
)


def _too_deep(what: str) -> str:
    return f"{what} nests deeper than {limits.UNKNOWN_DEPTH_MAX}"


def _malformed(body: bytes, error: msgspec.DecodeError) -> str:
    text = body.decode()
    half = _HALF_PAIR.match(text)
    if half is not None:
        # msgspec says "truncated" of some of them.
        detail = f"half of a surrogate pair (byte {len(text[: half.start('half')].encode())})"
    elif "(byte " in str(error):
        detail = str(error).removeprefix("JSON is malformed: ")
    else:
        return f"the body is cut off: its JSON is not complete at byte {len(body)}"
    return f"the body is not valid JSON: {detail}"
