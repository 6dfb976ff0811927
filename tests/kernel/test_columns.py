"""Records and sums in columns: the kernel reads what pyarrow holds, however it is laid out."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally import limits
from flowtally.errors import InvalidInput
from flowtally.model import Tally
from flowtally.wire.arrow_records import decode_arrow
from flowtally.wire.fields import NAME_FIELDS, RECORD_FIELDS
from tests.kernel.native import kernel

EXAMPLES = int(os.environ.get("FLOWTALLY_KERNEL_EXAMPLES", "200"))
RECORDS_MAX = 1_000
NAME_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    *(
        pa.dictionary(codes, values)
        for codes in (pa.int8(), pa.uint16(), pa.int64())
        for values in (pa.string(), pa.large_string())
    ),
]
INTEGER_TYPES = [
    *(pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32()),
    *(pa.int64(), pa.uint64()),
]
NAMES = st.sampled_from(
    ["a", "foo", "é-ü", "x" * 12, "x" * 13, "exactly sixteen.", "y" * 256, '"\\', "src_app"]
) | st.text(st.characters(codec="utf-8"), max_size=14)
INTEGERS = st.integers(-1, 127)


def table_of(
    records: list[tuple[Any, ...]], types: list[pa.DataType], chunk_rows: int = 1_000
) -> pa.Table:
    """A table in chunks that begin amid their buffers."""
    columns = list(zip(*records, strict=True)) if records else [()] * len(RECORD_FIELDS)
    arrays = []
    for values, kind in zip(columns, types, strict=True):
        # What stands before and after the rows must not be read.
        padding = "\x00" if kind in NAME_TYPES else 77
        array = pa.array([padding, *values, padding], kind.value_type if _is_coded(kind) else kind)
        arrays.append(array.dictionary_encode().cast(kind) if _is_coded(kind) else array)
    whole = pa.table(arrays, names=list(RECORD_FIELDS)).slice(1, len(records))
    return pa.Table.from_batches(whole.to_batches(max_chunksize=chunk_rows), whole.schema)


def _is_coded(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind))


def stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        # A writer that replaces dictionaries midway is refused by the twin; one batch has one.
        writer.write_table(table.combine_chunks().unify_dictionaries())
    return bytes(sink.getvalue())


def summed_alike(table: pa.Table, records_max: int = RECORDS_MAX) -> bool:
    """Whether the kernel sums the records of a table; fails where its twin says something else."""
    found = kernel.tally_arrow(table, records_max)
    tally, refused = Tally(), False
    try:
        tally, _ = decode_arrow(stream_of(table), records_max, limits.DECODED_BYTES_MAX)
    except InvalidInput:
        refused = True
    assert (found is None) == refused
    if found is not None:
        assert found.records == table.num_rows
        assert list(found.rows().items()) == list(tally)
    return not refused


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES, INTEGERS, INTEGERS, INTEGERS), max_size=8),
    st.tuples(*[st.sampled_from(NAME_TYPES)] * 3, *[st.sampled_from(INTEGER_TYPES)] * 3),
    st.integers(1, 9),
)
def test_any_records(
    records: list[tuple[Any, ...]], types: tuple[pa.DataType, ...], chunk_rows: int
) -> None:
    signed = [
        pa.int8() if kind in INTEGER_TYPES and str(kind).startswith("u") and low < 0 else kind
        for kind, low in zip(types, map(_lowest, range(6), [records] * 6), strict=True)
    ]
    summed_alike(table_of(records, signed, chunk_rows))


def _lowest(column: int, records: list[tuple[Any, ...]]) -> int:
    values = [record[column] for record in records]
    return min((value for value in values if isinstance(value, int)), default=0)


PLAIN = ("foo", "bar", "vpc-0", 1, 300, 100)
TYPES = [pa.string(), pa.string(), pa.string(), pa.int64(), pa.int64(), pa.uint64()]


def test_every_type_is_read() -> None:
    for kind in NAME_TYPES:
        assert summed_alike(table_of([PLAIN] * 3, [kind] * 3 + TYPES[3:], 2)), kind
    for kind in INTEGER_TYPES:
        assert summed_alike(table_of([(*PLAIN[:3], 1, 2, 3)] * 3, TYPES[:3] + [kind] * 3, 2)), kind


def test_nothing_that_is_null() -> None:
    for column in range(6):
        record = (*PLAIN[:column], None, *PLAIN[column + 1 :])
        for records in ([record], [PLAIN, record, PLAIN], [PLAIN] * 70 + [record]):
            assert not summed_alike(table_of(records, TYPES, 50))
            kinds = [NAME_TYPES[4]] * 3 + TYPES[3:]
            assert not summed_alike(table_of(records, kinds, 50))
    # Rows that are left out may be null.
    table = pa.table([pa.array([None, value, None]) for value in PLAIN], names=list(RECORD_FIELDS))
    assert summed_alike(table.slice(1, 1))


def test_bounds() -> None:
    for column, most in ((3, limits.HOUR_MAX), (4, limits.RECORD_BYTES_VALUE_MAX)):
        for value in (-1, 0, most, most + 1):
            record = (*PLAIN[:column], value, *PLAIN[column + 1 :])
            accepted = summed_alike(table_of([PLAIN, record], TYPES))
            assert accepted == (0 <= value <= most)
    assert summed_alike(table_of([PLAIN] * 5, TYPES, 2), 5)
    assert not summed_alike(table_of([PLAIN] * 5, TYPES, 2), 4)


def test_columns_are_found_by_their_names() -> None:
    table = table_of([PLAIN] * 3, TYPES)
    assert summed_alike(table.select(list(reversed(RECORD_FIELDS))))
    assert summed_alike(table.append_column("new", pa.array([None, 1.5, 2.5])))
    assert not summed_alike(table.append_column("hour", table.column("hour")))
    for field in RECORD_FIELDS:
        assert not summed_alike(table.drop_columns([field]))
        wrong = pa.array([1.0, 2.0, 3.0] if field in NAME_FIELDS else ["1", "2", "3"])
        assert not summed_alike(table.drop_columns([field]).append_column(field, wrong))


def test_what_exports_no_stream() -> None:
    with pytest.raises(AttributeError):
        kernel.tally_arrow([PLAIN], 1)  # type: ignore[arg-type]
    reader = table_of([PLAIN], TYPES).to_reader()
    assert kernel.tally_arrow(reader, 1) is not None
    capsule = table_of([PLAIN], TYPES).__arrow_c_stream__()

    class Once:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return capsule

    assert kernel.tally_arrow(Once(), 1) is not None
    assert kernel.tally_arrow(Once(), 1) is None
