"""Arrow IPC streams into tallies, by the same rules as JSON.

Bounded before it is believed. First the messages are counted and looked at: compressed buffers are
refused (Content-Encoding does that, within a bound), delta dictionaries too, and the stream must
end with its end-of-stream marker, because a cut one looks complete otherwise. Then each batch: its
rows, the bytes that all its columns and dictionaries reach, and the strings that views point at,
which may overlap. Only then is it validated in full, because an offset may point anywhere, and
turned into Python. Columns other than the six are not read at all.

Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge
from flowtally.model import Tally
from flowtally.wire import kernel
from flowtally.wire.close_look import require_count
from flowtally.wire.fields import NAME_FIELDS, RECORD_FIELDS
from flowtally.wire.json_records import Record, sum_records
from flowtally.wire.rules import INTEGER_MAX, Faults, names_are_good

if TYPE_CHECKING:
    import pyarrow as pa

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_VIEW_BYTES = 16


def decode_arrow(body: bytes, records_max: int, decoded_bytes_max: int) -> tuple[Tally, int]:
    """The tally of an Arrow stream of records, and how many they were."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    records = bytes_reached = 0
    try:
        _check_messages(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            positions = _positions(stream.schema)
        options = pa.ipc.IpcReadOptions(included_fields=positions, use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(body), options=options) as stream:
            for batch in stream:
                records += batch.num_rows
                require_count(records, records_max)
                # Cheap, and first: of what it refuses not even the length can be asked.
                batch.validate()
                bytes_reached += _bytes_reached(batch, records_max)
                if bytes_reached > decoded_bytes_max:
                    raise TooLarge(f"the Arrow stream has more than {decoded_bytes_max} bytes")
                batch.validate(full=True)
                batches.append(batch)
            rows = pa.Table.from_batches(batches, stream.schema).select(list(RECORD_FIELDS))
        return kernel.tally_arrow(rows, records_max) or _sum(batches)
    except (
        pa.ArrowException,
        struct.error,
        OSError,
        ValueError,
        LookupError,
        # What pyarrow itself makes of a column that contradicts itself.
        TypeError,
        SystemError,
    ) as error:
        raise InvalidInput(f"the body is not a valid Arrow stream: {_first_line(error)}") from error


def _sum(batches: Iterable[pa.RecordBatch]) -> tuple[Tally, int]:
    columns: list[list[Any]] = [[] for _ in RECORD_FIELDS]
    good = True
    for batch in batches:
        good = _integers_are_good(batch) and good
        for column, field in zip(columns, RECORD_FIELDS, strict=True):
            column.extend(_values(batch.column(field)))
    names = {name for column in columns[: len(NAME_FIELDS)] for name in column}
    if not (good and None not in names and names_are_good(names)):
        faults = Faults()
        for index, values in enumerate(zip(*columns, strict=True)):
            faults.add_record(index, dict(zip(RECORD_FIELDS, values, strict=True)))
        faults.raise_if_any()
    tally, _ = sum_records(map(Record, *columns))
    return tally, len(columns[0])


def _check_messages(body: bytes) -> None:
    """Raises `InvalidInput` where the messages of a stream are not such as are read here."""
    import pyarrow as pa

    source = pa.BufferReader(body)
    messages = pa.ipc.MessageReader.open_stream(source)
    count = 0
    while True:
        end = source.tell()
        try:
            message = messages.read_next_message()
        except StopIteration:
            break
        count += 1
        if count > limits.ARROW_MESSAGES_MAX:
            raise TooLarge(f"the Arrow stream has more than {limits.ARROW_MESSAGES_MAX} messages")
        if message.type in ("record batch", "dictionary"):
            _check_metadata(memoryview(message.metadata), message.type)
    if body[end:] != _END_OF_STREAM:
        raise InvalidInput("the Arrow stream does not end with its end marker: it is cut off")


def _check_metadata(metadata: memoryview, kind: str) -> None:
    """Looks into a message's flatbuffer, which pyarrow has verified but does not show.

    Tables and field numbers: https://github.com/apache/arrow/blob/main/format/Message.fbs
    """
    message = _follow(metadata, 0)
    batch = _follow(metadata, _field(metadata, message, 2))
    if kind == "dictionary":
        is_delta = _field(metadata, batch, 2)
        if is_delta and metadata[is_delta]:
            raise InvalidInput("delta dictionaries are not read; send each dictionary whole")
        batch = _follow(metadata, _field(metadata, batch, 1))
    if _field(metadata, batch, 3):
        raise InvalidInput(
            "compressed Arrow buffers are not read; compress the whole body, with Content-Encoding"
        )


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table stands; 0 where it is absent."""
    layout = table - int(struct.unpack_from("<i", metadata, table)[0])
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", metadata, layout)[0]:
        return 0
    offset: int = struct.unpack_from("<H", metadata, layout + slot)[0]
    return table + offset if offset else 0


def _follow(metadata: memoryview, position: int) -> int:
    return position + int(struct.unpack_from("<I", metadata, position)[0])


def _positions(schema: pa.Schema) -> list[int]:
    """Where each field's column stands. Raises `InvalidInput` naming every wrong column."""
    import pyarrow as pa

    faults: list[str] = []
    positions = []
    for field in RECORD_FIELDS:
        found = schema.get_all_field_indices(field)
        if len(found) != 1:
            faults.append(f"{field} occurs {len(found)} times" if found else f"{field} is missing")
            continue
        positions.append(found[0])
        kind = schema.field(found[0]).type
        fits = pa.types.is_integer(kind)
        if field in NAME_FIELDS:
            value = kind.value_type if pa.types.is_dictionary(kind) else kind
            fits = value in (pa.string(), pa.large_string(), pa.string_view())
        if not fits:
            faults.append(f"{field} is of type {str(kind)[:80]}")
    if faults:
        raise InvalidInput(
            "the Arrow stream needs one string column for each name and one integer column for"
            f" each number: {', '.join(faults)}"
        )
    return positions


def _bytes_reached(batch: pa.RecordBatch, records_max: int) -> int:
    """The bytes of a batch's buffers and dictionaries, and of all that its views point at."""
    import pyarrow as pa

    reached: int = batch.get_total_buffer_size()
    for column in batch.columns:
        array: Any = column
        if pa.types.is_dictionary(array.type):
            array = array.dictionary
            if len(array) > records_max:
                raise TooLarge(f"a dictionary has more than {records_max} values")
        if pa.types.is_string_view(array.type) and len(array):
            views = memoryview(array.buffers()[1])
            for index in range(array.offset, array.offset + len(array)):
                reached += struct.unpack_from("<I", views, _VIEW_BYTES * index)[0]
    return reached


def _integers_are_good(batch: pa.RecordBatch) -> bool:
    import pyarrow.compute as pc

    for field, integer_max in INTEGER_MAX.items():
        column = batch.column(field)
        if column.null_count:
            return False
        bounds = pc.min_max(column).as_py()
        if len(column) and not 0 <= bounds["min"] <= bounds["max"] <= integer_max:
            return False
    return True


def _values(column: Any) -> list[Any]:
    """A column as Python values; a dictionary's strings are made once and shared."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        values: list[Any] = column.to_pylist()
        return values
    names = column.dictionary.to_pylist()
    return [None if index is None else names[index] for index in column.indices.to_pylist()]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
