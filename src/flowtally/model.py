"""The nouns of Flowtally, as plain values.

Every word here has one meaning in the whole product (see the glossary in `docs/architecture.md`).
Nothing in this module does I/O, reads a clock, or knows how a value looks on the wire.

What is made for every batch is a `msgspec.Struct`: making one costs a sixteenth of what a frozen
dataclass does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from flowtally import limits

if TYPE_CHECKING:
    import pyarrow as pa

MILLISECONDS_PER_HOUR = 3_600_000


class Flow(NamedTuple):
    """The unique key that bytes are summed under. `hour` is a label the agent chose, not a time."""

    src_app: str
    dest_app: str
    vpc_id: str
    hour: int


class Tally:
    """A batch, or several, summed by flow. Python's integers: no sum can wrap.

    The rows are a dict from `(src_app, dest_app, vpc_id, hour)` to `[bytes_rx, bytes_tx, records]`.
    A tally is filled once, by the decoder that made it, and only read from then on.
    """

    __slots__ = ("rows",)

    def __init__(self, rows: dict[tuple[str, str, str, int], list[int]] | None = None) -> None:
        self.rows = {} if rows is None else rows

    def add(self, flow: tuple[str, str, str, int], rx: int, tx: int, records: int = 1) -> None:
        """Adds bytes and records to one flow."""
        row = self.rows.get(flow)
        if row is None:
            self.rows[flow] = [rx, tx, records]
        else:
            row[0] += rx
            row[1] += tx
            row[2] += records

    def __len__(self) -> int:
        """The number of flows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[tuple[str, str, str, int], list[int]]]:
        return iter(self.rows.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tally(flows={len(self)}, records={self.account().records})"

    def account(self) -> Account:
        """What this tally adds to the ledger, as one batch."""
        rows = self.rows.values()
        rx, tx, records = (sum(map(itemgetter(column), rows)) for column in range(3))
        return Account(batches=1, records=records, bytes_rx=rx, bytes_tx=tx)

    def hours(self) -> set[int]:
        """The hour labels this tally touches."""
        return {flow[3] for flow in self.rows}


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one POST carries, decoded: acknowledged, stored, repeated or refused as a whole.

    `fingerprint` is a hash of the decoded body; with the same `batch_id` it tells a repeat from a
    reused key. `keyed` is false where the sender gave no key: nobody can repeat such a batch, so
    its batch_id need not be remembered.
    """

    batch_id: str
    keyed: bool
    fingerprint: bytes
    tally: Tally
    records: int


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The answer to a batch. `repeated` is true when the batch had been counted before."""

    batch_id: str
    records: int
    flows: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """How an hour stands: `number` grows each time its sums change; 0 and None: never written."""

    number: int
    changed_ms: int | None


@dataclass(frozen=True, slots=True)
class Sums:
    """The answer to a read of one hour, as of one revision.

    `table` has the columns `src_app, dest_app, vpc_id` (string), `hour` (int64), `bytes_rx,
    bytes_tx` (decimal128(38, 0)), sorted by the three names in UTF-8 byte order, one row per flow.
    """

    hour: int
    revision: Revision
    table: pa.Table

    def __len__(self) -> int:
        """The number of flows."""
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class HourSummary:
    """One line of the list of hours held."""

    hour: int
    flows: int
    records: int
    bytes_rx: int
    bytes_tx: int
    revision: Revision


class Account(msgspec.Struct, frozen=True, gc=False):
    """One column of the ledger: how many batches, records and bytes."""

    batches: int = 0
    records: int = 0
    bytes_rx: int = 0
    bytes_tx: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(
            self.batches + other.batches,
            self.records + other.records,
            self.bytes_rx + other.bytes_rx,
            self.bytes_tx + other.bytes_tx,
        )

    def __sub__(self, other: Account) -> Account:
        return Account(
            self.batches - other.batches,
            self.records - other.records,
            self.bytes_rx - other.bytes_rx,
            self.bytes_tx - other.bytes_tx,
        )


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """The account of one arrival hour (hours since 1970, UTC, by the server's clock).

    It balances when `accepted == summed + pending + expired`. `summed` is counted from the rows
    that reads are answered from, not copied from a counter. Repeated and refused batches are
    counted beside the balance; they never touched a sum.
    """

    arrival_hour: int
    accepted: Account = Account()
    summed: Account = Account()
    pending: Account = Account()
    expired: Account = Account()
    batches_repeated: int = 0
    batches_refused: int = 0

    @property
    def difference(self) -> Account:
        """Accepted less everything that accounts for it: all zeros when the line balances."""
        return self.accepted - self.summed - self.pending - self.expired

    @property
    def balances(self) -> bool:
        """Whether every accepted batch, record and byte is accounted for."""
        return self.difference == Account()


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of everything accepted, per arrival hour."""

    lines: tuple[LedgerLine, ...] = ()

    @property
    def balances(self) -> bool:
        """Whether every line balances."""
        return all(line.balances for line in self.lines)

    def total(self) -> LedgerLine:
        """All lines added up; its arrival_hour is -1."""
        return LedgerLine(
            -1,
            accepted=_add(line.accepted for line in self.lines),
            summed=_add(line.summed for line in self.lines),
            pending=_add(line.pending for line in self.lines),
            expired=_add(line.expired for line in self.lines),
            batches_repeated=sum(line.batches_repeated for line in self.lines),
            batches_refused=sum(line.batches_refused for line in self.lines),
        )


def _add(accounts: Iterable[Account]) -> Account:
    return sum(accounts, Account())


@dataclass(frozen=True, slots=True)
class BackupPoint:
    """Which state a backup is of: all batches up to a sequence number, and nothing of a later one.

    Where the store keeps no journal, `sequence` is its newest revision.
    """

    store: str
    instance: str
    """Whose it was; what is restored from it has another."""
    sequence: int
    taken_ms: int
    accepted: dict[int, Account]
    """By arrival hour."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a store's files, of one moment, for as long as whoever made it keeps it."""

    point: BackupPoint
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartHealth:
    """How one part of the service is. `state` is "ok", "warning" or "error".

    `beat_s` is when the part last proved that it is alive, by having done something: on the
    monotonic clock, so that no clock that is set makes a part look stuck, or a stuck one alive.
    `hint` names the runbook, a page of the documentation.
    """

    name: str
    state: str
    beat_s: float
    detail: str = ""
    last_error: str = ""
    hint: str = ""
    facts: dict[str, int | float | str | bool | None] = field(default_factory=dict)
    beat_age_s_max: float = limits.BEAT_AGE_S_MAX
    """From this age on it is stuck; more only where what it is doing is known to take longer."""
    needed_to_accept: bool = False
    """Whether no batch can be acknowledged while it is stuck."""
    is_stuck: bool = False
    """It is silent for too long, or has ended although it should not have."""
