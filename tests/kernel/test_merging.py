"""Blobs of the twin merged by the kernel: the sums of the twin, nothing of a damaged one."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally.model import Tally
from flowtally.wire import blob
from tests.kernel.native import kernel

EXAMPLES = int(os.environ.get("FLOWTALLY_KERNEL_EXAMPLES", "200"))
SUMS = st.one_of(st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**64, 10**37]), st.integers(0, 99))
TALLIES = st.dictionaries(
    st.tuples(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=4),
        st.sampled_from(["a", "\ud7ff"]),
        st.sampled_from(["v", "\U0010ffff"]),
        st.integers(0, 3),
    ),
    st.tuples(SUMS, SUMS, st.integers(1, 2**40)).map(list),
    max_size=5,
).map(Tally)


def merged_by_the_kernel(
    blobs: list[bytes], arrival_hours: list[int] | None = None
) -> tuple[kernel.MergedRows, pa.Table]:
    merged = kernel.merge(blobs, arrival_hours)
    assert merged is not None
    table = pa.table(merged)
    table.validate(full=True)
    return merged, table


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(TALLIES, st.integers(-1, 1)), max_size=4))
def test_merging(batches: list[tuple[Tally, int]]) -> None:
    hours: dict[int, int] = {}
    whole = Tally()
    for number, (tally, _) in enumerate(batches):
        for flow, sums in tally:
            whole.add(flow, *sums)
        hours |= dict.fromkeys(tally.hours(), number)
    blobs = [blob.encode_tally(tally) for tally, _ in batches]
    merged, table = merged_by_the_kernel(blobs)
    assert table.schema == blob.blobs_to_arrow([blob.encode_tally(Tally())]).schema
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows == [(*flow, *sums) for flow, sums in whole]
    assert (len(merged), merged.hours, merged.arrival_hours) == (len(whole), hours, {})


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(TALLIES, st.integers(-1, 1)), max_size=4))
def test_merging_apart_by_arrival_hour(batches: list[tuple[Tally, int]]) -> None:
    expected: dict[int, Tally] = {}
    for tally, arrival_hour in batches:
        for flow, sums in tally:
            expected.setdefault(arrival_hour, Tally()).add(flow, *sums)
        expected.setdefault(arrival_hour, Tally())
    blobs = [blob.encode_tally(tally) for tally, _ in batches]
    merged, table = merged_by_the_kernel(blobs, [arrival_hour for _, arrival_hour in batches])
    assert table.schema.names[-1] == "arrival_hour"
    found = {arrival_hour: Tally() for arrival_hour in expected}
    for row in table.to_pylist():
        *flow, rx, tx, records, arrival_hour = row.values()
        assert tuple(flow) not in found[arrival_hour].rows
        found[arrival_hour].add(tuple(flow), rx, tx, records)
    assert found == expected
    assert merged.arrival_hours == {hour: len(tally) for hour, tally in expected.items()}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(TALLIES, min_size=1, max_size=4))
def test_encoding_several_as_one(tallies: list[Tally]) -> None:
    """The kernel makes the very bytes of the twin, whose sums are those of a dict."""
    whole = Tally()
    for tally in tallies:
        for flow, sums in tally:
            whole.add(flow, *sums)
    blobs = [blob.encode_tally(tally) for tally in tallies]
    assert kernel.encode(blobs) == blob.encode_tally(whole)
    assert kernel.encode([*blobs, blobs[0][:-1]]) is None


def test_bodies_and_blobs_become_one() -> None:
    body = b'[{"src_app":"a","dest_app":"b","vpc_id":"v","hour":1,"bytes_rx":5,"bytes_tx":6}]'
    tally = kernel.decode_json(body, 10)
    assert tally is not None
    other = blob.encode_tally(Tally({("a", "b", "v", 1): [1, 2, 3], ("é", "b", "v", 2): [0, 0, 1]}))
    encoded = kernel.encode([tally, other, tally])
    assert encoded is not None
    assert blob.decode_tally(encoded) == Tally(
        {("a", "b", "v", 1): [11, 14, 5], ("é", "b", "v", 2): [0, 0, 1]}
    )


def test_a_damaged_blob_is_declined() -> None:
    good = blob.encode_tally(Tally({("a", "é", "v", 1): [1, 2, 3], ("é", "a", "v", 1): [4, 5, 6]}))
    assert kernel.merge([good]) is not None
    for at in range(len(good)):
        damaged = good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]
        assert kernel.merge([good, damaged]) is None
        assert kernel.merge([good[:at]]) is None


def test_rows_that_take_no_room_are_not_counted() -> None:
    """Found by fuzzing: a checksum is easily made right, and four billion rows took a minute."""
    good = blob.encode_tally(Tally({("a", "a", "a", 1): [0, 0, 1]}))
    for rows in (2, 2**32 - 1):
        body = good[:4] + struct.pack("<I", rows) + good[8:-4]
        crafted = body + struct.pack("<I", zlib.crc32(body))
        assert kernel.merge([crafted]) is None
        assert kernel.encode([crafted, good]) is None


def test_sums_that_no_decimal_holds_are_declined() -> None:
    for most in (10**38 - 1, 2**128 - 1):
        blobs = [
            blob.encode_tally(Tally({("a", "b", "v", 1): [value, 0, 1]})) for value in (most, 1)
        ]
        assert kernel.merge(blobs) is None


def test_records_that_no_int64_holds_are_declined() -> None:
    for most in (2**63 - 1, 2**64 - 1):
        one = blob.encode_tally(Tally({("a", "b", "v", 1): [0, 0, most]}))
        two = blob.encode_tally(Tally({("a", "b", "v", 1): [0, 0, 1]}))
        assert kernel.merge([one, two]) is None


@pytest.mark.parametrize("consume", ["all", "none", "schema only", "twice"])
def test_what_is_lent_outlives_the_lender(consume: str) -> None:
    blobs = [
        blob.encode_tally(Tally({(f"app-{number}", "b", "v", 1): [number, 0, 1]}))
        for number in range(100)
    ]
    merged, table = merged_by_the_kernel(blobs)
    if consume == "all":
        column = table.column("src_app")
        del merged, table
        assert column.to_pylist() == [f"app-{number}" for number in range(100)]
    elif consume == "none":
        capsule = merged.__arrow_c_stream__()
        del capsule, merged
    elif consume == "schema only":
        reader = pa.RecordBatchReader.from_stream(merged)
        assert reader.schema.names[0] == "src_app"
        del reader, merged
    else:
        assert pa.table(merged) == pa.table(merged)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "aa", "é", "\ue000", "\U0010ffff", "b\\", '"']),
            st.sampled_from(["x", "\ud7ff"]),
            st.just("v"),
            st.integers(0, 1),
            st.sampled_from([0, 1, 2**63, 2**64, 10**36]),
            st.integers(0, 9),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_rows_of_a_store_become_the_sums_of_a_read(
    rows: list[tuple[str, str, str, int, int, int]], chunk_rows: int
) -> None:
    expected: dict[tuple[bytes, bytes, bytes, int], list[int]] = {}
    for *names, hour, rx, tx in rows:
        src, dest, vpc = (name.encode() for name in names)
        sums = expected.setdefault((src, dest, vpc, hour), [0, 0])
        sums[0] += rx
        sums[1] += tx
    decimal = pa.decimal128(38, 0)
    types = [pa.string(), pa.string(), pa.string(), pa.int64(), decimal, decimal]
    columns = [
        pa.chunked_array([list(part) for part in batched(column, chunk_rows)], kind)
        for column, kind in zip(zip(*rows, strict=True) if rows else [()] * 6, types, strict=True)
    ]
    names = ["src_app", "dest_app", "vpc_id", "hour", "bytes_rx", "bytes_tx"]
    summed = kernel.sum_rows(pa.table(columns, names))
    assert summed is not None
    assert len(summed) == len(expected)
    assert summed.json() == kernel.sums_json(summed)
    assert summed.ndjson() == kernel.sums_ndjson(summed)
    found = pa.table(summed).select(names)
    found.validate(full=True)
    assert found.schema.types == types
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (*(name.decode() for name in flow[:3]), flow[3], *sums)
        for flow, sums in sorted(expected.items())
    ]


def batched(column: Sequence[object], size: int) -> Iterator[Sequence[object]]:
    for start in range(0, len(column), size):
        yield column[start : start + size]
