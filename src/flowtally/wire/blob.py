"""A tally as compact bytes, for the journal, and many of them as one Arrow table.

Columns, not rows: a blob becomes an Arrow table without a loop in Python. The format is drawn in
`docs/internals/tally-blob.md`; the journal of one release is read by the next, so it has a version.
Every blob ends with a checksum: a damaged one is found, never summed.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

from flowtally.model import Tally
from flowtally.wire.kernel import NativeTally

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC = b"FT"
VERSION = 1
_WIDE = 1
"""Flag: the byte columns are 16 bytes wide, because one of their values needs more than 8."""
_HEADER = struct.Struct("<2sBBIII")
_CHECKSUM = struct.Struct("<I")
_PAD = 8
_UINT64_MAX = 2**64 - 1


class _Sections(NamedTuple):
    """Where each column of a blob stands."""

    rows: int
    names: int
    wide: bool
    offsets: memoryview
    text: memoryview
    name_indexes: tuple[memoryview, memoryview, memoryview]
    hour: memoryview
    records: memoryview
    bytes_rx: memoryview
    bytes_tx: memoryview


def encode_tally(tally: Tally) -> bytes:
    """The blob of a tally."""
    if isinstance(tally, NativeTally):
        return tally.blob()
    if tally.rows:
        src, dest, vpc, hours = zip(*tally.rows, strict=True)
        rx, tx, records = zip(*tally.rows.values(), strict=True)
    else:
        src = dest = vpc = hours = rx = tx = records = ()
    distinct = dict.fromkeys(chain(src, dest, vpc))
    names = dict(zip(distinct, range(len(distinct)), strict=True))
    texts = [name.encode() for name in names]
    offsets = array("I", accumulate(map(len, texts), initial=0))
    end = offsets[-1]
    wide = max(chain(rx, tx), default=0) > _UINT64_MAX
    sections = (
        offsets,
        b"".join(texts),
        *(array("I", map(names.__getitem__, column)) for column in (src, dest, vpc)),
        array("I", hours),
        array("Q", records),
        _byte_column(rx, wide),
        _byte_column(tx, wide),
    )
    parts = [_HEADER.pack(_MAGIC, VERSION, _WIDE if wide else 0, len(tally.rows), len(names), end)]
    for section in sections:
        parts.append(bytes(section))
        parts.append(bytes(-len(parts[-1]) % _PAD))
    body = b"".join(parts)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_tally(blob: bytes) -> Tally:
    """The tally of a blob. Raises `ValueError` naming what is damaged."""
    found = _read(blob)
    names = [
        bytes(found.text[start:end]).decode() for start, end in pairwise(found.offsets.cast("I"))
    ]
    columns = [[names[index] for index in column.cast("I")] for column in found.name_indexes]
    flows = zip(*columns, found.hour.cast("I"), strict=True)
    rx, tx = (_integers(column, found.wide) for column in (found.bytes_rx, found.bytes_tx))
    sums = zip(rx, tx, found.records.cast("Q"), strict=True)
    return Tally({flow: list(row) for flow, row in zip(flows, sums, strict=True)})


def damage_in_blob(blob: bytes) -> str | None:
    """What is damaged in a blob, or None."""
    try:
        _read(blob)
    except ValueError as error:
        return str(error)
    return None


def blob_rows(blob: bytes) -> int:
    """How many flows a blob holds, from its header alone."""
    rows: int = _HEADER.unpack_from(blob)[3]
    return rows


def blob_hours(blob: bytes) -> set[int]:
    """The hour labels a blob touches. Raises `ValueError` naming what is damaged."""
    return set(_read(blob).hour.cast("I"))


def blobs_to_arrow(blobs: Sequence[bytes]) -> pa.Table:
    """The rows of several blobs, at least one, one after the other, not merged.

    Columns: `src_app, dest_app, vpc_id` (string), `hour` (int64), `bytes_rx, bytes_tx`
    (decimal128(38, 0)), `records` (int64). Raises `ValueError` for a damaged blob.
    """
    import pyarrow as pa

    return pa.concat_tables([_to_arrow(_read(blob)) for blob in blobs])


def _to_arrow(found: _Sections) -> pa.Table:
    import pyarrow as pa

    def column(kind: pa.DataType, section: memoryview) -> pa.Array:
        return pa.Array.from_buffers(kind, found.rows, [None, pa.py_buffer(section)])

    names = pa.StringArray.from_buffers(
        found.names, pa.py_buffer(found.offsets), pa.py_buffer(found.text)
    )
    decimal = pa.decimal128(38, 0)
    bytes_columns = [
        column(decimal, section) if found.wide else column(pa.uint64(), section).cast(decimal)
        for section in (found.bytes_rx, found.bytes_tx)
    ]
    return pa.table(
        [
            *(names.take(column(pa.uint32(), section)) for section in found.name_indexes),
            column(pa.uint32(), found.hour).cast(pa.int64()),
            *bytes_columns,
            column(pa.uint64(), found.records).cast(pa.int64()),
        ],
        names=[
            "src_app",
            "dest_app",
            "vpc_id",
            "hour",
            "bytes_rx",
            "bytes_tx",
            "records",
        ],
    )


def _byte_column(values: Sequence[int], wide: bool) -> array[int]:
    if not wide:
        return array("Q", values)
    return array("Q", chain.from_iterable((value & _UINT64_MAX, value >> 64) for value in values))


def _integers(section: memoryview, wide: bool) -> list[int]:
    words = section.cast("Q").tolist()
    if not wide:
        return words
    return [low | high << 64 for low, high in zip(words[::2], words[1::2], strict=True)]


def _read(blob: bytes) -> _Sections:
    """Checks a blob and finds its sections; nothing is copied."""
    if len(blob) < _HEADER.size + _CHECKSUM.size:
        raise ValueError("a tally is cut off")
    magic, version, flags, rows, names, text_bytes = _HEADER.unpack_from(blob)
    if magic != _MAGIC or version != VERSION:
        raise ValueError(f"a tally has an unknown format: {blob[:3].hex()}")
    body = memoryview(blob)[: -_CHECKSUM.size]
    if zlib.crc32(body) != _CHECKSUM.unpack(blob[-_CHECKSUM.size :])[0]:
        raise ValueError("a tally does not match its checksum")
    wide = bool(flags & _WIDE)
    at = _HEADER.size
    sections = []
    for size in (
        4 * (names + 1),
        text_bytes,
        *[4 * rows] * 4,
        8 * rows,
        *[(16 if wide else 8) * rows] * 2,
    ):
        sections.append(body[at : at + size])
        at += size + -size % _PAD
    if at != len(body):
        raise ValueError("a tally's columns do not fill it")
    offsets, text, src, dest, vpc, *rest = sections
    return _Sections(rows, names, wide, offsets, text, (src, dest, vpc), *rest)
