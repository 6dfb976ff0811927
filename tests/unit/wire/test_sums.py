"""Sums in every format: exact, escaped, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally.wire.fields import RECORD_FIELDS
from flowtally.wire.media import SumsFormat
from flowtally.wire.sums import encode_sums

Row = tuple[str, str, str, int, int, int]
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("src_app", "dest_app", "vpc_id")]
    + [("hour", pa.int64())]
    + [(name, pa.decimal128(38, 0)) for name in ("bytes_rx", "bytes_tx")]
)
LARGEST = 10**38 - 1
HOSTILE: list[Row] = [
    ('q"uo\\te', "com,ma", "<img onerror>", 1, 2**63, LARGEST),
    ("=1+1", "+1", "-1", 2**31 - 1, 2**53, 2**64),
    ("@SUM(A1)", "'quote", "a=b", 0, 0, 0),
    ('=",', "\u2028é😀", "../..", 1, 1, 1),
]


def table(rows: list[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    return pa.table(
        [
            pa.array(list(map(Decimal, column)) if index > 3 else list(column), field.type)
            for index, (field, column) in enumerate(zip(SCHEMA, columns, strict=True))
        ],
        schema=SCHEMA,
    )


def objects(rows: list[Row]) -> list[dict[str, Any]]:
    return [dict(zip(RECORD_FIELDS, row, strict=True)) for row in rows]


def read_csv(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))


def test_the_sample() -> None:
    rows: list[Row] = [("baz", "qux", "vpc-0", 1, 500, 100), ("foo", "bar", "vpc-0", 1, 900, 300)]
    assert encode_sums(table(rows), SumsFormat.JSON) == (
        b'[{"src_app":"baz","dest_app":"qux","vpc_id":"vpc-0","hour":1,"bytes_rx":500,'
        b'"bytes_tx":100},'
        b'{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":900,'
        b'"bytes_tx":300}]'
    )
    assert encode_sums(table(rows), SumsFormat.CSV) == (
        b"src_app,dest_app,vpc_id,hour,bytes_rx,bytes_tx\r\n"
        b"baz,qux,vpc-0,1,500,100\r\nfoo,bar,vpc-0,1,900,300\r\n"
    )


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (SumsFormat.JSON, b"[]"),
        (SumsFormat.NDJSON, b""),
        (SumsFormat.CSV, b"src_app,dest_app,vpc_id,hour,bytes_rx,bytes_tx\r\n"),
    ],
)
def test_no_rows(form: SumsFormat, body: bytes) -> None:
    assert encode_sums(table([]), form) == body


def test_json_and_ndjson_are_exact() -> None:
    assert json.loads(encode_sums(table(HOSTILE), SumsFormat.JSON)) == objects(HOSTILE)
    lines = encode_sums(table(HOSTILE), SumsFormat.NDJSON).decode()
    assert lines.endswith("}\n")
    assert [json.loads(line) for line in lines[:-1].split("\n")] == objects(HOSTILE)


def test_csv_runs_nothing_in_a_spreadsheet() -> None:
    header, *rows = read_csv(encode_sums(table(HOSTILE), SumsFormat.CSV))
    assert header == list(RECORD_FIELDS)
    assert rows == [
        ['q"uo\\te', "com,ma", "<img onerror>", "1", str(2**63), str(LARGEST)],
        ["'=1+1", "'+1", "'-1", str(2**31 - 1), str(2**53), str(2**64)],
        ["'@SUM(A1)", "'quote", "a=b", "0", "0", "0"],
        ["'=\",", "\u2028é😀", "../..", "1", "1", "1"],
    ]


def test_arrow_and_parquet_have_the_same_types_and_values() -> None:
    for rows in ([], HOSTILE):
        body = encode_sums(table(rows), SumsFormat.ARROW)
        with pa.ipc.open_stream(body) as stream:
            assert stream.read_all() == table(rows)
        body = encode_sums(table(rows), SumsFormat.PARQUET)
        assert pyarrow.parquet.read_table(io.BytesIO(body)) == table(rows)


@pytest.mark.parametrize("form", SumsFormat)
def test_the_same_rows_give_the_same_bytes(form: SumsFormat) -> None:
    """However the table is cut, and with columns that are not sums left out."""
    whole = table(HOSTILE)
    cut = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 0), whole.slice(1)])
    cut = cut.append_column("records", pa.array([1] * len(HOSTILE)))
    assert encode_sums(cut, form) == encode_sums(whole, form)


def test_many_rows() -> None:
    """More than are made into text at once, and only the last of them need an escape."""
    count = 100_003
    name = pa.array(["foo", 'f"o']).take(pa.array([0] * (count - 1) + [1]))
    number = pa.array(range(count))
    decimal = number.cast(pa.decimal128(38, 0))
    many = pa.table([name, name, name, number, decimal, decimal], schema=SCHEMA)
    body = encode_sums(many, SumsFormat.NDJSON)
    assert body.count(b"\n") == count
    last = body[:-1].rsplit(b"\n", 1)[1]
    assert json.loads(last) == objects([('f"o', 'f"o', 'f"o', count - 1, count - 1, count - 1)])[0]


NAMES = st.text(
    st.one_of(
        st.sampled_from("\"\\,'=+-@ a\u00a0"),
        st.characters(codec="utf-8", exclude_categories=["C"]),
    ),
    min_size=1,
    max_size=6,
)
ROWS = st.lists(
    st.tuples(NAMES, NAMES, NAMES, st.integers(0, 2**31 - 1), st.integers(0, LARGEST), st.just(1)),
    max_size=4,
)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_any_name_comes_back(rows: list[Row]) -> None:
    assert json.loads(encode_sums(table(rows), SumsFormat.JSON)) == objects(rows)
    _, *read = read_csv(encode_sums(table(rows), SumsFormat.CSV))
    for found, row in zip(read, rows, strict=True):
        names = [f"'{name}" if name[0] in "=+-@" else name for name in row[:3]]
        assert found == [*names, *map(str, row[3:])]
