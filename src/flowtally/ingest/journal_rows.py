"""The rows of the journal: what they say, and how each is read and written.

What writes works on the cursor of an open transaction and leaves its end to the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from typing import Any, TypeVar

import msgspec

from flowtally.errors import KeyReused
from flowtally.ingest.journal_schema import as_written, corrupt
from flowtally.model import MILLISECONDS_PER_HOUR, Account, Batch, Receipt
from flowtally.wire.blob import encode_tallies

TIDY_ROWS = 5_000
"""Rows deleted in one transaction of `tidy`: a commit never waits for more than these."""

_STATEMENT_ROWS_MAX = 256

Item = TypeVar("Item")
_PENDING_KINDS: Any = tuple[int, int, int, int, bytes, int | None]
_LEDGER_KINDS = list[tuple[int, int, int, str, str, int, int]]


@dataclass(frozen=True, slots=True)
class Pending:
    """Accepted batches whose tally is not yet passed on, or a decision to expire.

    One entry has all new batches of one commit: `batches` of them, the last under `sequence`.
    `tally` is the blob of their sums (`wire/blob.py`). Where `expire_before` is set there are none:
    all that arrived before that arrival hour is to be dropped once everything earlier has been
    passed on.
    """

    sequence: int
    arrival_hour: int
    arrived_ms: int
    batches: int
    tally: bytes
    expire_before: int | None = None


@dataclass(frozen=True, slots=True)
class AcceptedLine:
    """The journal's half of a ledger line."""

    arrival_hour: int
    accepted: Account
    batches_repeated: int
    batches_refused: int


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a batch_id: enough to tell a repeat, and to answer it."""

    fingerprint: bytes
    records: int
    flows: int

    def answer(self, batch: Batch) -> Receipt | KeyReused:
        """The answer to a batch that comes under this batch_id."""
        if batch.fingerprint != self.fingerprint:
            return KeyReused(
                f"the Idempotency-Key {batch.batch_id!r} was used before with another body"
            )
        return Receipt(batch.batch_id, self.records, self.flows, repeated=True)


def find_known(cursor: sqlite3.Cursor, batch_ids: Sequence[str]) -> dict[str, Known]:
    """Those of the batch_ids that are remembered."""
    known: dict[str, Known] = {}
    for asked in _statements(batch_ids, ""):
        places = ", ".join("?" * len(asked))
        for batch_id, fingerprint, records, flows in cursor.execute(
            "SELECT batch_id, fingerprint, records, flows FROM batch_ids"
            f" WHERE batch_id IN ({places})",
            asked,
        ).fetchall():
            known[batch_id] = Known(fingerprint, records, flows)
    return known


class NewBatches:
    """The new batches of one commit, gathered and then inserted together."""

    def __init__(self, arrived_ms: int, last_sequence: int) -> None:
        self.sequence = last_sequence
        """Of the newest of them."""
        self.batches: list[Batch] = []
        self.accepted = Account()
        self._arrived_ms = arrived_ms
        self._batch_ids: list[tuple[object, ...]] = []

    def add(self, batch: Batch) -> None:
        """Gives a batch its sequence number; its batch_id is kept if the sender gave one."""
        self.sequence += 1
        self.batches.append(batch)
        self.accepted += batch.tally.account()
        if batch.keyed:
            self._batch_ids.append(
                (
                    self.sequence,
                    batch.batch_id,
                    batch.fingerprint,
                    batch.records,
                    len(batch.tally),
                    self._arrived_ms,
                )
            )

    def insert(self, cursor: sqlite3.Cursor) -> Pending | None:
        """Writes the batch_ids, and the sums of all as one entry, which is returned; None where
        there are no new batches."""
        if not self.batches:
            return None
        _insert(cursor, "batch_ids", self._batch_ids)
        entry = Pending(
            self.sequence,
            self._arrived_ms // MILLISECONDS_PER_HOUR,
            self._arrived_ms,
            len(self.batches),
            encode_tallies([batch.tally for batch in self.batches]),
        )
        _insert_pending(cursor, entry)
        return entry


def insert_expiry(
    cursor: sqlite3.Cursor, sequence: int, arrived_ms: int, expire_before: int
) -> Pending:
    """Adds the decision to expire, where batches would stand."""
    arrival_hour = arrived_ms // MILLISECONDS_PER_HOUR
    entry = Pending(sequence, arrival_hour, arrived_ms, 0, b"", expire_before)
    _insert_pending(cursor, entry)
    return entry


def _insert_pending(cursor: sqlite3.Cursor, entry: Pending) -> None:
    cursor.execute("INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?)", astuple(entry))


def _insert(cursor: sqlite3.Cursor, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    columns = len(rows[0])
    row = f"({', '.join('?' * columns)})"
    nothing: tuple[object, ...] = (None,) * columns
    for some in _statements(rows, nothing):
        cursor.execute(
            f"INSERT INTO {table} SELECT * FROM (VALUES {', '.join([row] * len(some))})"
            " WHERE column1 IS NOT NULL",
            tuple(chain.from_iterable(some)),
        )


def _statements(items: Sequence[Item], filler: Item) -> Iterator[Sequence[Item]]:
    """The items in parts of `_STATEMENT_ROWS_MAX`, the last filled up to a power of two.

    A statement for many rows, because at each one this thread lets go of the interpreter's lock,
    and when the event loop is busy it waits 5 ms to have it back. And of few lengths, because then
    sqlite3 has all of them prepared.
    """
    for at in range(0, len(items), _STATEMENT_ROWS_MAX):
        some = items[at : at + _STATEMENT_ROWS_MAX]
        filled = 1 << (len(some) - 1).bit_length()
        yield [*some, *[filler] * (filled - len(some))]


def read_pending(
    reader: sqlite3.Connection, after: int, through: int, tally_bytes_max: int | None
) -> list[Pending]:
    """The rows between two sequence numbers, in order: up to a size but at least one, or all.
    Raises `sqlite3.DatabaseError` also where a row holds what nobody wrote there."""
    found: list[Pending] = []
    tally_bytes = 0
    for row in reader.execute(
        "SELECT sequence, arrival_hour, arrived_ms, batches, tally, expire_before FROM pending"
        " WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
        (after, through),
    ):
        entry = Pending(*as_written(row, _PENDING_KINDS, "what is pending"))
        tally_bytes += len(entry.tally)
        if found and tally_bytes_max is not None and tally_bytes > tally_bytes_max:
            break
        found.append(entry)
    return found


def read_ledger(reader: sqlite3.Connection) -> list[AcceptedLine]:
    """Every line, in the order of arrival hours. Raises `sqlite3.DatabaseError` also where a line
    holds what nobody wrote there."""
    lines = reader.execute("SELECT * FROM ledger ORDER BY arrival_hour").fetchall()
    return [
        AcceptedLine(hour, Account(batches, records, _sum(rx), _sum(tx)), repeated, refused)
        for hour, batches, records, rx, tx, repeated, refused in as_written(
            lines, _LEDGER_KINDS, "the ledger"
        )
    ]


def _sum(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise corrupt(f"the ledger is not as it was written: {error}") from error


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


def forget_batch_ids(cursor: sqlite3.Cursor, now_ms: int, keep_ms: int) -> int:
    """Deletes the oldest batch_ids, as long as they are too old; returns how many."""
    before_ms = now_ms - keep_ms
    too_old, last, latest_ms = cursor.execute(
        "SELECT MAX(sequence) FILTER (WHERE arrived_ms < ?), MAX(sequence), MAX(arrived_ms)"
        " FROM (SELECT sequence, arrived_ms FROM batch_ids ORDER BY sequence LIMIT ?)",
        (before_ms, TIDY_ROWS),
    ).fetchone()
    if latest_ms is not None and latest_ms > now_ms + keep_ms:
        # They came while the clock was ahead. Their time begins now: until it was reached again
        # they would stand before all that came after them.
        cursor.execute(
            "UPDATE batch_ids SET arrived_ms = ? WHERE sequence <= ? AND arrived_ms > ?",
            (now_ms, last, now_ms),
        )
    if too_old is None:
        return 0
    cursor.execute(
        "DELETE FROM batch_ids WHERE sequence <= ? AND arrived_ms < ?", (too_old, before_ms)
    )
    return cursor.rowcount
