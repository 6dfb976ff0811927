"""One transaction that moves pending tallies into DuckDB, exactly once.

The rows, their hours' revisions, the ledger and `applied` change together or not at all; the
journal deletes what was applied only after this transaction is durable. So whatever dies when,
`applied` tells truly what is in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from flowtally.ingest.journal_rows import Pending
from flowtally.steps import OnStep
from flowtally.stores.incoming import Incoming, incoming_of

_APPEND = """
INSERT INTO recent
SELECT arrival_hour, hour, src_app, dest_app, vpc_id,
       bytes_rx::HUGEINT, bytes_tx::HUGEINT, records
FROM incoming
"""
_APPEND_SUMS = """
INSERT INTO recent
SELECT arrival_hour, hour, src_app, dest_app, vpc_id,
       SUM(bytes_rx::HUGEINT), SUM(bytes_tx::HUGEINT), SUM(records)
FROM incoming GROUP BY ALL
"""
_UPDATE_HOURS = """
UPDATE hours SET revision = changed.revision, changed_ms = changed.changed_ms
FROM changed WHERE hours.hour = changed.hour
"""
_INSERT_HOURS = "INSERT INTO hours SELECT * FROM changed ANTI JOIN hours USING (hour)"


def apply_batches(
    connection: duckdb.DuckDBPyConnection, pending: Sequence[Pending], on_step: OnStep
) -> Counter[int]:
    """Applies batches (no expiries), at least one; returns the rows taken in per arrival hour."""
    incoming = incoming_of(pending)
    connection.begin()
    try:
        if len(incoming.table):
            with _visible(connection, incoming=incoming.table, changed=_changed_of(incoming)):
                connection.execute(_APPEND if incoming.merged else _APPEND_SUMS)
                connection.execute(_UPDATE_HOURS)
                connection.execute(_INSERT_HOURS)
        for arrival_hour, batches in _batches_of(pending).items():
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


@contextmanager
def _visible(connection: duckdb.DuckDBPyConnection, **tables: pa.Table) -> Iterator[None]:
    """Makes tables of ours known to DuckDB by their names, for a while."""
    for name, table in tables.items():
        connection.register(name, table)
    try:
        yield
    finally:
        for name in tables:
            connection.unregister(name)


def _changed_of(incoming: Incoming) -> pa.Table:
    revisions = incoming.revisions
    columns = {
        "hour": list(revisions),
        "revision": [one.number for one in revisions.values()],
        "changed_ms": [one.changed_ms for one in revisions.values()],
    }
    return pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items()})


def _batches_of(pending: Sequence[Pending]) -> Counter[int]:
    batches: Counter[int] = Counter()
    for entry in pending:
        batches[entry.arrival_hour] += entry.batches
    return batches


def _count_batches(connection: duckdb.DuckDBPyConnection, arrival_hour: int, batches: int) -> None:
    known = connection.execute(
        "UPDATE ledger SET batches_summed = batches_summed + ? WHERE arrival_hour = ?",
        [batches, arrival_hour],
    ).fetchall()
    if known == [(0,)]:
        connection.execute("INSERT INTO ledger VALUES (?, ?, 0, 0, 0, 0)", [arrival_hour, batches])
