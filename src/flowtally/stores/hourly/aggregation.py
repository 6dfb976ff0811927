"""The transactions that change results: batches are added, or what is too old is dropped.

In each the sums, the hours' revisions, the ledger and `applied` change together or not at all. The
journal lets go of what was applied only after that is durable. So whatever dies when, `applied`
tells truly what is in the sums: nothing is lost, and nothing is counted twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from flowtally.ingest.journal_rows import Pending
from flowtally.model import Account
from flowtally.steps import OnStep
from flowtally.stores.hourly.gathering import Gathered
from flowtally.stores.hourly.hour_parts import add_rows, drop_arrivals, read_part
from flowtally.stores.hourly.parts import account_of


def add_batches(
    cursor: sqlite3.Cursor,
    gathered: Gathered,
    now_ms: int,
    on_step: OnStep,
    between_hours: Callable[[], None],
) -> None:
    """Adds gathered batches, at least one, in an open transaction that the caller commits.
    `between_hours` is called between two hours; what it raises ends the work."""
    for hour, arrivals in gathered.rows_by_hour():
        between_hours()
        add_rows(cursor, hour, arrivals)
        _revise(cursor, hour, gathered.last_sequences[hour], now_ms)
    for arrival_hour, batches in gathered.batches.items():
        cursor.execute(
            "INSERT INTO ledger VALUES (?, ?, 0, 0, '0', '0') ON CONFLICT (arrival_hour)"
            " DO UPDATE SET batches_summed = batches_summed + excluded.batches_summed",
            (arrival_hour, batches),
        )
    cursor.execute("UPDATE state SET applied = ?, aggregated_ms = ?", (gathered.through, now_ms))
    on_step("aggregate.written")


def expire(
    cursor: sqlite3.Cursor,
    expiry: Pending,
    now_ms: int,
    on_step: OnStep,
    between_hours: Callable[[], None],
) -> None:
    """Carries out a journalled expiry, likewise. The revision of each hour that loses something
    grows; an hour with nothing left takes that of the expiry, so that none is ever met again."""
    before = expiry.expire_before
    assert before is not None
    _account_for(cursor, before)
    hours = cursor.execute(
        "SELECT DISTINCT hour FROM parts WHERE arrival_hour >= 0 AND arrival_hour < ?", (before,)
    ).fetchall()
    for (hour,) in hours:
        between_hours()
        if drop_arrivals(cursor, hour, before):
            cursor.execute("DELETE FROM hours WHERE hour = ?", (hour,))
        else:
            _revise(cursor, hour, expiry.sequence, now_ms)
    cursor.execute(
        "UPDATE state SET applied = ?, expired_revision = ?, expired_ms = ?",
        (expiry.sequence, expiry.sequence, now_ms),
    )
    on_step("expire.written")


def _revise(cursor: sqlite3.Cursor, hour: int, revision: int, now_ms: int) -> None:
    cursor.execute("INSERT OR REPLACE INTO hours VALUES (?, ?, ?)", (hour, revision, now_ms))


def _account_for(cursor: sqlite3.Cursor, before: int) -> None:
    """Moves what is about to be dropped, counted from its rows, from summed to expired."""
    lines = cursor.execute(
        "SELECT * FROM ledger WHERE arrival_hour < ? AND batches_summed > 0", (before,)
    ).fetchall()
    for arrival_hour, batches_summed, *gone in lines:
        batches, records, rx, tx = gone
        expired = Account(batches, records, int(rx), int(tx)) + Account(batches_summed)
        parts = cursor.execute(
            "SELECT part FROM parts WHERE arrival_hour = ?", (arrival_hour,)
        ).fetchall()
        for (part,) in parts:
            expired += account_of(read_part(cursor, part))
        cursor.execute(
            "INSERT OR REPLACE INTO ledger VALUES (?, 0, ?, ?, ?, ?)",
            (
                arrival_hour,
                expired.batches,
                expired.records,
                str(expired.bytes_rx),
                str(expired.bytes_tx),
            ),
        )
