"""Tallies as compact bytes, for the journal, and many of those as one Arrow table.

Columns, not rows: a blob becomes an Arrow table without a loop in Python, and a column takes no
more bytes a value than its largest needs. The format is drawn in `docs/internals/tally-blob.md`;
the journal of one release is read by the next, so it has a version. Every blob ends with a
checksum: a damaged one is found, never summed.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from flowtally.model import Tally
from flowtally.wire import kernel
from flowtally.wire.kernel import NativeTally

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC = b"FT"
VERSION = 2
_HEADER = struct.Struct("<2sBxIIII5B7xQ")
_CHECKSUM = struct.Struct("<I")
_PAD = 8
_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""How `array` and `memoryview` name the values of so many bytes."""
_WIDEST = 16
_UINT64_MAX = 2**64 - 1


class _Column(NamedTuple):
    """A column of integers: `least` and what each value has above it, in `width` bytes."""

    section: memoryview
    width: int
    rows: int
    least: int = 0

    def values(self) -> Sequence[int]:
        if self.width == 0:
            return [self.least] * self.rows
        if self.width == _WIDEST:
            words = self.section.cast("Q").tolist()
            pairs = zip(words[::2], words[1::2], strict=True)
            return [self.least + (low | high << 64) for low, high in pairs]
        found = self.section.cast(_CODES[self.width]).tolist()
        return [self.least + value for value in found] if self.least else found


class _Blob(NamedTuple):
    """A blob that was checked, and its columns."""

    rows: int
    names: int
    offsets: memoryview
    text: memoryview
    name_numbers: tuple[_Column, ...]
    hour: _Column
    records: _Column
    bytes_rx: _Column
    bytes_tx: _Column


def encode_tallies(tallies: Sequence[Tally]) -> bytes:
    """One blob of the sums of several tallies, at least one."""
    if any(isinstance(tally, NativeTally) for tally in tallies):
        encoded = kernel.encode(
            [tally if isinstance(tally, NativeTally) else encode_tally(tally) for tally in tallies]
        )
        if encoded is not None:
            return encoded
    if len(tallies) == 1:
        return _encode(tallies[0])
    summed = Tally()
    for tally in tallies:
        for flow, sums in tally:
            summed.add(flow, *sums)
    return _encode(summed)


def encode_tally(tally: Tally) -> bytes:
    """The blob of one tally."""
    return encode_tallies([tally])


def _encode(tally: Tally) -> bytes:
    if tally.rows:
        src, dest, vpc, hours = zip(*tally.rows, strict=True)
        rx, tx, records = zip(*tally.rows.values(), strict=True)
    else:
        src = dest = vpc = hours = rx = tx = records = ()
    distinct = dict.fromkeys(chain.from_iterable(zip(src, dest, vpc, strict=True)))
    numbers = dict(zip(distinct, range(len(distinct)), strict=True))
    texts = [name.encode() for name in numbers]
    offsets = array("I", accumulate(map(len, texts), initial=0))
    hour_least, records_least = min(hours, default=0), min(records, default=0)
    of_names = _width_of(max(len(numbers) - 1, 0))
    columns = [
        *((of_names, [numbers[name] for name in column]) for column in (src, dest, vpc)),
        _above(hours, hour_least),
        _above(records, records_least),
        _above(rx, 0),
        _above(tx, 0),
    ]
    parts = [
        _HEADER.pack(
            _MAGIC,
            VERSION,
            len(tally.rows),
            len(numbers),
            offsets[-1],
            hour_least,
            *(width for width, _ in columns[2:]),
            records_least,
        )
    ]
    sections = (bytes(offsets), b"".join(texts), *(_section(*column) for column in columns))
    for section in sections:
        parts.append(section)
        parts.append(bytes(-len(section) % _PAD))
    body = b"".join(parts)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _width_of(most: int) -> int:
    """How many bytes hold every number up to this one: none where that is 0."""
    return 0 if not most else 1 << max(0, (most.bit_length() - 1).bit_length() - 3)


def _above(values: Sequence[int], least: int) -> tuple[int, Sequence[int]]:
    width = _width_of(max(values, default=least) - least)
    return width, [value - least for value in values] if least else values


def _section(width: int, values: Sequence[int]) -> bytes:
    if width == 0:
        return b""
    if width == _WIDEST:
        words = ((value & _UINT64_MAX, value >> 64) for value in values)
        return bytes(array("Q", chain.from_iterable(words)))
    return bytes(array(_CODES[width], values))


def decode_tally(blob: bytes) -> Tally:
    """The tally of a blob. Raises `ValueError` naming what is damaged."""
    found = _read(blob)
    names = [
        bytes(found.text[start:end]).decode() for start, end in pairwise(found.offsets.cast("I"))
    ]
    columns = [[names[number] for number in column.values()] for column in found.name_numbers]
    flows = zip(*columns, found.hour.values(), strict=True)
    sums = zip(
        found.bytes_rx.values(), found.bytes_tx.values(), found.records.values(), strict=True
    )
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
    rows: int = _HEADER.unpack_from(blob)[2]
    return rows


def blob_hours(blob: bytes) -> set[int]:
    """The hour labels a blob touches. Raises `ValueError` naming what is damaged."""
    return set(_read(blob).hour.values())


def blobs_to_arrow(blobs: Sequence[bytes]) -> pa.Table:
    """The rows of several blobs, at least one, one after the other, not merged.

    Columns: `src_app, dest_app, vpc_id` (string), `hour` (int64), `bytes_rx, bytes_tx`
    (decimal128(38, 0)), `records` (int64). Raises `ValueError` for a damaged blob.
    """
    import pyarrow as pa

    return pa.concat_tables([_to_arrow(_read(blob)) for blob in blobs])


def _to_arrow(found: _Blob) -> pa.Table:
    import pyarrow as pa

    names = pa.StringArray.from_buffers(
        found.names, pa.py_buffer(found.offsets), pa.py_buffer(found.text)
    )
    decimal = pa.decimal128(38, 0)
    columns = {
        name: names.take(_as_arrow(column, pa.int64()))
        for name, column in zip(("src_app", "dest_app", "vpc_id"), found.name_numbers, strict=True)
    }
    columns["hour"] = _as_arrow(found.hour, pa.int64())
    columns["bytes_rx"] = _as_arrow(found.bytes_rx, decimal)
    columns["bytes_tx"] = _as_arrow(found.bytes_tx, decimal)
    columns["records"] = _as_arrow(found.records, pa.int64())
    return pa.table(columns)


def _as_arrow(column: _Column, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.width == 0:
        return pa.repeat(pa.scalar(column.least, kind), column.rows)
    kinds = {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64(), _WIDEST: kind}
    values = pa.Array.from_buffers(
        kinds[column.width], column.rows, [None, pa.py_buffer(column.section)]
    ).cast(kind)
    return pc.add(values, pa.scalar(column.least, kind)) if column.least else values


def _read(blob: bytes) -> _Blob:
    """Checks a blob and finds its sections; nothing is copied."""
    if len(blob) < _HEADER.size + _CHECKSUM.size:
        raise ValueError("a tally is cut off")
    header = _HEADER.unpack_from(blob)
    magic, version, rows, names, text_bytes, hour_least, *widths, records_least = header
    if magic != _MAGIC or version != VERSION:
        raise ValueError(f"a tally has an unknown format: {blob[:3].hex()}")
    body = memoryview(blob)[: -_CHECKSUM.size]
    if zlib.crc32(body) != _CHECKSUM.unpack(blob[-_CHECKSUM.size :])[0]:
        raise ValueError("a tally does not match its checksum")
    of_names, of_hour, of_records, of_rx, of_tx = widths
    # Rows are different flows, so that no more than one can do without a name and an hour. A few
    # bytes could else say that they hold four billion rows, and somebody would count them.
    if rows > 1 and of_names == of_hour == 0:
        raise ValueError("a tally has more rows than flows")
    at = _HEADER.size

    def section(size: int) -> memoryview:
        nonlocal at
        found = body[at : at + size]
        at += size + -size % _PAD
        return found

    def column(width: int, least: int = 0) -> _Column:
        return _Column(section(width * rows), width, rows, least)

    found = _Blob(
        rows,
        names,
        section(4 * (names + 1)),
        section(text_bytes),
        tuple(column(of_names) for _ in range(3)),
        column(of_hour, hour_least),
        column(of_records, records_least),
        column(of_rx),
        column(of_tx),
    )
    if at != len(body):
        raise ValueError("a tally's columns do not fill it")
    if not {*widths} <= {0, *_CODES, _WIDEST} or max(widths[:3]) == _WIDEST:
        raise ValueError("a tally has values of an unknown size")
    return found
