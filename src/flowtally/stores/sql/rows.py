"""Batches as the rows that go into the table of events: one transaction's tallies, merged by flow.

Bytes are 64 bits wide in the tables. A sum that needs more is written as several rows, each of
which fits: rows are summed when they are read, so any split of one is the same sum. No batch can
make more rows by that than it has records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flowtally.ingest.journal_rows import Pending
from flowtally.model import MILLISECONDS_PER_HOUR, Batch
from flowtally.stores.incoming import incoming_of
from flowtally.wire.blob import encode_tallies

COLUMNS = (
    "arrival_hour",
    "hour",
    "src_app",
    "dest_app",
    "vpc_id",
    "bytes_rx",
    "bytes_tx",
    "records",
)
NAMES = ("src_app", "dest_app", "vpc_id")
BYTES = ("bytes_rx", "bytes_tx")
_FITS_MAX = 2**63 - 1


def rows_of(batches: Sequence[Batch], arrival_hour: int) -> pa.Table:
    """The rows of several batches, with `COLUMNS`; the four numbers behind the names are int64."""
    tallies = [batch.tally for batch in batches if len(batch.tally)]
    if not tallies:
        return _SCHEMA.empty_table()
    arrived_ms = arrival_hour * MILLISECONDS_PER_HOUR
    pending = [Pending(1, arrival_hour, arrived_ms, len(tallies), encode_tallies(tallies))]
    found = incoming_of(pending).table.select(COLUMNS)
    if any(_larger_than_fits(found, name) for name in BYTES):
        found = pa.Table.from_pylist(
            [part for row in found.to_pylist() for part in _split(row)], schema=_SCHEMA
        )
    return found.cast(_SCHEMA)


_SCHEMA = pa.schema([(name, pa.string() if name in NAMES else pa.int64()) for name in COLUMNS])


def _larger_than_fits(table: pa.Table, name: str) -> bool:
    largest = pc.max(table.column(name)).as_py()
    return largest is not None and int(largest) > _FITS_MAX


def _split(row: dict[str, object]) -> Iterator[dict[str, object]]:
    """One row as several, so that no value passes what fits; the first has the records."""
    left = {name: int(row[name]) for name in BYTES}  # type: ignore[call-overload]
    while True:
        part = {name: min(value, _FITS_MAX) for name, value in left.items()}
        left = {name: value - part[name] for name, value in left.items()}
        yield {**row, **part}
        if not any(left.values()):
            return
        row = {**row, "records": 0}
