"""Reads, each from one moment of the results: parts are read and put end to end, nothing is sorted
or summed."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from flowtally import limits
from flowtally.ingest.journal_snapshot import JournalSnapshot
from flowtally.model import Account, HourSummary, Ledger, Revision, Sums
from flowtally.stores.hourly.hour_parts import read_part, served_arrival_hour, tables_of
from flowtally.stores.hourly.parts import account_of
from flowtally.stores.hourly.results import ALL, state_of
from flowtally.stores.incoming import incoming_of
from flowtally.stores.journal_ledger import ledger_of
from flowtally.wire.fields import BYTE_FIELDS, NAME_FIELDS

_DECIMAL = pa.decimal128(38, 0)
_EMPTY = pa.table(
    {
        **{name: pa.array([], pa.string()) for name in NAME_FIELDS},
        **{name: pa.array([], _DECIMAL) for name in BYTE_FIELDS},
    }
)
_HOUR_AT = len(NAME_FIELDS)


@dataclass(frozen=True, slots=True)
class PartLine:
    """What the database says of one part."""

    part: int
    hour: int
    arrival_hour: int
    flows: int
    account: Account


def revision_of(reader: sqlite3.Connection, hour: int) -> Revision:
    """How the hour stands."""
    row = reader.execute(
        "SELECT revision, changed_ms FROM hours WHERE hour = ?", (hour,)
    ).fetchone()
    if row is None:
        state = state_of(reader)
        row = (state.expired_revision, state.expired_ms)
    number, changed_ms = row
    return Revision(number, changed_ms if number else None)


def sums_of(reader: sqlite3.Connection, hour: int) -> Sums:
    """The sums of one hour."""
    served = served_arrival_hour(reader, hour)
    tables = [] if served is None else list(tables_of(reader, hour, served))
    table = pa.concat_tables(tables) if tables else _EMPTY
    table = table.select([*NAME_FIELDS, *BYTE_FIELDS])
    hours = pa.repeat(pa.scalar(hour, pa.int64()), table.num_rows)
    return Sums(hour, revision_of(reader, hour), table.add_column(_HOUR_AT, "hour", hours))


def hours_of(reader: sqlite3.Connection) -> list[HourSummary]:
    """The hours held."""
    revisions = {
        hour: Revision(number, changed_ms)
        for hour, number, changed_ms in reader.execute("SELECT * FROM hours")
    }
    found = []
    for hour, arrivals in lines_by_hour(reader):
        served = arrivals[min(arrivals)]
        total = account_noted(served)
        found.append(
            HourSummary(
                hour,
                sum(line.flows for line in served),
                total.records,
                total.bytes_rx,
                total.bytes_tx,
                revisions[hour],
            )
        )
    return found


def lines_by_hour(reader: sqlite3.Connection) -> Iterator[tuple[int, dict[int, list[PartLine]]]]:
    """All parts, by hour and arrival hour, each in the order of its flows. An hour is answered
    from those of the least arrival hour: `ALL`, or its only one."""
    lines = [
        PartLine(part, hour, arrival_hour, flows, Account(0, records, int(rx), int(tx)))
        for part, hour, arrival_hour, flows, records, rx, tx in reader.execute(
            "SELECT part, hour, arrival_hour, flows, records, bytes_rx, bytes_tx FROM parts"
            " ORDER BY hour, arrival_hour, first_flow"
        )
    ]
    for hour, of_hour in groupby(lines, lambda line: line.hour):
        arrivals = groupby(of_hour, lambda line: line.arrival_hour)
        yield hour, {arrival_hour: list(parts) for arrival_hour, parts in arrivals}


def account_noted(lines: Sequence[PartLine]) -> Account:
    """What parts hold together, as it was noted beside them."""
    return sum((line.account for line in lines), Account())


def ledger_from(reader: sqlite3.Connection, journal: JournalSnapshot) -> Ledger:
    """The account, `summed` counted from the rows. The two must agree: nothing may have been
    committed to the results between the one and the other."""
    nothing = Account()
    summed: dict[int, Account] = defaultdict(Account)
    expired: dict[int, Account] = {}
    for arrival_hour, batches, *gone in reader.execute("SELECT * FROM ledger"):
        summed[arrival_hour] += Account(batches)
        expired[arrival_hour] = Account(gone[0], gone[1], int(gone[2]), int(gone[3]))
    for _, arrivals in lines_by_hour(reader):
        counted = {
            arrival_hour: sum((account_of(read_part(reader, line.part)) for line in lines), nothing)
            for arrival_hour, lines in arrivals.items()
        }
        for arrival_hour, account in _as_served(counted).items():
            summed[arrival_hour] += account
    pending: dict[int, Account] = defaultdict(Account)
    for entries in journal.pending(state_of(reader).applied, limits.AGGREGATE_BYTES_MAX):
        batches = [entry for entry in entries if entry.expire_before is None]
        for entry in batches:
            pending[entry.arrival_hour] += Account(entry.batches)
        if batches:
            _count_rows(incoming_of(batches).table, pending)
    return ledger_of(journal.accepted(), summed, pending, expired)


def _as_served(accounts: dict[int, Account]) -> dict[int, Account]:
    """An hour's accounts by arrival hour, adding up to what is served. It is served from the parts
    of all arrival hours, so what these have more or less than the others together is counted on the
    newest one: it must not go unseen."""
    served = accounts.pop(ALL, None)
    if served is not None:
        newest = max(accounts, default=ALL)
        others = sum(accounts.values(), Account())
        accounts[newest] = accounts.get(newest, Account()) + served - others
    return accounts


def _count_rows(table: pa.Table, accounts: dict[int, Account]) -> None:
    """Adds what the rows add up to, by arrival hour."""
    grouped = table.group_by("arrival_hour", use_threads=False).aggregate(
        [("records", "sum"), *((name, "sum") for name in BYTE_FIELDS)]
    )
    columns = ("arrival_hour", "records_sum", *(f"{name}_sum" for name in BYTE_FIELDS))
    for arrival_hour, *sums in zip(*(grouped[name].to_pylist() for name in columns), strict=True):
        records, rx, tx = map(int, sums)
        accounts[arrival_hour] += Account(0, records, rx, tx)
