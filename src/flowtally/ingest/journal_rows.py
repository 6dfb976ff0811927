"""The rows of the journal: what they say, and how each is read and written.

What writes works on the cursor of an open transaction and leaves its end to the journal.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from flowtally.errors import KeyReused
from flowtally.model import MILLISECONDS_PER_HOUR, Account, Batch, Receipt

TIDY_ROWS = 5_000
"""Rows deleted in one transaction of `tidy`: a commit never waits for more than these."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An accepted batch whose tally is not yet passed on, or a decision to expire.

    `tally` is the blob of `wire/blob.py`. Where `expire_before` is set there is no batch: all that
    arrived before that arrival hour is to be dropped once everything earlier has been passed on.
    """

    sequence: int
    arrival_hour: int
    arrived_ms: int
    tally: bytes
    expire_before: int | None = None


@dataclass(frozen=True, slots=True)
class AcceptedLine:
    """The journal's half of a ledger line."""

    arrival_hour: int
    accepted: Account
    batches_repeated: int
    batches_refused: int


@dataclass(frozen=True, slots=True)
class Committed:
    """One new batch of a commit: where it stands in the journal, and when it arrived."""

    batch: Batch
    sequence: int
    arrived_ms: int


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


def insert_expiry(
    cursor: sqlite3.Cursor, sequence: int, arrived_ms: int, expire_before: int
) -> None:
    """Adds the decision to expire, where a batch would stand."""
    cursor.execute(
        "INSERT INTO pending VALUES (?, ?, ?, ?, ?)",
        (sequence, arrived_ms // MILLISECONDS_PER_HOUR, arrived_ms, b"", expire_before),
    )


def read_pending(
    reader: sqlite3.Connection, after: int, through: int, tally_bytes_max: int
) -> list[Pending]:
    """The rows between two sequence numbers, in order, up to a size but at least one."""
    found: list[Pending] = []
    tally_bytes = 0
    for row in reader.execute(
        "SELECT sequence, arrival_hour, arrived_ms, tally, expire_before FROM pending"
        " WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
        (after, through),
    ):
        tally_bytes += len(row[3])
        if found and tally_bytes > tally_bytes_max:
            break
        found.append(Pending(*row))
    return found


def read_ledger(reader: sqlite3.Connection) -> list[AcceptedLine]:
    """Every line, in the order of arrival hours."""
    return [
        AcceptedLine(hour, Account(batches, records, int(rx), int(tx)), repeated, refused)
        for hour, batches, records, rx, tx, repeated, refused in reader.execute(
            "SELECT * FROM ledger ORDER BY arrival_hour"
        )
    ]


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
