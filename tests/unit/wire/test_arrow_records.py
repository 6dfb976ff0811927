"""Arrow streams keep the rules of JSON, and nothing that they claim is believed unseen."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally import limits
from flowtally.errors import InvalidInput, InvalidRecords, TooLarge
from flowtally.model import Tally
from flowtally.wire.arrow_records import decode_arrow
from flowtally.wire.fields import RECORD_FIELDS
from tests.unit.wire.bodies import expected, record

RECORDS = [record(), record(src_app="é"), record(hour=0, bytes_rx=2**53 - 1), record()]
STRINGS = {"src_app": pa.string(), "dest_app": pa.string(), "vpc_id": pa.string()}
INTEGERS = {"hour": pa.int64(), "bytes_rx": pa.int64(), "bytes_tx": pa.int64()}


def stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    write_options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, batches[0].schema, options=write_options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def batch_of(records: list[dict[str, object]], **types: pa.DataType) -> pa.RecordBatch:
    kinds = STRINGS | INTEGERS | types
    return pa.record_batch(
        [pa.array([one[field] for one in records]).cast(kinds[field]) for field in RECORD_FIELDS],
        names=list(RECORD_FIELDS),
    )


def replaced(field: str, column: pa.Array, rows: int = 4) -> pa.RecordBatch:
    batch = batch_of([record()] * rows)
    return batch.set_column(RECORD_FIELDS.index(field), field, column)


def decoded(body: bytes, records_max: int = 100, bytes_max: int = limits.MIB) -> tuple[Tally, int]:
    return decode_arrow(body, records_max, bytes_max)


@pytest.mark.parametrize(
    "types",
    [
        pytest.param({}, id="plain"),
        pytest.param({"src_app": pa.large_string()}, id="large_string"),
        pytest.param({"src_app": pa.string_view()}, id="string_view"),
        pytest.param({"src_app": pa.dictionary(pa.int8(), pa.string())}, id="dictionary"),
        pytest.param(
            {"vpc_id": pa.dictionary(pa.int32(), pa.large_string())}, id="large dictionary"
        ),
        pytest.param({"hour": pa.uint8(), "bytes_tx": pa.int16()}, id="small integers"),
        pytest.param({"bytes_rx": pa.uint64()}, id="uint64"),
    ],
)
def test_column_types_that_are_read(types: dict[str, pa.DataType]) -> None:
    batch = batch_of(RECORDS, **types)
    assert decoded(stream(batch)) == (expected(RECORDS), 4)
    assert decoded(stream(batch, batch)) == (expected(RECORDS * 2), 8)


def test_no_rows_and_no_batches_are_batches_of_no_records() -> None:
    views = {"src_app": pa.string_view(), "vpc_id": pa.dictionary(pa.int8(), pa.string())}
    for batch in (batch_of(RECORDS).slice(0, 0), batch_of(RECORDS, **views).slice(0, 0)):
        assert decoded(stream(batch)) == (Tally(), 0)
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, batch_of(RECORDS).schema).close()
    assert decoded(bytes(sink.getvalue())) == (Tally(), 0)


def test_other_columns_and_their_order_do_not_matter() -> None:
    batch = batch_of(RECORDS).append_column("new", pa.array([{"a": [1]}] * 4))
    shuffled = batch.select(["new", *reversed(RECORD_FIELDS)])
    assert decoded(stream(shuffled)) == (expected(RECORDS), 4)


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_no_damage_to_a_stream_is_more_than_a_bad_stream(kind: pa.DataType) -> None:
    """A dictionary that says that it is endless once made pyarrow raise a SystemError."""
    whole = stream(batch_of(RECORDS, src_app=kind))
    refused = 0
    for at in range(0, len(whole), 4):
        for damage in (b"\xff" * 8, b"\x7f\xff\xff\xff"):
            try:
                decoded(whole[:at] + damage + whole[at + len(damage) :])
            except InvalidInput:
                refused += 1
    assert refused > len(whole) / 8


@pytest.mark.parametrize(
    ("field", "column", "faults"),
    [
        pytest.param(
            "hour",
            pa.array([1, -1, None, 2**31]),
            {
                "/1/hour": f"must be from 0 to {limits.HOUR_MAX}, not -1",
                "/2/hour": "must be an integer, not null",
                "/3/hour": f"must be from 0 to {limits.HOUR_MAX}, not {2**31}",
            },
            id="hours",
        ),
        pytest.param(
            "bytes_tx",
            pa.array([0, 2**53 - 1, 2**53, 2**64 - 1], pa.uint64()),
            {
                f"/{row}/bytes_tx": f"must be from 0 to {2**53 - 1}, not {value}"
                for row, value in ((2, 2**53), (3, 2**64 - 1))
            },
            id="bytes",
        ),
        pytest.param(
            "vpc_id",
            pa.array(["", "x" * 257, None, "a\nb"]),
            {
                "/0/vpc_id": "has 0 bytes, and must have 1 to 256",
                "/1/vpc_id": "has 257 bytes, and must have 1 to 256",
                "/2/vpc_id": "must be a string, not null",
                "/3/vpc_id": "holds the control character U+000A",
            },
            id="names",
        ),
        pytest.param(
            "src_app",
            pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int8()), ["a", None]),
            {f"/{row}/src_app": "must be a string, not null" for row in (1, 2)},
            id="nulls of a dictionary",
        ),
    ],
)
def test_bad_values_are_named(field: str, column: pa.Array, faults: dict[str, str]) -> None:
    with pytest.raises(InvalidRecords) as refused:
        decoded(stream(replaced(field, column)))
    assert {error.pointer: error.detail for error in refused.value.errors} == faults


@pytest.mark.parametrize(
    ("batch", "detail"),
    [
        pytest.param(batch_of(RECORDS).drop_columns(["hour"]), "hour is missing", id="missing"),
        pytest.param(
            batch_of(RECORDS).append_column("hour", pa.array([1] * 4)),
            "hour occurs 2 times",
            id="twice",
        ),
        pytest.param(replaced("hour", pa.array([1.0] * 4)), "hour is of type double", id="float"),
        pytest.param(replaced("hour", pa.array([True] * 4)), "hour is of type bool", id="bool"),
        pytest.param(
            replaced("bytes_rx", pa.array([1] * 4).cast(pa.decimal128(20, 0))),
            "bytes_rx is of type decimal128(20, 0)",
            id="decimal",
        ),
        pytest.param(
            replaced("src_app", pa.array([b"a"] * 4)), "src_app is of type binary", id="binary"
        ),
        pytest.param(
            replaced("src_app", pa.array([1] * 4).dictionary_encode()),
            "src_app is of type dictionary<values=int64",
            id="dictionary of integers",
        ),
    ],
)
def test_wrong_columns_are_named(batch: pa.RecordBatch, detail: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(stream(batch))
    assert detail in str(refused.value)


def test_a_stream_that_is_cut_off_is_refused_wherever_it_is_cut() -> None:
    batch = batch_of(RECORDS, src_app=pa.dictionary(pa.int8(), pa.string()))
    # The data ends as the end marker does, where it is cut at a batch's end.
    batch = replaced("bytes_tx", pa.array([2**32 - 1], pa.uint32()), rows=1)
    body = stream(batch, batch)
    assert decoded(body)[1] == 2
    for length in range(0, len(body), 4):
        with pytest.raises(InvalidInput):
            decoded(body[:length])
    for tail in (b"\0", b"\0" * 8, body):
        with pytest.raises(InvalidInput, match="end marker"):
            decoded(body + tail)


def test_strings_must_be_utf8() -> None:
    column = pa.array([b"\xff"] * 4).view(pa.string())
    with pytest.raises(InvalidInput, match="UTF8"):
        decoded(stream(replaced("src_app", column)))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_buffers_are_refused(compression: str) -> None:
    with pytest.raises(InvalidInput, match="Content-Encoding"):
        decoded(stream(batch_of(RECORDS), compression=compression))
    kind = pa.dictionary(pa.int8(), pa.string())
    with pytest.raises(InvalidInput, match="Content-Encoding"):
        decoded(stream(batch_of(RECORDS, src_app=kind), compression=compression))


def test_delta_dictionaries_are_refused_and_replaced_ones_are_read() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    first = batch_of([record(src_app="a")], src_app=kind)
    column = pa.DictionaryArray.from_arrays(pa.array([1], pa.int8()), ["a", "b"])
    second = replaced("src_app", column, rows=1)
    with pytest.raises(InvalidInput, match="delta dictionaries"):
        decoded(stream(first, second, emit_dictionary_deltas=True))
    both = [record(src_app="a"), record(src_app="b")]
    assert decoded(stream(first, second)) == (expected(both), 2)


def test_bounds() -> None:
    batch = batch_of(RECORDS)
    body = stream(batch, batch)
    assert decoded(body, records_max=8)[1] == 8
    with pytest.raises(TooLarge, match="has 8 records, and may have 7"):
        decoded(body, records_max=7)
    with pytest.raises(TooLarge, match="more than 100 bytes"):
        decoded(body, bytes_max=100)
    with pytest.raises(TooLarge, match=f"more than {limits.ARROW_MESSAGES_MAX} messages"):
        decoded(stream(*[batch.slice(0, 0)] * limits.ARROW_MESSAGES_MAX))


def test_a_large_dictionary_is_paid_for_by_each_batch_that_has_it() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["x" * 10_000])
    batch = replaced("src_app", column, rows=1)
    with pytest.raises(TooLarge, match="more than 100000 bytes"):
        decoded(stream(*[batch] * 20), bytes_max=100_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["x"] * 120)
    with pytest.raises(TooLarge, match="a dictionary has more than 100 values"):
        decoded(stream(replaced("src_app", column, rows=1)))


def test_views_of_the_same_text_are_counted_before_they_are_read() -> None:
    """100 views of the same 100,000 bytes: small in the body, 10 MB as Python's strings."""
    text = b"x" * 100_000
    views = struct.pack("<i4sii", len(text), text[:4], 0, 0) * 100
    column = pa.Array.from_buffers(
        pa.string_view(), 100, [None, pa.py_buffer(views), pa.py_buffer(text)]
    )
    with pytest.raises(TooLarge, match=f"more than {limits.MIB} bytes"):
        decoded(stream(replaced("src_app", column, rows=100)))
    nested = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), column)
    with pytest.raises(InvalidInput):
        decoded(stream(replaced("src_app", nested, rows=100)))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_stream_is_read_or_refused(data: st.DataObject) -> None:
    kinds = {"src_app": pa.dictionary(pa.int8(), pa.string()), "dest_app": pa.string_view()}
    body = bytearray(stream(batch_of(RECORDS, **kinds)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        tally, records = decoded(bytes(body))
    except InvalidInput:
        return
    assert tally.account().records == records <= 100
