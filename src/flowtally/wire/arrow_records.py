"""Arrow IPC streams into tallies, by the same rules as JSON.

Bounded before it is believed: the rows of every batch are counted before they are turned into
Python, compressed buffers are refused (Content-Encoding does that, within a bound), and every
buffer is validated, because an offset may point anywhere.

The stream must end with its end-of-stream marker: a cut one looks complete otherwise.
Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowtally.errors import InvalidInput, TooLarge
from flowtally.model import Tally
from flowtally.wire.fields import NAME_FIELDS, RECORD_FIELDS
from flowtally.wire.json_records import Record, sum_records
from flowtally.wire.rules import Faults, field_fault

if TYPE_CHECKING:
    import pyarrow as pa

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def decode_arrow(
    body: bytes, records_max: int, decoded_bytes_max: int
) -> tuple[Tally, int]:
    """The tally of an Arrow stream of records, and how many they were."""
    import pyarrow as pa

    if not body.rstrip(b"\0").endswith(_END_OF_STREAM.rstrip(b"\0")):
        raise InvalidInput("the Arrow stream has no end marker: it is cut off")
    columns: list[Sequence[object]] = [[] for _ in RECORD_FIELDS]
    records = 0
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            positions = _positions(stream.schema)
            for batch in stream:
                records += batch.num_rows
                if records > records_max:
                    raise TooLarge(f"the batch has more than {records_max} records")
                if batch.get_total_buffer_size() > decoded_bytes_max:
                    raise TooLarge(
                        f"an Arrow batch has more than {decoded_bytes_max} bytes"
                    )
                batch.validate(full=True)
                for values, position in zip(columns, positions, strict=True):
                    values.extend(batch.column(position).to_pylist())  # type: ignore[attr-defined]
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the body is not a valid Arrow stream: {_first_line(error)}"
        ) from error
    _refuse_bad(columns)
    tally = sum_records(map(Record, *columns)) if records else Tally()
    assert tally is not None
    return tally, records


def _positions(schema: pa.Schema) -> list[int]:
    """Where each field's column stands. Raises `InvalidInput` naming every wrong column."""
    import pyarrow as pa

    faults: list[str] = []
    positions = []
    for field in RECORD_FIELDS:
        found = schema.get_all_field_indices(field)
        positions.append(found[0] if found else -1)
        if len(found) != 1:
            faults.append(f"{field} occurs {len(found)} times")
            continue
        kind = schema.field(found[0]).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if field in NAME_FIELDS:
            fits = pa.types.is_string(kind) or pa.types.is_large_string(kind)
            fits = fits or pa.types.is_string_view(kind)
        else:
            fits = pa.types.is_integer(kind)
        if not fits:
            faults.append(f"{field} is of type {kind}")
    if faults:
        raise InvalidInput(
            "the Arrow stream needs one string column for each name and one integer column for"
            f" each number: {', '.join(faults)}"
        )
    return positions


def _refuse_bad(columns: list[Sequence[object]]) -> None:
    """Names every bad value; distinct names are looked at once."""
    faults = Faults()
    bad: list[tuple[int, int]] = []
    for position, (field, values) in enumerate(
        zip(RECORD_FIELDS, columns, strict=True)
    ):
        wrong = {
            value for value in set(values) if field_fault(field, value) is not None
        }
        if wrong:
            bad += [
                (index, position)
                for index, value in enumerate(values)
                if value in wrong
            ]
    for index, position in sorted(bad):
        field, value = RECORD_FIELDS[position], columns[position][index]
        faults.add(f"/{index}/{field}", field_fault(field, value) or "")
    if faults.total:
        raise faults.error()


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
