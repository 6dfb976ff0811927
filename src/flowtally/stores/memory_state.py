"""All that the memory store holds, as plain values that can be captured at one moment.

A captured state never changes again: rows are tuples, and whoever writes to a piece of rows that
was captured copies it first. So a snapshot costs the writers one shallow copy of each piece that
they go on writing to, and not the time that it takes to write everything to the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from flowtally.model import Account, Ledger, LedgerLine, Revision, Tally

FlowKey = tuple[str, str, str, int]
Row = tuple[int, int, int]
"""bytes_rx, bytes_tx, records."""
Rows = dict[FlowKey, Row]


@dataclass(slots=True)
class Piece:
    """The rows of one hour and one arrival hour."""

    rows: Rows = field(default_factory=dict)
    captured: bool = False
    """Somebody else holds `rows`, and counts on them not to change."""

    def writable(self) -> Rows:
        """The rows, to write to."""
        if self.captured:
            self.rows = self.rows.copy()
            self.captured = False
        return self.rows


@dataclass(slots=True)
class Arrival:
    """The account of one arrival hour; its rows are counted, not accounted for."""

    accepted: Account = Account()
    batches_summed: int = 0
    expired: Account = Account()
    batches_repeated: int = 0
    batches_refused: int = 0


Known = tuple[bytes, int, int, float]
"""What is remembered of a batch_id: its fingerprint, its records and flows, and when it arrived, in
seconds of the clock that never goes back: in order, and no jump of the other forgets it early. A
plain tuple, of which the garbage collector lets go: there are millions."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The state as of one moment; whoever holds it may read it from any thread."""

    instance: str
    taken_ms: int
    """When, by `clock.Age`; and ..."""
    taken_s: float
    """... by the clock that never goes back, which the arrivals in `known` are of."""
    sequence: int
    emptied: Revision
    pieces: tuple[tuple[int, int, Rows], ...]
    """Hour, arrival hour, rows."""
    arrivals: dict[int, Arrival]
    revisions: dict[int, Revision]
    known: dict[str, Known]
    """In the order in which they came."""

    @property
    def flows(self) -> int:
        """How many rows there are."""
        return sum(len(rows) for _, _, rows in self.pieces)


def add_tally(held: dict[int, dict[int, Piece]], tally: Tally, arrival_hour: int) -> int:
    """Adds a tally's rows to those held by hour and arrival hour; returns how many are new."""
    by_hour: dict[int, Rows] = {}
    rows_new = 0
    for flow, (rx, tx, records) in tally:
        rows = by_hour.get(flow[3])
        if rows is None:
            piece = held.setdefault(flow[3], {}).setdefault(arrival_hour, Piece())
            rows = by_hour[flow[3]] = piece.writable()
        row = rows.get(flow)
        if row is None:
            rows_new += 1
            rows[flow] = (rx, tx, records)
        else:
            rows[flow] = (row[0] + rx, row[1] + tx, row[2] + records)
    return rows_new


def account_of(rows: Rows) -> Account:
    """What the rows add up to; how many batches they came in they do not tell."""
    rx = tx = records = 0
    for row in rows.values():
        rx += row[0]
        tx += row[1]
        records += row[2]
    return Account(0, records, rx, tx)


def merged(pieces: Collection[Piece]) -> Rows:
    """The rows of several pieces by flow; those of a single one as they are."""
    if len(pieces) == 1:
        [only] = pieces
        return only.rows
    found: Rows = {}
    for piece in pieces:
        for flow, (rx, tx, records) in piece.rows.items():
            row = found.get(flow, (0, 0, 0))
            found[flow] = (row[0] + rx, row[1] + tx, row[2] + records)
    return found


def summed_of(
    arrivals: dict[int, Arrival],
    arrival_hours: Iterable[int],
    pieces: Iterable[tuple[int, Rows]],
) -> dict[int, Account]:
    """What is summed of some arrival hours: counted from the rows, not from what was accepted."""
    summed = {hour: Account(arrivals[hour].batches_summed) for hour in arrival_hours}
    for arrival_hour, rows in pieces:
        if arrival_hour in summed:
            summed[arrival_hour] += account_of(rows)
    return summed


def ledger_of(arrivals: dict[int, Arrival], pieces: Iterable[tuple[int, Rows]]) -> Ledger:
    """The account of everything."""
    summed = summed_of(arrivals, arrivals, pieces)
    return Ledger(
        tuple(
            LedgerLine(
                hour,
                accepted=arrival.accepted,
                summed=summed[hour],
                expired=arrival.expired,
                batches_repeated=arrival.batches_repeated,
                batches_refused=arrival.batches_refused,
            )
            for hour, arrival in sorted(arrivals.items())
        )
    )


def copy_of(arrivals: dict[int, Arrival]) -> dict[int, Arrival]:
    """The accounts, which change in place, as they are now."""
    return {hour: replace(arrival) for hour, arrival in arrivals.items()}
