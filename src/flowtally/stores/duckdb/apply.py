"""One transaction that moves pending tallies into DuckDB, exactly once.

The rows, their hours' revisions, the ledger and `applied` change together or not at all; the
journal deletes what was applied only after this transaction is durable. So whatever dies when,
`applied` tells truly what is in.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from flowtally.ingest.journal_rows import Pending
from flowtally.steps import OnStep
from flowtally.wire.blob import blob_rows, blobs_to_arrow

_APPEND = """
INSERT INTO recent
SELECT arrival_hour, hour, src_app, dest_app, vpc_id,
       SUM(bytes_rx::HUGEINT), SUM(bytes_tx::HUGEINT), SUM(records)
FROM incoming GROUP BY ALL
"""
_CHANGED = """
CREATE TEMP TABLE changed AS
SELECT hour, MAX(sequence) AS revision, MAX(arrived_ms) AS changed_ms FROM incoming GROUP BY hour
"""
_UPDATE_HOURS = """
UPDATE hours SET revision = changed.revision, changed_ms = changed.changed_ms
FROM changed WHERE hours.hour = changed.hour
"""
_INSERT_HOURS = "INSERT INTO hours SELECT * FROM changed ANTI JOIN hours USING (hour)"


@dataclass(frozen=True, slots=True)
class Incoming:
    """Pending batches as rows.

    `table` has the columns of `blobs_to_arrow` and each row's `arrival_hour`, `sequence` and
    `arrived_ms` (int64); a flow may occur in several rows. `rows` counts them by arrival hour.
    """

    table: pa.Table
    rows: Counter[int]


def incoming_of(pending: Sequence[Pending]) -> Incoming:
    """Reads the tallies of pending batches, at least one, into rows."""
    rows: Counter[int] = Counter()
    arrival_hours, sequences, arrivals_ms = array("q"), array("q"), array("q")
    for entry in pending:
        count = blob_rows(entry.tally)
        rows[entry.arrival_hour] += count
        arrival_hours.extend([entry.arrival_hour] * count)
        sequences.extend([entry.sequence] * count)
        arrivals_ms.extend([entry.arrived_ms] * count)
    table = blobs_to_arrow([entry.tally for entry in pending])
    for name, column in (
        ("arrival_hour", arrival_hours),
        ("sequence", sequences),
        ("arrived_ms", arrivals_ms),
    ):
        values = pa.Array.from_buffers(pa.int64(), len(column), [None, pa.py_buffer(column)])
        table = table.append_column(name, values)
    return Incoming(table, rows)


def apply_batches(
    connection: duckdb.DuckDBPyConnection, pending: Sequence[Pending], on_step: OnStep
) -> Counter[int]:
    """Applies batches (no expiries), at least one; returns the rows taken in per arrival hour."""
    incoming = incoming_of(pending)
    connection.begin()
    try:
        if len(incoming.table):
            connection.register("incoming", incoming.table)
            try:
                connection.execute(_APPEND)
                connection.execute(_CHANGED)
                connection.execute(_UPDATE_HOURS)
                connection.execute(_INSERT_HOURS)
                connection.execute("DROP TABLE changed")
            finally:
                connection.unregister("incoming")
        for arrival_hour, batches in Counter(entry.arrival_hour for entry in pending).items():
            _count_batches(connection, arrival_hour, batches)
        connection.execute("UPDATE state SET applied = ?", [pending[-1].sequence])
        on_step("apply.written")
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise
    return incoming.rows


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Ends a failed transaction; the error that made it fail is the one to report."""
    try:
        connection.rollback()
    except duckdb.Error:
        # The database may have been invalidated as a whole; it is opened anew by the applier.
        return


def _count_batches(connection: duckdb.DuckDBPyConnection, arrival_hour: int, batches: int) -> None:
    known = connection.execute(
        "UPDATE ledger SET batches_summed = batches_summed + ? WHERE arrival_hour = ?",
        [batches, arrival_hour],
    ).fetchall()
    if known == [(0,)]:
        connection.execute("INSERT INTO ledger VALUES (?, ?, 0, 0, 0, 0)", [arrival_hour, batches])
