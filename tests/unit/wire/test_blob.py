"""A tally survives its bytes, whatever it holds, and a damaged blob is never summed."""

from __future__ import annotations

import struct
import zlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally.model import Tally
from flowtally.wire.blob import (
    blob_hours,
    blob_rows,
    blobs_to_arrow,
    decode_tally,
    encode_tallies,
    encode_tally,
)

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)
SUMS = st.one_of(st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**64, 10**38 - 1]), st.integers(0, 99))
FLOWS = st.tuples(NAMES, NAMES, st.sampled_from(["v", "\ud7ff", "\U0010ffff"]), st.integers(0, 3))
TALLIES = st.dictionaries(
    FLOWS, st.tuples(SUMS, SUMS, st.integers(1, 2**40)).map(list), max_size=5
).map(Tally)
SMALL = Tally({("a", "b", "v", 1): [1, 2, 3], ("ü,\"'", "a", "v", 2**31 - 1): [4, 5, 6]})
WIDE = Tally({("a", "b", "v", 1): [2**64, 7, 100_000], ("a", "b", "v", 2): [0, 10**38 - 1, 1]})


@settings(max_examples=50, deadline=None)
@given(st.lists(TALLIES, max_size=3))
def test_round_trip(tallies: list[Tally]) -> None:
    blobs = [encode_tally(tally) for tally in tallies]
    assert [decode_tally(blob) for blob in blobs] == tallies
    assert [blob_rows(blob) for blob in blobs] == [len(tally) for tally in tallies]
    assert [blob_hours(blob) for blob in blobs] == [tally.hours() for tally in tallies]


@settings(max_examples=50, deadline=None)
@given(st.lists(TALLIES, min_size=1, max_size=3))
def test_the_table_has_every_row_of_every_blob(tallies: list[Tally]) -> None:
    table = blobs_to_arrow([encode_tally(tally) for tally in tallies])
    table.validate(full=True)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows == [(*flow, *sums) for tally in tallies for flow, sums in tally]


def test_the_table_has_the_columns_of_a_tally() -> None:
    decimal = pa.decimal128(38, 0)
    for tally in (Tally(), SMALL, WIDE):
        assert blobs_to_arrow([encode_tally(tally)]).schema == pa.schema(
            [(name, pa.string()) for name in ("src_app", "dest_app", "vpc_id")]
            + [("hour", pa.int64()), ("bytes_rx", decimal), ("bytes_tx", decimal)]
            + [("records", pa.int64())]
        )


def test_the_format_is_the_one_that_is_drawn() -> None:
    """Byte by byte as in `docs/internals/tally-blob.md`: what is on disk must stay readable."""
    tally = Tally({("é", "b", "é", 7): [1, 2**64 - 1, 3], ("b", "b", "é", 300): [0, 5, 4]})
    body = b"FT\x02\x00" + struct.pack("<IIII", 2, 2, 3, 7)
    body += bytes([1, 2, 1, 1, 8]) + bytes(7) + struct.pack("<Q", 3)
    body += struct.pack("<III4x", 0, 2, 3) + "éb".encode() + bytes(5)
    body += struct.pack("<BB6xBB6xBB6x", 0, 1, 1, 1, 0, 0) + struct.pack("<HH4x", 0, 293)
    body += struct.pack("<BB6x", 0, 1) + struct.pack("<BB6x", 1, 0)
    body += struct.pack("<QQ", 2**64 - 1, 5)
    assert encode_tally(tally) == body + struct.pack("<I", zlib.crc32(body))
    wide = encode_tally(WIDE)
    assert wide[20:25] == bytes([1, 1, 4, 16, 16])
    assert wide[-68:-4] == b"".join(
        value.to_bytes(16, "little") for value in (2**64, 0, 7, 10**38 - 1)
    )


def test_what_all_rows_share_takes_no_room() -> None:
    one = Tally({("a", "a", "a", 9): [0, 0, 1]})
    assert encode_tally(one)[20:25] == bytes(5)
    assert decode_tally(encode_tally(one)) == one


@settings(max_examples=50, deadline=None)
@given(st.lists(TALLIES, min_size=1, max_size=3))
def test_several_tallies_become_their_sum(tallies: list[Tally]) -> None:
    """Up to 3 * (10^38 - 1), which 128 bits hold; no batches come to more."""
    whole = Tally()
    for tally in tallies:
        for flow, sums in tally:
            whole.add(flow, *sums)
    assert encode_tallies(tallies) == encode_tally(whole)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


BLOB = encode_tally(SMALL)


@pytest.mark.parametrize(
    ("blob", "fault"),
    [
        pytest.param(b"", "is cut off", id="empty"),
        pytest.param(BLOB[:43], "is cut off", id="less than a header"),
        pytest.param(BLOB[:-1], "does not match its checksum", id="cut off"),
        pytest.param(BLOB + b"\0", "does not match its checksum", id="longer"),
        pytest.param(b"XT" + BLOB[2:], "unknown format", id="magic"),
        pytest.param(BLOB[:2] + b"\x01" + BLOB[3:], "unknown format", id="version"),
        pytest.param(sealed(BLOB[:-12]), "do not fill it", id="a column is missing"),
        pytest.param(sealed(BLOB[:-4] + bytes(8)), "do not fill it", id="a column too many"),
        pytest.param(sealed(BLOB[:20] + b"\x03" + BLOB[21:-4]), "unknown size", id="a width"),
        pytest.param(
            sealed(BLOB[:4] + b"\xff\xff\xff\xff" + BLOB[8:-4]), "do not fill it", id="row count"
        ),
    ],
)
def test_damage_is_named(blob: bytes, fault: str) -> None:
    for read in (decode_tally, lambda blob: blobs_to_arrow([BLOB, blob])):
        with pytest.raises(ValueError, match=fault):
            read(blob)


def test_rows_that_take_no_room_are_not_believed() -> None:
    """Flows are different: at most one of them has neither a name's number nor an hour's."""
    blob = encode_tally(Tally({("a", "a", "a", 9): [0, 0, 1]}))
    for rows in (2, 2**32 - 1):
        with pytest.raises(ValueError, match="more rows than flows"):
            decode_tally(sealed(blob[:4] + struct.pack("<I", rows) + blob[8:-4]))


def test_every_changed_bit_is_found() -> None:
    for at in range(len(BLOB)):
        damaged = BLOB[:at] + bytes([BLOB[at] ^ 1 << at % 8]) + BLOB[at + 1 :]
        with pytest.raises(ValueError, match="a tally"):
            decode_tally(damaged)
