"""What the journal writes inside a transaction: the rows of a batch, and the ledger's line.

Each function works on the cursor of an open transaction and leaves its end to the journal.
"""

from __future__ import annotations

import sqlite3

from flowtally.errors import KeyReused
from flowtally.model import MILLISECONDS_PER_HOUR, Account, Batch, Receipt

TIDY_ROWS = 5_000
"""Rows deleted in one transaction of `tidy`: a commit never waits for more than these."""


def answer_known(cursor: sqlite3.Cursor, batch: Batch) -> Receipt | KeyReused | None:
    """The answer to a batch whose batch_id is remembered; None to one that is new."""
    row = cursor.execute(
        "SELECT fingerprint, records, flows FROM batch_ids WHERE batch_id = ?",
        (batch.batch_id,),
    ).fetchone()
    if row is None:
        return None
    fingerprint, records, flows = row
    if fingerprint != batch.fingerprint:
        return KeyReused(
            f"the Idempotency-Key {batch.batch_id!r} was used before with another body"
        )
    return Receipt(batch.batch_id, records, flows, repeated=True)


def insert(
    cursor: sqlite3.Cursor, batch: Batch, tally: bytes, sequence: int, arrived_ms: int
) -> None:
    """Adds a new batch: its batch_id, if the sender gave one, and its tally."""
    if batch.keyed:
        cursor.execute(
            "INSERT INTO batch_ids VALUES (?, ?, ?, ?, ?, ?)",
            (
                sequence,
                batch.batch_id,
                batch.fingerprint,
                batch.records,
                len(batch.tally),
                arrived_ms,
            ),
        )
    cursor.execute(
        "INSERT INTO pending VALUES (?, ?, ?, ?, NULL)",
        (sequence, arrived_ms // MILLISECONDS_PER_HOUR, arrived_ms, tally),
    )


def add_to_ledger(
    cursor: sqlite3.Cursor,
    arrival_hour: int,
    accepted: Account,
    repeated: int,
    refused: int,
) -> None:
    """Adds in Python: SQLite's integers end at 2^63 and its sums of larger ones are floats."""
    row = cursor.execute("SELECT * FROM ledger WHERE arrival_hour = ?", (arrival_hour,)).fetchone()
    if row is not None:
        accepted += Account(row[1], row[2], int(row[3]), int(row[4]))
        repeated += row[5]
        refused += row[6]
    cursor.execute(
        "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            arrival_hour,
            accepted.batches,
            accepted.records,
            str(accepted.bytes_rx),
            str(accepted.bytes_tx),
            repeated,
            refused,
        ),
    )


def forget_batch_ids(cursor: sqlite3.Cursor, arrived_before_ms: int) -> int:
    """Deletes the oldest batch_ids, as long as they are too old; returns how many."""
    newest = cursor.execute(
        "SELECT MAX(sequence) FROM (SELECT sequence, arrived_ms FROM batch_ids"
        " ORDER BY sequence LIMIT ?) WHERE arrived_ms < ?",
        (TIDY_ROWS, arrived_before_ms),
    ).fetchone()[0]
    if newest is None:
        return 0
    cursor.execute(
        "DELETE FROM batch_ids WHERE sequence <= ? AND arrived_ms < ?",
        (newest, arrived_before_ms),
    )
    return cursor.rowcount
