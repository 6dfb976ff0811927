"""The parts of one hour in the results database: rows are merged into those that they fall into.

The parts of an hour and arrival hour follow each other in the order of their flows, like the leaves
of a tree, so a merge reads and writes only the parts that the new rows fall into, and never holds
more than one of them. All of it happens on the cursor of an open transaction.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from flowtally.errors import DamagedData
from flowtally.stores.hourly.parts import (
    AMOUNTS,
    RECORDS,
    account_of,
    decode_part,
    encode_part,
    flow_at,
    negated,
    summed,
)
from flowtally.stores.hourly.results import ALL

PART_FLOWS_MAX = 65_536
"""A larger part is cut: most hours are one, and rewriting one costs some tens of milliseconds."""
_CUT_SHARE = 0.75
"""How full the pieces of a part are that is cut: they can grow before they are cut again."""


def add_rows(cursor: sqlite3.Cursor, hour: int, arrivals: Sequence[tuple[int, pa.Table]]) -> None:
    """Adds rows to an hour, given by arrival hour; each table is sorted and has a flow once."""
    held = _arrival_hours(cursor, hour)
    coming = {arrival_hour for arrival_hour, _ in arrivals}
    if len(coming.union(held) - {ALL}) > 1:
        if held and ALL not in held:
            _copy_to_all(cursor, hour, held[0])
        for _, rows in arrivals:
            _merge(cursor, hour, ALL, rows)
    for arrival_hour, rows in arrivals:
        _merge(cursor, hour, arrival_hour, rows)


def drop_arrivals(cursor: sqlite3.Cursor, hour: int, before: int) -> bool:
    """Drops what arrived before an arrival hour; True if the hour has nothing left."""
    held = [arrival_hour for arrival_hour in _arrival_hours(cursor, hour) if arrival_hour != ALL]
    gone = [arrival_hour for arrival_hour in held if arrival_hour < before]
    if len(held) - len(gone) > 1:
        # Exact, since sums are integers and each flow has the number of its records: one that
        # has none left is gone. Less is read and written than in summing up what stays.
        for arrival_hour in gone:
            for rows in tables_of(cursor, hour, arrival_hour):
                _merge(cursor, hour, ALL, negated(rows))
    else:
        gone.append(ALL)
    for arrival_hour in gone:
        cursor.execute(
            "DELETE FROM parts WHERE hour = ? AND arrival_hour = ?", (hour, arrival_hour)
        )
    return not _arrival_hours(cursor, hour)


def served_arrival_hour(reader: sqlite3.Connection, hour: int) -> int | None:
    """Which parts an hour is answered from: those of `ALL`, or of its only arrival hour."""
    found: int | None = reader.execute(
        "SELECT MIN(arrival_hour) FROM parts WHERE hour = ?", (hour,)
    ).fetchone()[0]
    return found


def tables_of(
    reader: sqlite3.Connection | sqlite3.Cursor, hour: int, arrival_hour: int
) -> Iterator[pa.Table]:
    """The tables of the parts, in order, one at a time. Raises `DamagedData`."""
    numbers = reader.execute(
        "SELECT part FROM parts WHERE hour = ? AND arrival_hour = ? ORDER BY first_flow",
        (hour, arrival_hour),
    ).fetchall()
    for (part,) in numbers:
        yield read_part(reader, part)


def read_part(reader: sqlite3.Connection | sqlite3.Cursor, part: int) -> pa.Table:
    """The table of one part. Raises `DamagedData`."""
    [(hour, sums)] = reader.execute(
        "SELECT hour, sums FROM parts WHERE part = ?", (part,)
    ).fetchall()
    try:
        return decode_part(sums)
    except (ValueError, pa.ArrowException) as error:
        raise DamagedData(f"results.sqlite is damaged: {error}, in hour {hour}") from error


def _arrival_hours(cursor: sqlite3.Cursor, hour: int) -> list[int]:
    rows = cursor.execute(
        "SELECT DISTINCT arrival_hour FROM parts WHERE hour = ? ORDER BY arrival_hour", (hour,)
    )
    return [arrival_hour for (arrival_hour,) in rows]


def _copy_to_all(cursor: sqlite3.Cursor, hour: int, arrival_hour: int) -> None:
    cursor.execute(
        "INSERT INTO parts SELECT NULL, hour, ?, flows, records, bytes_rx, bytes_tx, first_flow,"
        " sums FROM parts WHERE hour = ? AND arrival_hour = ?",
        (ALL, hour, arrival_hour),
    )


def _merge(cursor: sqlite3.Cursor, hour: int, arrival_hour: int, rows: pa.Table) -> None:
    """Sums rows into the parts that they fall into."""
    held = cursor.execute(
        "SELECT part, first_flow FROM parts WHERE hour = ? AND arrival_hour = ?"
        " ORDER BY first_flow",
        (hour, arrival_hour),
    ).fetchall()
    if not held:
        _write(cursor, hour, arrival_hour, rows)
        return
    # What comes before the first part goes into it.
    starts = [0] + [
        bisect_left(range(rows.num_rows), first, key=lambda row: flow_at(rows, row))
        for _, first in held[1:]
    ]
    for (part, _), start, end in zip(held, starts, [*starts[1:], rows.num_rows], strict=True):
        if start < end:
            merged = summed([read_part(cursor, part), rows.slice(start, end - start)])
            cursor.execute("DELETE FROM parts WHERE part = ?", (part,))
            _write(cursor, hour, arrival_hour, _left_of(merged))


def _left_of(merged: pa.Table) -> pa.Table:
    """Without the flows that have no record left."""
    least = min(pc.min(merged[name]).as_py() for name in AMOUNTS)
    if least < 0:
        raise DamagedData("results.sqlite is damaged: more is to be dropped of an hour than it has")
    return merged.filter(pc.greater(merged[RECORDS], 0))


def _write(cursor: sqlite3.Cursor, hour: int, arrival_hour: int, rows: pa.Table) -> None:
    """Writes rows as new parts, as many as their number needs."""
    count = 1
    if rows.num_rows > PART_FLOWS_MAX:
        count = -(-rows.num_rows // int(PART_FLOWS_MAX * _CUT_SHARE))
    edges = [rows.num_rows * index // count for index in range(count + 1)]
    for start, end in pairwise(edges):
        if start < end:
            part = rows.slice(start, end - start)
            account = account_of(part)
            cursor.execute(
                "INSERT INTO parts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    hour,
                    arrival_hour,
                    part.num_rows,
                    account.records,
                    str(account.bytes_rx),
                    str(account.bytes_tx),
                    flow_at(part, 0),
                    encode_part(part),
                ),
            )
