"""Reads, each of one snapshot: what is in it was committed together, and nothing comes to it.

Sums pass 2^63, where SQLite's own would fail, so each is asked for in two halves of 32 bits, which
cannot, and put together here. Rows come in pieces: a large hour is never in memory as Python's
objects at once, and the event loop is not held up by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    and_,
    bindparam,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from flowtally import limits
from flowtally.model import Account, HourSummary, Ledger, LedgerLine, Revision, Sums
from flowtally.stores.sql.accounts import Line, read_lines, read_state
from flowtally.stores.sql.tables import arrivals, hours, state, tallies

_HALF = 2**32
_FACTOR = pa.scalar(Decimal(_HALF), pa.decimal128(10, 0))
_DECIMAL = pa.decimal128(38, 0)
_NAMES = ("src_app", "dest_app", "vpc_id")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _NAMES),
        ("hour", pa.int64()),
        ("bytes_rx", _DECIMAL),
        ("bytes_tx", _DECIMAL),
    ]
)
_SERVED = tallies.join(
    arrivals,
    and_(tallies.c.hour == arrivals.c.hour, tallies.c.arrival_hour == arrivals.c.arrival_hour),
)
"""The rows that are in sums."""


def _total(values: ColumnElement[int]) -> ColumnElement[int]:
    return cast(func.sum(values), BigInteger)


def _halves(column: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """The sums of the upper and of the lower 32 bits."""
    upper = column.bitwise_rshift(literal(32, Integer))
    return _total(upper), _total(column.bitwise_and(literal(_HALF - 1, BigInteger)))


_FLOWS = (
    select(
        tallies.c.src_app,
        tallies.c.dest_app,
        tallies.c.vpc_id,
        *_halves(tallies.c.bytes_rx),
        *_halves(tallies.c.bytes_tx),
    )
    .select_from(_SERVED)
    .group_by(tallies.c.src_app, tallies.c.dest_app, tallies.c.vpc_id)
    .order_by(tallies.c.src_app, tallies.c.dest_app, tallies.c.vpc_id)
)
_REVISION = select(
    hours.c.revision,
    hours.c.changed_ms,
    state.c.emptied_revision,
    state.c.emptied_ms,
    state.c.sequence,
).select_from(state.outerjoin(hours, hours.c.hour == bindparam("wanted")))
_ACCOUNTS = (
    select(
        tallies.c.arrival_hour,
        arrivals.c.hour.is_not(None).label("served"),
        _total(tallies.c.records),
        *_halves(tallies.c.bytes_rx),
        *_halves(tallies.c.bytes_tx),
    )
    .select_from(tallies.outerjoin(arrivals, _SERVED.onclause))
    .group_by(tallies.c.arrival_hour, arrivals.c.hour.is_not(None))
)


async def read_revision(connection: AsyncConnection, hour: int) -> tuple[Revision, int]:
    """How an hour stands, and as of which sequence number: one statement, a snapshot by itself."""
    number, changed_ms, emptied_revision, emptied_ms, as_of = (
        await connection.execute(_REVISION, {"wanted": hour})
    ).one()
    if number is None:
        return Revision(emptied_revision, emptied_ms), as_of
    return Revision(number, changed_ms), as_of


async def read_sums(connection: AsyncConnection, hour: int) -> Sums:
    """The sums of one hour."""
    revision, _ = await read_revision(connection, hour)
    parts = []
    async with connection.stream(
        _FLOWS.where(arrivals.c.hour == hour), execution_options={"yield_per": limits.SQL_READ_ROWS}
    ) as found:
        async for rows in found.partitions():
            parts.append(_part(hour, rows))
    return Sums(hour, revision, pa.Table.from_batches(parts, _SCHEMA))


def _part(hour: int, rows: Sequence[Row[*tuple[object, ...]]]) -> pa.RecordBatch:
    src, dest, vpc, *halves = zip(*rows, strict=True)
    columns = [pa.array(names, pa.string()) for names in (src, dest, vpc)]
    columns.append(pa.array([hour] * len(rows), pa.int64()))
    for high, low in (halves[:2], halves[2:]):
        columns.append(_decimals(high, low))
    return pa.record_batch(columns, schema=_SCHEMA)


def _decimals(high: Sequence[object], low: Sequence[object]) -> pa.Array:
    """high * 2^32 + low: 19 digits times 10 are at most 30."""
    upper, lower = (pa.array(one, pa.int64()).cast(pa.decimal128(19, 0)) for one in (high, low))
    return pc.add(pc.multiply(upper, _FACTOR), lower).cast(_DECIMAL)


async def read_hours(connection: AsyncConnection) -> list[HourSummary]:
    """The hours held."""
    rx, tx = _halves(tallies.c.bytes_rx), _halves(tallies.c.bytes_tx)
    flows = (
        select(
            tallies.c.hour,
            _total(tallies.c.records).label("records"),
            *(one.label(f"part_{index}") for index, one in enumerate((*rx, *tx))),
        )
        .select_from(_SERVED)
        .group_by(tallies.c.hour, tallies.c.src_app, tallies.c.dest_app, tallies.c.vpc_id)
        .subquery()
    )
    parts = [_total(flows.c[f"part_{index}"]) for index in range(4)]
    found = await connection.execute(
        select(
            hours.c.hour,
            hours.c.revision,
            hours.c.changed_ms,
            func.count(),
            _total(flows.c.records),
            *parts,
        )
        .select_from(flows.join(hours, hours.c.hour == flows.c.hour))
        .group_by(hours.c.hour, hours.c.revision, hours.c.changed_ms)
        .order_by(hours.c.hour)
    )
    return [_summary(*row) for row in found.all()]


def _summary(
    hour: int, revision: int, changed_ms: int, flows: int, records: int, *halves: int
) -> HourSummary:
    return HourSummary(hour, flows, records, *_joined(halves), Revision(revision, changed_ms))


def _joined(halves: Sequence[int]) -> tuple[int, int]:
    """bytes_rx and bytes_tx from the upper and lower halves of each."""
    rx_high, rx_low, tx_high, tx_low = halves
    return rx_high * _HALF + rx_low, tx_high * _HALF + tx_low


async def read_ledger(connection: AsyncConnection) -> Ledger:
    """The account. What expired and is not deleted yet is counted from its rows as well."""
    expire_before = (await read_state(connection)).expire_before
    lines = await read_lines(connection)
    summed: dict[int, Account] = {}
    for arrival_hour, served, records, *halves in (await connection.execute(_ACCOUNTS)).all():
        found = Account(0, records, *_joined(halves))
        line = lines.setdefault(arrival_hour, Line(arrival_hour))
        if served:
            summed[arrival_hour] = found
        elif arrival_hour < expire_before:
            line.expired += found
    return Ledger(
        tuple(
            LedgerLine(
                arrival_hour,
                accepted=line.accepted,
                summed=summed.get(arrival_hour, Account()) + Account(line.batches_summed),
                expired=line.expired,
                batches_repeated=line.batches_repeated,
                batches_refused=line.batches_refused,
            )
            for arrival_hour, line in sorted(lines.items())
        )
    )
