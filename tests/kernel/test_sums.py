"""Sums as JSON: the kernel writes the very bytes of the twin."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally.model import Tally
from flowtally.wire.blob import encode_tally
from flowtally.wire.fields import RECORD_FIELDS
from flowtally.wire.media import SumsFormat
from flowtally.wire.sums import encode_sums
from tests.kernel.native import kernel

EXAMPLES = int(os.environ.get("FLOWTALLY_KERNEL_EXAMPLES", "200"))
DECIMAL = pa.decimal128(38, 0)
TYPES = [pa.string(), pa.string(), pa.string(), pa.int64(), DECIMAL, DECIMAL]
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
SUMS = st.one_of(st.integers(0, 2**64 + 9), st.integers(0, 10**38 - 1), st.sampled_from([0, 9, 10]))
ROWS = st.lists(
    st.tuples(
        NAMES | st.sampled_from(['"', "\\\\", 'a"b']), NAMES, NAMES, st.integers(0, 2**31 - 1)
    ).flatmap(lambda flow: st.tuples(*map(st.just, flow), SUMS, SUMS)),
    max_size=6,
)


def table_of(rows: list[tuple[Any, ...]], chunk_rows: int = 1_000) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(TYPES)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, TYPES, strict=True)]
    table = pa.table(arrays, names=list(RECORD_FIELDS))
    return pa.Table.from_batches(table.to_batches(max_chunksize=chunk_rows), table.schema)


def written_alike(table: pa.Table) -> bytes:
    found = kernel.sums_json(table)
    assert found == encode_sums(table, SumsFormat.JSON)
    assert kernel.sums_ndjson(table) == encode_sums(table, SumsFormat.NDJSON)
    assert found is not None
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(0, 3))
def test_any_sums(rows: list[tuple[Any, ...]], chunk_rows: int, left_out: int) -> None:
    table = table_of(rows, chunk_rows).slice(left_out)
    found = json.loads(written_alike(table))
    assert found == [dict(zip(RECORD_FIELDS, row, strict=True)) for row in rows[left_out:]]


def test_many_rows() -> None:
    draw = random.Random(3)
    rows = [
        (
            f"app-{draw.randrange(10**6)}",
            "é" * draw.randrange(1, 9),
            "v" * draw.randrange(1, 257),
            7,
        )
        + (draw.randrange(10 ** draw.randrange(1, 39)), draw.randrange(1000))
        for _ in range(5_000)
    ]
    for chunk_rows in (1, 7, 5_000):
        written_alike(table_of(rows, chunk_rows))
    assert written_alike(table_of([])) == b"[]"


def test_other_columns_are_left_out() -> None:
    table = table_of([("a", "b", "v", 1, 2, 3)])
    written_alike(table.append_column("records", pa.array([1])))
    written_alike(table.select(list(reversed(RECORD_FIELDS))))


def test_what_is_declined() -> None:
    table = table_of([("a", "b", "v", 1, 2, 3)])
    for field in RECORD_FIELDS:
        at = table.schema.get_field_index(field)
        column = table.column(at)
        assert kernel.sums_json(table.drop_columns([field])) is None
        assert kernel.sums_json(table.append_column(field, column)) is None
        assert kernel.sums_json(table.set_column(at, field, pa.array([None], column.type))) is None
        assert kernel.sums_json(table.set_column(at, field, pa.array([1.5]))) is None
    for kind in (pa.decimal128(38, 1), pa.decimal128(20, 0), pa.decimal256(38, 0), pa.int64()):
        column = pa.array([2], kind)
        assert kernel.sums_ndjson(table.set_column(4, "bytes_rx", column)) is None
    for field, negative in (("bytes_rx", pa.array([-1], DECIMAL)), ("hour", pa.array([-1]))):
        at = table.schema.get_field_index(field)
        assert kernel.sums_json(table.set_column(at, field, negative)) is None


def test_what_the_kernel_lends_it_also_reads() -> None:
    merged = kernel.merge([encode_tally(Tally({("a", "é", "v", 1): [2**64, 2, 3]}))])
    assert merged is not None
    text = kernel.sums_json(merged)
    assert text == written_alike(pa.table(merged))
