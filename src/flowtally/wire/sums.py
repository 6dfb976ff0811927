"""Sums into bytes, in every format that a read may ask for.

Text is made column by column by Arrow's kernels, outside of Python: 50,000 flows cost a tenth of
what a Python object per row does. Names hold no control character, so JSON needs to escape only
the quote and the backslash. Integers are written in full, whatever their size.

Arrow and Parquet carry `bytes_rx` and `bytes_tx` as decimal128(38, 0), always: a column's type must
not depend on how much was sent. The same rows give the same bytes in whatever chunks they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flowtally.model import Sums
from flowtally.wire import kernel
from flowtally.wire.fields import NAME_FIELDS, RECORD_FIELDS
from flowtally.wire.media import SumsFormat

_ROWS_AT_ONCE = 100_000
"""Arrow's strings have 32-bit offsets: a part of this size stays far below 2 GiB."""
_CSV_FORMULA = r"^[=+\-@]"


def encode_answer(sums: Sums, form: SumsFormat) -> bytes:
    """The sums of a read in a format."""
    written = kernel.answer(sums, form)
    return encode_sums(sums.table, form) if written is None else written


def encode_sums(table: pa.Table, form: SumsFormat) -> bytes:
    """The rows of `model.Sums.table` in a format; of JSON an array of objects with six fields."""
    rows = table.select(list(RECORD_FIELDS))
    written = kernel.sums(rows, form)
    return _WRITERS[form](rows) if written is None else written


def _json(table: pa.Table) -> bytes:
    return b"[" + _text(table, _json_object, ",").removesuffix(b",") + b"]"


def _ndjson(table: pa.Table) -> bytes:
    return _text(table, _json_object, "\n")


def _csv(table: pa.Table) -> bytes:
    header = ",".join(RECORD_FIELDS).encode() + b"\r\n"
    return header + _text(table, _csv_line, "\r\n")


def _text(table: pa.Table, line_of: Callable[[pa.RecordBatch, str], Any], end: str) -> bytes:
    parts = []
    for batch in table.combine_chunks().to_batches(max_chunksize=_ROWS_AT_ONCE):
        _, offsets, text = line_of(batch, end).buffers()
        # Arrow keeps the strings of an array end to end: that is the text, as it is wanted.
        length = memoryview(offsets).cast("i")[batch.num_rows]
        parts.append(text.slice(0, length).to_pybytes())
    return b"".join(parts)


def _json_object(batch: pa.RecordBatch, end: str) -> Any:
    pieces: list[Any] = []
    for field in RECORD_FIELDS:
        pieces.append(f'{"," if pieces else "{"}"{field}":')
        column = batch.column(field)
        if field in NAME_FIELDS:
            pieces += ['"', _escaped(column), '"']
        else:
            pieces.append(_digits(column))
    return _join(pieces, "}" + end)


def _escaped(column: pa.StringArray) -> pa.StringArray:
    # Hardly any name needs it, and to look is a fiftieth of what the two passes cost.
    if column.type == pa.string() and not _holds(column, (b'"', b"\\")):
        return column
    return pc.replace_substring(pc.replace_substring(column, "\\", "\\\\"), '"', '\\"')


def _holds(column: pa.StringArray, marks: tuple[bytes, ...]) -> bool:
    """Whether any text of the column has one of the marks; it may be a slice of a longer one."""
    _, offsets, text = column.buffers()
    if not len(column) or text is None:
        return False
    ends = memoryview(offsets).cast("i")
    first, last = ends[column.offset], ends[column.offset + len(column)]
    found = text.slice(first, last - first).to_pybytes()
    return any(mark in found for mark in marks)


def _digits(column: Any) -> Any:
    bounds = pc.min_max(column)
    # The hour, as a rule: what all rows have in common need not be written row by row.
    if bounds["min"].is_valid and bounds["min"] == bounds["max"]:
        return str(bounds["min"].as_py())
    return column.cast(pa.string())


def _csv_line(batch: pa.RecordBatch, end: str) -> Any:
    pieces: list[Any] = []
    for field in RECORD_FIELDS:
        column = batch.column(field)
        if field in NAME_FIELDS:
            # A spreadsheet runs a cell that begins so; a leading quote makes it text.
            column = pc.replace_substring_regex(column, _CSV_FORMULA, r"'\0")
            quoted = _join(['"', pc.replace_substring(column, '"', '""')], '"')
            column = pc.if_else(pc.match_substring_regex(column, '[",\r\n]'), quoted, column)
        else:
            column = column.cast(pa.string())
        pieces += [",", column] if pieces else [column]
    return _join(pieces, end)


def _join(pieces: list[Any], end: str) -> Any:
    """Texts and columns of texts, side by side; every piece of them is a pass over all rows."""
    joined: list[Any] = []
    for piece in (*pieces, end):
        if joined and isinstance(piece, str) and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return pc.binary_join_element_wise(*joined, "")


def _arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet

    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table.combine_chunks(), sink, compression="zstd")
    return bytes(sink.getvalue())


_WRITERS: dict[SumsFormat, Callable[[pa.Table], bytes]] = {
    SumsFormat.JSON: _json,
    SumsFormat.NDJSON: _ndjson,
    SumsFormat.CSV: _csv,
    SumsFormat.ARROW: _arrow,
    SumsFormat.PARQUET: _parquet,
}
