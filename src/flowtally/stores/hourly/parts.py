"""A part: some finished sums of one hour, sorted by flow, as bytes.

A part is an Arrow IPC stream behind a checksum: names as dictionaries, columns compressed. Sorted
names compress to next to nothing, so a flow takes a dozen bytes, and a part becomes a table without
a loop over its rows. It is drawn in `docs/internals/data-folder.md`.

`table` here always has the columns `src_app, dest_app, vpc_id` (string), `bytes_rx, bytes_tx`
(decimal128(38, 0)) and `records` (int64), one row per flow, sorted by names in UTF-8 byte order.
"""

from __future__ import annotations

import struct
import zlib

import pyarrow as pa
import pyarrow.compute as pc

from flowtally.model import Account
from flowtally.wire.fields import BYTE_FIELDS, NAME_FIELDS

RECORDS = "records"
AMOUNTS = (*BYTE_FIELDS, RECORDS)
"""The columns that are summed."""
_HEADER = struct.Struct("<2sBxI")
_MAGIC = b"FP"
_VERSION = 1
_DICTIONARY_FLOWS_MIN = 32
"""In a smaller part a dictionary, and what a compressor writes around it, weigh more than they
save."""


def encode_part(table: pa.Table) -> bytes:
    """The bytes of a part."""
    compression = None
    if table.num_rows >= _DICTIONARY_FLOWS_MIN:
        compression = "zstd"
        for index, name in enumerate(NAME_FIELDS):
            table = table.set_column(index, name, pc.dictionary_encode(table[name]))
        table = table.unify_dictionaries()
    table = table.combine_chunks()
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    stream = bytes(sink.getvalue())
    return _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(stream)) + stream


def decode_part(part: bytes) -> pa.Table:
    """The table of a part. Raises `ValueError` naming what is damaged."""
    if len(part) < _HEADER.size:
        raise ValueError("a part is cut off")
    magic, version, checksum = _HEADER.unpack_from(part)
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"a part has an unknown format: {part[:3].hex()}")
    stream = memoryview(part)[_HEADER.size :]
    if zlib.crc32(stream) != checksum:
        raise ValueError("a part does not match its checksum")
    table = pa.ipc.open_stream(pa.py_buffer(stream)).read_all()
    for index, name in enumerate(NAME_FIELDS):
        table = table.set_column(index, name, table[name].cast(pa.string()))
    return table


def account_of(table: pa.Table) -> Account:
    """What the rows add up to; how many batches they came in they do not tell."""
    rx, tx, records = (int(pc.sum(table[name]).as_py() or 0) for name in AMOUNTS)
    return Account(0, records, rx, tx)


def flow_at(table: pa.Table, row: int) -> bytes:
    """A row's flow as bytes that sort as flows do: no name holds the separator, and every byte
    of a name sorts after it."""
    return b"\0".join(table[name][row].as_py().encode() for name in NAME_FIELDS)


def flows_of(table: pa.Table) -> pa.Array:
    """All flows, likewise, as text."""
    return pc.binary_join_element_wise(*(table[name] for name in NAME_FIELDS), "\0")


def summed(tables: list[pa.Table], keys: tuple[str, ...] = NAME_FIELDS) -> pa.Table:
    """The rows of several tables as one, summed by `keys` and sorted by them."""
    together = pa.concat_tables(tables)
    grouped = together.group_by(keys, use_threads=False).aggregate(
        [(name, "sum") for name in AMOUNTS]
    )
    columns = [grouped[key] for key in keys]
    for name in AMOUNTS:
        # Arrow may widen a decimal that it sums; what is stored has one type.
        columns.append(grouped[f"{name}_sum"].cast(together.schema.field(name).type))
    table = pa.table(columns, names=[*keys, *AMOUNTS])
    return table.sort_by([(key, "ascending") for key in keys])


def negated(table: pa.Table) -> pa.Table:
    """The same flows with all amounts below zero: summed with others, they are taken away."""
    for name in AMOUNTS:
        table = table.set_column(table.schema.get_field_index(name), name, pc.negate(table[name]))
    return table
