"""Drops what arrived too long ago, in one transaction, and keeps the account of it.

When to expire is decided by the clock and put into the journal, in order with the batches; here it
is carried out, exactly once, like a batch. Retention counts from arrival: the hour label of a
record says nothing about its age.
"""

from __future__ import annotations

import duckdb

from flowtally.ingest.journal_rows import Pending
from flowtally.steps import OnStep
from flowtally.stores.duckdb.apply import roll_back
from flowtally.stores.duckdb.compaction import RowCounts
from flowtally.stores.duckdb.database import SUMS

_CHANGED = f"CREATE TEMP TABLE changed AS SELECT DISTINCT hour FROM {SUMS} WHERE arrival_hour < ?"
_ACCOUNT = f"""
UPDATE ledger SET
    batches_expired = batches_expired + batches_summed,
    batches_summed = 0,
    records_expired = records_expired + gone.records,
    bytes_rx_expired = bytes_rx_expired + gone.bytes_rx,
    bytes_tx_expired = bytes_tx_expired + gone.bytes_tx
FROM (
    SELECT ledger.arrival_hour, COALESCE(SUM(records), 0) AS records,
           COALESCE(SUM(bytes_rx), 0) AS bytes_rx, COALESCE(SUM(bytes_tx), 0) AS bytes_tx
    FROM ledger LEFT JOIN {SUMS} AS sums USING (arrival_hour)
    WHERE ledger.arrival_hour < ? GROUP BY ALL
) AS gone
WHERE ledger.arrival_hour = gone.arrival_hour
"""
_DELETE = (
    "DELETE FROM recent WHERE arrival_hour < ?",
    "DELETE FROM base WHERE arrival_hour < ?",
)
_FORGET_HOURS = f"DELETE FROM hours WHERE hour NOT IN (SELECT hour FROM {SUMS})"
_REVISE_HOURS = """
UPDATE hours SET revision = ?, changed_ms = ? FROM changed WHERE hours.hour = changed.hour
"""


def apply_expiry(
    connection: duckdb.DuckDBPyConnection,
    expiry: Pending,
    counts: RowCounts,
    on_step: OnStep,
) -> None:
    """Carries out one journalled expiry. The revision of each hour that lost rows grows; an hour
    with none left takes the revision of this expiry, so that no revision is ever met again."""
    before = expiry.expire_before
    assert before is not None
    connection.begin()
    try:
        connection.execute(_CHANGED, [before])
        connection.execute(_ACCOUNT, [before])
        for statement in _DELETE:
            connection.execute(statement, [before])
        connection.execute(_FORGET_HOURS)
        connection.execute(_REVISE_HOURS, [expiry.sequence, expiry.arrived_ms])
        connection.execute("DROP TABLE changed")
        connection.execute(
            "UPDATE state SET applied = ?, expired_revision = ?, expired_ms = ?",
            [expiry.sequence, expiry.sequence, expiry.arrived_ms],
        )
        on_step("expire.written")
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise
    on_step("expire.committed")
    for counter in (counts.recent, counts.base):
        for arrival_hour in [hour for hour in counter if hour < before]:
            del counter[arrival_hour]
