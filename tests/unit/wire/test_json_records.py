"""Every rule of a posted body, valid beside invalid, in JSON and in NDJSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowtally.errors import InvalidInput, InvalidRecords, TooLarge
from flowtally.limits import ERRORS_LISTED_MAX, HOUR_MAX, RECORD_BYTES_VALUE_MAX
from flowtally.model import Tally
from flowtally.wire import close_look
from flowtally.wire.json_records import decode_array, decode_lines
from tests.unit.wire.bodies import array, expected, lines, record, text

RECORDS_MAX = 1_000

VALID_RECORDS = [
    pytest.param(text(), id="plain"),
    pytest.param(text(hour="0"), id="hour 0"),
    pytest.param(text(hour=str(HOUR_MAX)), id="hour largest"),
    pytest.param(text(bytes_rx="0", bytes_tx="0"), id="no bytes"),
    pytest.param(text(bytes_rx=str(RECORD_BYTES_VALUE_MAX)), id="bytes largest"),
    pytest.param(text(src_app='"' + "x" * 256 + '"'), id="256 bytes"),
    pytest.param(text(src_app='"' + "é" * 128 + '"'), id="256 bytes in 128 characters"),
    pytest.param(text(src_app='" a "'), id="spaces are kept"),
    pytest.param(text(src_app=r'"a\"b\\c\/d"'), id="escapes"),
    pytest.param(text(src_app=r'"\ud83d\ude00"'), id="a whole surrogate pair"),
    pytest.param(text(src_app='"\u00a0"'), id="no-break space is not a control character"),
    pytest.param(text(src_app='"../../etc"'), id="dots"),
    pytest.param(text(src_app='"<img onerror>"'), id="markup"),
    pytest.param(text(src_app='"svc:a-0,{[:-0 -0"'), id="looks like syntax"),
    pytest.param(text(src_app='"src_app"'), id="a name that is a field's"),
    pytest.param(text(src_app=r'"\"hour\":2"'), id="a name that looks like a field"),
    pytest.param(text().replace(",", " ,\t").replace(":", " :\r "), id="white space"),
    pytest.param(text().replace("src_app", r"\u0073rc_app"), id="escaped key"),
    pytest.param(text(new="1"), id="unknown integer"),
    pytest.param(text(new="-0"), id="unknown minus zero"),
    pytest.param(text(new="1e999"), id="unknown float out of range"),
    pytest.param(text(new="9" * 5_000), id="unknown huge integer"),
    pytest.param(text(new='{"src_app":1,"x":[null,true,1.5e-3]}'), id="unknown that nests"),
    pytest.param(text(new="[" * 16 + "]" * 16), id="unknown 16 deep"),
    pytest.param(text(new=r'"\u0000 \ud83d\ude00 \\ud800"'), id="unknown with escapes"),
]

INVALID_RECORDS = [
    pytest.param(text(bytes_rx="1.0"), "/0/bytes_rx", "must be an integer, not 1.0", id="1.0"),
    pytest.param(text(bytes_rx="1e3"), "/0/bytes_rx", "must be an integer, not 1e3", id="1e3"),
    pytest.param(text(bytes_rx="1e999"), "/0/bytes_rx", "must be an integer, not 1e999", id="inf"),
    pytest.param(text(bytes_rx='"1"'), "/0/bytes_rx", 'must be an integer, not "1"', id='"1"'),
    pytest.param(text(bytes_tx="true"), "/0/bytes_tx", "must be an integer, not true", id="true"),
    pytest.param(text(hour="null"), "/0/hour", "must be an integer, not null", id="null"),
    pytest.param(text(hour="[]"), "/0/hour", "must be an integer, not an array", id="array"),
    pytest.param(text(hour="-1"), "/0/hour", f"must be from 0 to {HOUR_MAX}, not -1", id="-1"),
    pytest.param(text(bytes_rx="-0"), "/0/bytes_rx", "must be an integer, not -0", id="-0"),
    pytest.param(text(hour=" -0"), "/0/hour", "must be an integer, not -0", id=" -0"),
    pytest.param(text(hour="\t-0"), "/0/hour", "must be an integer, not -0", id="tab -0"),
    pytest.param(
        text(hour=str(HOUR_MAX + 1)),
        "/0/hour",
        f"must be from 0 to {HOUR_MAX}, not {HOUR_MAX + 1}",
        id="hour too large",
    ),
    pytest.param(
        text(bytes_tx=str(RECORD_BYTES_VALUE_MAX + 1)),
        "/0/bytes_tx",
        f"must be from 0 to {RECORD_BYTES_VALUE_MAX}, not {RECORD_BYTES_VALUE_MAX + 1}",
        id="bytes too large",
    ),
    pytest.param(
        text(bytes_tx="9" * 100_000),
        "/0/bytes_tx",
        f"must be an integer, not {'9' * 40}...",
        id="100,000 digits",
    ),
    pytest.param(text(src_app='""'), "/0/src_app", "has 0 bytes, and must have 1 to 256", id="''"),
    pytest.param(
        text(src_app='"' + "x" * 257 + '"'),
        "/0/src_app",
        "has 257 bytes, and must have 1 to 256",
        id="257 bytes",
    ),
    pytest.param(
        text(src_app='"' + "é" * 129 + '"'),
        "/0/src_app",
        "has 258 bytes, and must have 1 to 256",
        id="258 bytes in 129 characters",
    ),
    pytest.param(text(vpc_id="7"), "/0/vpc_id", "must be a string, not 7", id="7 for a name"),
    pytest.param(text(vpc_id="{}"), "/0/vpc_id", "must be a string, not an object", id="object"),
    pytest.param(
        text(dest_app=r'"a\u0000"'),
        "/0/dest_app",
        "holds the control character U+0000",
        id="escaped NUL",
    ),
    pytest.param(
        text(dest_app='"\x7f"'), "/0/dest_app", "holds the control character U+007F", id="DEL"
    ),
    pytest.param(
        text(dest_app='"\x85"'), "/0/dest_app", "holds the control character U+0085", id="C1"
    ),
    pytest.param(
        text(dest_app=r'"\ud800"'),
        "/0/dest_app",
        "holds half of a surrogate pair, which is not valid UTF-8",
        id="half a surrogate pair",
    ),
    pytest.param(
        text(new=r'["\udc00"]'),
        "/0",
        "holds half of a surrogate pair, which is not valid UTF-8",
        id="half a pair in an unknown field",
    ),
    pytest.param(text().replace('"hour":1,', ""), "/0/hour", "is missing", id="missing field"),
    pytest.param(
        text().replace('"hour":1', '"hour":1,"hour":1'),
        "/0/hour",
        "occurs more than once",
        id="repeated field",
    ),
    pytest.param(
        text().replace('"hour":1', r'"hour":1,"\u0068our":1'),
        "/0/hour",
        "occurs more than once",
        id="repeated field, escaped",
    ),
    pytest.param(
        text(new="[" * 17 + "]" * 17), "/0", "an unknown field nests deeper than 16", id="17 deep"
    ),
    pytest.param(
        text(new="[" * 17 + "]" * 17)[:-1] + ',"new":1}',
        "/0",
        "an unknown field nests deeper than 16",
        id="17 deep, and then repeated",
    ),
    pytest.param(
        text(new='{"a":' + "[" * 16 + "]" * 16 + ',"a":1}'),
        "/0",
        "an unknown field nests deeper than 16",
        id="17 deep, and then repeated inside",
    ),
    pytest.param(
        text(new='{"a":' * 17 + "0" + "}" * 17),
        "/0",
        "an unknown field nests deeper than 16",
        id="17 objects deep",
    ),
    pytest.param("1", "/0", "must be an object, not 1", id="an integer"),
    pytest.param("null", "/0", "must be an object, not null", id="null for a record"),
    pytest.param("[]", "/0", "must be an object, not an array", id="an array in the array"),
]


@pytest.mark.parametrize("one", VALID_RECORDS)
def test_valid_records(one: str) -> None:
    # Python itself reads no integer of more than 4,300 digits.
    tally = expected([json.loads(one, parse_int=lambda digits: int(digits[:20])), record()])
    body = f"[{one},{text()}]".encode()
    assert decode_array(body, RECORDS_MAX) == (tally, 2)
    assert close_look.read_array(body, RECORDS_MAX) == (tally, 2)
    body = f"{one}\n{text()}\n".encode()
    assert decode_lines(body, RECORDS_MAX) == (tally, 2)
    assert close_look.read_lines(body, RECORDS_MAX) == (tally, 2)


@pytest.mark.parametrize(("one", "pointer", "detail"), INVALID_RECORDS)
def test_invalid_records_are_named(one: str, pointer: str, detail: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_array(f"[{one},{text()}]".encode(), RECORDS_MAX)
    _check_named(refused.value, pointer, detail)
    if not one.startswith("[") and "\n" not in one:
        with pytest.raises(InvalidInput) as refused:
            decode_lines(f"{one}\n{text()}\n".encode(), RECORDS_MAX)
        _check_named(refused.value, pointer, detail)


def _check_named(refusal: InvalidInput, pointer: str, detail: str) -> None:
    if not isinstance(refusal, InvalidRecords):
        # Half of a pair is not JSON to msgspec where it cannot even find the string's end.
        assert "half of a surrogate pair" in detail
        assert "surrogate" in str(refusal)
        return
    assert [(error.pointer, error.detail) for error in refusal.errors] == [(pointer, detail)]
    assert refusal.errors_total == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param(b"", "the body is empty: a batch of no records is []", id="empty"),
        pytest.param(b" \n", "the body is empty: a batch of no records is []", id="white space"),
        pytest.param(text().encode(), "the body is a single object: send an", id="one object"),
        pytest.param(b"7", "the body must be a JSON array of records", id="a number"),
        pytest.param(b"null", "the body must be a JSON array of records", id="null"),
        pytest.param(b"[", "the body is cut off: its JSON is not complete at byte 1", id="["),
        pytest.param(
            f"[{text()}".encode(),
            f"the body is cut off: its JSON is not complete at byte {len(text()) + 1}",
            id="cut off",
        ),
        pytest.param(b"[]x", "the body is not valid JSON: trailing characters", id="trailing text"),
        pytest.param(b"[][]", "the body is not valid JSON: trailing characters", id="two arrays"),
        pytest.param(
            f"[{text()},]".encode(),
            f"the body is not valid JSON: trailing comma in array (byte {len(text()) + 2})",
            id="trailing comma",
        ),
        pytest.param(
            f"[{text(hour='01')}]".encode(),
            "the body is not valid JSON: invalid number",
            id="leading zero",
        ),
        pytest.param(
            f"[{text(hour='+1')}]".encode(),
            "the body is not valid JSON: invalid character",
            id="plus",
        ),
        pytest.param(
            f"[{text(hour='NaN')}]".encode(),
            "the body is not valid JSON: invalid character",
            id="NaN",
        ),
        pytest.param(
            f"[{text(new='-Infinity')}]".encode(),
            "the body is not valid JSON: invalid character",
            id="unknown Infinity",
        ),
        pytest.param(
            "[{}]".format(text(src_app='"a\x01"')).encode(),
            "the body is not valid JSON: invalid character",
            id="raw control character",
        ),
        pytest.param(b"\xef\xbb\xbf[]", "the body begins with a byte order mark", id="BOM"),
        pytest.param(b"[]\0", "the body is not valid JSON: trailing characters", id="NUL"),
        pytest.param(b"[\xff]", "the body is not valid UTF-8 at byte 1", id="invalid UTF-8"),
        pytest.param(
            f"[{text(new='?')}]".encode().replace(b"?", b'"\xed\xa0\x80"'),
            "the body is not valid UTF-8 at byte",
            id="encoded surrogate in an unknown field",
        ),
        pytest.param("[]".encode("utf-16"), "the body is not valid UTF-8 at byte 0", id="UTF-16"),
        pytest.param(b"[" * 10_000, "the body nests deeper than 16", id="10,000 deep"),
        pytest.param(b"[" * 100_000, "the body is refused: Expected `object`", id="100,000 deep"),
        pytest.param(
            f"[{text(new='[' * 100_000 + ']' * 100_000)}]".encode(),
            "the body nests deeper than 16",
            id="unknown 100,000 deep",
        ),
    ],
)
def test_bodies_that_are_no_array_of_records(body: bytes, detail: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_array(body, RECORDS_MAX)
    assert str(refused.value).startswith(detail)
    assert not isinstance(refused.value, InvalidRecords)


@pytest.mark.parametrize(
    ("body", "records"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param(text(), 1, id="no last newline"),
        pytest.param(f"{text()}\r\n{text()}\r\n{text()}\r\n", 3, id="CRLF"),
        pytest.param(f" {text()}\t\n {text()} \n", 2, id="white space around"),
        pytest.param(f"{text()}\n{text()}\r\n{text()}", 3, id="mixed line ends"),
    ],
)
def test_lines_that_are_read(body: str, records: int) -> None:
    found = decode_lines(body.encode(), RECORDS_MAX)
    assert found == (expected([record()] * records), records)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param("\n", "/0 is empty", id="a newline only"),
        pytest.param(f"{text()}\n\n", "/1 is empty", id="an empty last line"),
        pytest.param(f"{text()}\n \n{text()}", "/1 is empty", id="an empty line within"),
        pytest.param(f"[{text()}]", "the body is a JSON array, not NDJSON", id="an array"),
        pytest.param(f"{text()}{text()}", "/0 is not valid JSON: Extra data", id="two on a line"),
        pytest.param(
            text().replace(",", ",\n", 1), "/0 is not valid JSON: Expecting", id="over two lines"
        ),
        pytest.param(
            text().replace(",", ",\n", 1) + text(),
            "/0 is not valid JSON: Expecting",
            id="as many lines as records, but not one on each",
        ),
        pytest.param(f"{text()},\n{text()}", "/0 is not valid JSON: Extra data", id="commas"),
        pytest.param(f"\ufeff{text()}", "the body begins with a byte order mark", id="BOM"),
    ],
)
def test_lines_that_are_refused(body: str, detail: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_lines(body.encode(), RECORDS_MAX)
    assert str(refused.value).startswith(detail)


def test_the_empty_array_is_a_batch_of_no_records() -> None:
    assert decode_array(b" [ ] ", RECORDS_MAX) == (Tally(), 0)


def test_all_bad_records_are_counted_and_the_first_are_listed() -> None:
    records = [record(hour=-1, bytes_rx="x") for _ in range(200)]
    with pytest.raises(InvalidRecords) as refused:
        decode_array(array([record(), *records]), RECORDS_MAX)
    assert refused.value.errors_total == 400
    assert len(refused.value.errors) == ERRORS_LISTED_MAX
    assert refused.value.errors[1].pointer == "/1/bytes_rx"
    assert str(refused.value).endswith("(and 399 more)")


def test_sums_do_not_wrap() -> None:
    records = [record(bytes_rx=RECORD_BYTES_VALUE_MAX)] * 3_000
    tally, _ = decode_array(array(records), 3_000)
    assert tally == expected(records)
    assert tally.account().bytes_rx > 2**64


@pytest.mark.parametrize("decode", [decode_array, decode_lines])
def test_too_many_records(decode: Any) -> None:
    body = (array if decode is decode_array else lines)([record()] * 3)
    assert decode(body, 3)[1] == 3
    with pytest.raises(TooLarge, match="has 3 records, and may have 2"):
        decode(body, 2)


def test_unknown_fields_may_not_hold_without_bound() -> None:
    body = f"[{text(new='[' + '0,' * 1_000 + '0]')}]".encode()
    assert decode_array(body, 100)[1] == 1
    with pytest.raises(TooLarge, match="more than 800 commas, brackets and escapes"):
        decode_array(body, 50)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b"0," * 5_000_000 + b"0]", id="integers"),
        pytest.param(b"[" + b"{}," * 3_000_000 + b"{}]", id="empty objects"),
        pytest.param(b"[" + b"[]," * 3_000_000 + b"[]]", id="empty arrays"),
        pytest.param(f'["{"x" * 10_000_000}"]'.encode(), id="a string of 10 MB"),
        pytest.param(f"[{text(src_app=chr(34) + 'x' * 10_000_000 + chr(34))}]".encode(), id="name"),
        pytest.param(b"[" * 10_000_000, id="deep"),
        pytest.param(b'[{"' * 3_000_000, id="openings"),
        pytest.param(b"\n" * 10_000_000, id="newlines"),
        pytest.param(b'"\\' * 5_000_000, id="backslashes"),
        pytest.param(b'["' + rb"\ud83d\ude00" * 2_000_000 + b'"]', id="surrogate pairs"),
    ],
)
def test_hostile_bodies_are_refused_quickly(body: bytes) -> None:
    for decode in (decode_array, decode_lines):
        began_s = time.process_time()
        with pytest.raises(InvalidInput):
            decode(body, 100_000)
        # A second at most by design; the bound is wide, so that only another order fails it.
        assert time.process_time() - began_s < 10


NAMES = st.text(
    st.one_of(st.sampled_from('ab:,{}[]"\\-0 é😀\u0085\x00'), st.characters(codec="utf-8")),
    max_size=5,
)
INTEGERS = st.one_of(
    st.sampled_from([-1, 0, 1, HOUR_MAX, RECORD_BYTES_VALUE_MAX, RECORD_BYTES_VALUE_MAX + 1]),
    st.integers(0, 2**31 - 1),
)
UNKNOWN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.lists(
    st.builds(
        lambda known, unknown: unknown | known,
        st.fixed_dictionaries(
            {"src_app": NAMES, "dest_app": NAMES, "vpc_id": st.sampled_from(["v", "w"])}
            | dict.fromkeys(("hour", "bytes_rx", "bytes_tx"), INTEGERS)
        ),
        st.dictionaries(NAMES, UNKNOWN, max_size=1),
    ),
    max_size=4,
)
FRAGMENTS = st.sampled_from(
    b'" { } [ ] , : \\ -0 - 1e5 null \\u0041 \\ud800 \xff "hour":2 ,"hour":2 ,"x":{"a":[1]}'.split()
) | st.sampled_from([b" ", b"\n", b"}\n{"])
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), FRAGMENTS), max_size=2)


def mutated(body: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    for where, dropped, fragment in mutations:
        at = int(where * len(body))
        body = body[:at] + fragment + body[at + dropped :]
    return body


def outcome(read: Any, body: bytes) -> object:
    """What a reader says; anything but a tally or `InvalidInput` fails the test."""
    try:
        return read(body, RECORDS_MAX)
    except InvalidInput:
        return None


@settings(max_examples=50, deadline=None)
@given(RECORDS, MUTATIONS, st.booleans())
@example([record()], [], False)
@example([record(hour=0)], [(0.0, 0, b"\xef\xbb\xbf")], False)
def test_both_readers_agree_on_any_body(
    records: list[dict[str, Any]], mutations: list[tuple[float, int, bytes]], escaped: bool
) -> None:
    body = mutated(array(records, escaped), mutations)
    found = outcome(decode_array, body)
    if _is_utf8(body):
        assert found == outcome(close_look.read_array, body)
    body = mutated(lines(records, escaped), mutations)
    found = outcome(decode_lines, body)
    if _is_utf8(body) and not body.startswith(b"\xef\xbb\xbf"):
        assert found == outcome(close_look.read_lines, body)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=50, deadline=None)
@given(RECORDS, st.booleans())
def test_sums_are_the_oracles(records: list[dict[str, Any]], escaped: bool) -> None:
    def fits(one: dict[str, Any]) -> bool:
        names = (one["src_app"], one["dest_app"])
        return (
            all(
                name and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name) for name in names
            )
            and 0 <= one["hour"] <= HOUR_MAX
            and all(0 <= one[name] <= RECORD_BYTES_VALUE_MAX for name in ("bytes_rx", "bytes_tx"))
        )

    good = [one for one in records if fits(one)]
    assert decode_array(array(good, escaped), RECORDS_MAX) == (expected(good), len(good))
    assert decode_lines(lines(good, escaped), RECORDS_MAX) == (expected(good), len(good))
    bad = {index for index, one in enumerate(records) if not fits(one)}
    if bad:
        with pytest.raises(InvalidRecords) as refused:
            decode_array(array(records, escaped), RECORDS_MAX)
        assert {int(error.pointer.split("/")[1]) for error in refused.value.errors} == bad
