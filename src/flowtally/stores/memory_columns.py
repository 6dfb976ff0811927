"""The memory store's state as columns, and back: what stands in the rows of its snapshot.

One schema for three kinds of row, told apart by `kind`; what a kind does not have is null. Made in
small parts, because Python runs nothing else while Arrow reads a part's values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import pyarrow as pa

from flowtally.model import Revision
from flowtally.stores.memory_state import Captured, Known, Rows

_DECIMAL = pa.decimal128(38, 0)
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("hour", pa.int64()),
        ("arrival_hour", pa.int64()),
        ("src_app", pa.string()),
        ("dest_app", pa.string()),
        ("vpc_id", pa.string()),
        ("bytes_rx", _DECIMAL),
        ("bytes_tx", _DECIMAL),
        ("records", pa.int64()),
        ("revision", pa.int64()),
        ("changed_ms", pa.int64()),
        ("batch_id", pa.string()),
        ("fingerprint", pa.binary()),
        ("flows", pa.int64()),
        ("arrived_ms", pa.int64()),
    ]
)
WRITTEN: dict[str, Any] = {
    "compression": "zstd",
    # To look for repeated values costs four times as much as writing where there are none.
    "use_dictionary": ["kind", "src_app", "dest_app", "vpc_id"],
    "write_statistics": False,
}
_ROWS_AT_ONCE = 2_000
_ROWS_IN_GROUP = 200_000
_WORD = 2**64


def rows_in(state: Captured) -> dict[str, int]:
    """How many rows there are of each kind."""
    return {"sums": state.flows, "hour": len(state.revisions), "batch_id": len(state.known)}


def tables_of(state: Captured) -> Iterator[pa.Table]:
    """All rows, in groups of one kind each."""
    yield from _grouped("sums", _sums(state))
    yield from _grouped("hour", _hours(state))
    yield from _grouped("batch_id", _batch_ids(state))


def _grouped(kind: str, parts: Iterator[dict[str, Sequence[Any]]]) -> Iterator[pa.Table]:
    while group := [_table(part) for part in islice(parts, _ROWS_IN_GROUP // _ROWS_AT_ONCE)]:
        found = pa.concat_tables(group)
        found = found.append_column("kind", pa.repeat(pa.scalar(kind), len(found)))
        for field in SCHEMA:
            if field.name not in found.column_names:
                found = found.append_column(field.name, pa.nulls(len(found), field.type))
        yield found.select(SCHEMA.names)


def _table(columns: dict[str, Sequence[Any]]) -> pa.Table:
    return pa.table(
        {name: _array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == _DECIMAL and max(values) < _WORD:
        # Four times as fast, and nearly all sums are small.
        return pa.array(values, pa.uint64()).cast(kind)
    return pa.array(values, kind)


# Loops of Python, and not `zip(*rows)`, which would be faster: between two turns of a loop another
# thread may run. And no tuple for each row, which would bring the garbage collector to look through
# all that the store holds, again and again, while everybody waits.


def _sums(state: Captured) -> Iterator[dict[str, Sequence[Any]]]:
    # Across the pieces: there may be as many of them as flows.
    keys = chain.from_iterable(rows for _, _, rows in state.pieces)
    values = chain.from_iterable(rows.values() for _, _, rows in state.pieces)
    arrivals = chain.from_iterable(repeat(at, len(rows)) for _, at, rows in state.pieces)
    while flows := list(islice(keys, _ROWS_AT_ONCE)):
        sums = list(islice(values, _ROWS_AT_ONCE))
        yield {
            "hour": [flow[3] for flow in flows],
            "arrival_hour": list(islice(arrivals, _ROWS_AT_ONCE)),
            "src_app": [flow[0] for flow in flows],
            "dest_app": [flow[1] for flow in flows],
            "vpc_id": [flow[2] for flow in flows],
            "bytes_rx": [row[0] for row in sums],
            "bytes_tx": [row[1] for row in sums],
            "records": [row[2] for row in sums],
        }


def _hours(state: Captured) -> Iterator[dict[str, Sequence[Any]]]:
    keys, values = iter(state.revisions), iter(state.revisions.values())
    while hours := list(islice(keys, _ROWS_AT_ONCE)):
        revisions = list(islice(values, _ROWS_AT_ONCE))
        yield {
            "hour": hours,
            "revision": [revision.number for revision in revisions],
            "changed_ms": [revision.changed_ms for revision in revisions],
        }


def _batch_ids(state: Captured) -> Iterator[dict[str, Sequence[Any]]]:
    keys, values = iter(state.known), iter(state.known.values())
    while batch_ids := list(islice(keys, _ROWS_AT_ONCE)):
        known = list(islice(values, _ROWS_AT_ONCE))
        yield {
            "batch_id": batch_ids,
            "fingerprint": [one[0] for one in known],
            "records": [one[1] for one in known],
            "flows": [one[2] for one in known],
            # Upwards: rather a millisecond too long than forgotten early.
            "arrived_ms": [
                state.taken_ms - math.floor((state.taken_s - one[3]) * 1000) for one in known
            ],
        }


def state_in(tables: Iterable[pa.Table], bare: Captured) -> Captured:
    """The state with the rows of these tables. Raises `ValueError` where they are not such."""
    pieces: dict[tuple[int, int], Rows] = {}
    revisions: dict[int, Revision] = {}
    known: dict[str, Known] = {}
    for table in tables:
        if not table.schema.equals(SCHEMA):
            raise ValueError("its columns are not those of a snapshot")
        [kind] = table.column("kind").unique().to_pylist()
        if kind == "sums":
            _take_sums(table, pieces)
        elif kind == "hour":
            numbers, changed = _values(table, "revision"), _values(table, "changed_ms")
            found = map(Revision, numbers, changed)
            revisions.update(zip(_values(table, "hour"), found, strict=True))
        elif kind == "batch_id":
            arrived_s = [(one - bare.taken_ms) / 1000 for one in _values(table, "arrived_ms")]
            columns = [_values(table, name) for name in ("fingerprint", "records", "flows")]
            found_known = zip(*columns, arrived_s, strict=True)
            known.update(zip(_values(table, "batch_id"), found_known, strict=True))
        else:
            raise ValueError(f"it has rows of an unknown kind: {kind!r}")
    held = tuple((hour, arrival_hour, rows) for (hour, arrival_hour), rows in pieces.items())
    return replace(bare, pieces=held, revisions=revisions, known=known)


def _take_sums(table: pa.Table, pieces: dict[tuple[int, int], Rows]) -> None:
    hours = _values(table, "hour")
    names = [_values(table, name) for name in ("src_app", "dest_app", "vpc_id")]
    sums = [_integers(table, name) for name in ("bytes_rx", "bytes_tx")]
    flows = zip(*names, hours, strict=True)
    rows = zip(*sums, _values(table, "records"), strict=True)
    for arrival_hour, flow, row in zip(_values(table, "arrival_hour"), flows, rows, strict=True):
        pieces.setdefault((flow[3], arrival_hour), {})[flow] = row


def _values(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table.column(name).to_pylist()
    return values


def _integers(table: pa.Table, name: str) -> list[int]:
    """Decimals as integers: two words each, the lower one first."""
    words: list[int] = []
    for chunk in table.column(name).chunks:
        _, values = chunk.buffers()
        first = 2 * chunk.offset
        words += memoryview(values).cast("Q")[first : first + 2 * len(chunk)].tolist()
    return [low | high << 64 for low, high in zip(words[::2], words[1::2], strict=True)]
