"""Drops what arrived too long ago, and forgets batch_ids, in pieces that nobody waits long for.

An expiry is decided in one small transaction, which takes the place of rows out of all sums at
once, revises their hours, and notes in the state what is to be deleted. The rows are deleted
afterwards, some at a time, each time with the ledger; no read sees any of it. Whoever dies in
between leaves a note that the next one goes on from, be it this service or another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from flowtally import limits
from flowtally.clock import Clock
from flowtally.model import MILLISECONDS_PER_HOUR, Account
from flowtally.steps import OnStep
from flowtally.stores.sql.accounts import Line, read_lines, read_state, write_line, write_state
from flowtally.stores.sql.backend import Backend
from flowtally.stores.sql.tables import arrivals, batch_ids, hours, ledger, state, tallies


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done, as of one glance."""

    to_expire: bool
    to_delete: bool
    to_forget: bool
    to_restamp: bool
    """batch_ids that came while the clock was ahead: their time begins now."""


@dataclass(frozen=True, slots=True)
class Ages:
    """What is too old, or of the future, by `clock.Age`."""

    now_ms: int
    batch_ids_keep_ms: int
    retention_ms: int

    @property
    def forget_before_ms(self) -> int:
        """A batch_id that arrived earlier is forgotten."""
        return self.now_ms - self.batch_ids_keep_ms

    @property
    def ahead_after_ms(self) -> int:
        """A batch_id that arrived later came while the clock was ahead."""
        return self.now_ms + self.batch_ids_keep_ms

    @property
    def expire_before(self) -> int:
        """The first arrival hour still to be served: an hour stays whole until its end is due."""
        return (self.now_ms - self.retention_ms) // MILLISECONDS_PER_HOUR


async def what_is_due(connection: AsyncConnection, ages: Ages) -> Due:
    """One cheap statement, without a lock."""
    oldest_summed = select(func.min(ledger.c.arrival_hour)).where(ledger.c.batches_summed > 0)
    found = await connection.execute(
        select(
            state.c.expire_before,
            oldest_summed.scalar_subquery(),
            select(func.min(batch_ids.c.arrived_ms)).scalar_subquery(),
            select(func.max(batch_ids.c.arrived_ms)).scalar_subquery(),
        )
    )
    expire_before, oldest_hour, oldest_ms, newest_ms = found.one()
    return Due(
        to_expire=oldest_hour is not None and oldest_hour < ages.expire_before,
        to_delete=expire_before > 0,
        to_forget=oldest_ms is not None and oldest_ms < ages.forget_before_ms,
        to_restamp=newest_ms is not None and newest_ms > ages.ahead_after_ms,
    )


async def expire(connection: AsyncConnection, ages: Ages, clock: Clock) -> int:
    """Decides on an expiry; returns its sequence number.

    The revision of each hour that lost something grows; an hour with nothing left takes the
    revision of this expiry, so that no revision is ever met again.
    """
    found = await read_state(connection, lock=True)
    sequence, now_ms = found.sequence + 1, clock.now_ms()
    before = max(ages.expire_before, found.expire_before)
    gone = select(arrivals.c.hour).where(arrivals.c.arrival_hour < before)
    await connection.execute(
        update(hours).where(hours.c.hour.in_(gone)).values(revision=sequence, changed_ms=now_ms)
    )
    await connection.execute(delete(arrivals).where(arrivals.c.arrival_hour < before))
    await connection.execute(delete(hours).where(~exists().where(arrivals.c.hour == hours.c.hour)))
    await connection.execute(
        update(ledger)
        .where(ledger.c.arrival_hour < before)
        .values(
            batches_expired=ledger.c.batches_expired + ledger.c.batches_summed, batches_summed=0
        )
    )
    await write_state(
        connection,
        sequence=sequence,
        emptied_revision=sequence,
        emptied_ms=now_ms,
        expire_before=before,
    )
    return sequence


async def delete_some(backend: Backend, connection: AsyncConnection, on_step: OnStep) -> None:
    """Deletes a piece of what expired; after the last one nothing is noted any more."""
    before = (await read_state(connection, lock=True)).expire_before
    rows = (
        await connection.execute(
            delete(tallies)
            .where(backend.place.in_(some_rows(backend, before)))
            .returning(
                tallies.c.arrival_hour,
                tallies.c.records,
                tallies.c.bytes_rx,
                tallies.c.bytes_tx,
            )
        )
    ).all()
    deleted: dict[int, Account] = {}
    for arrival_hour, records, rx, tx in rows:
        deleted[arrival_hour] = deleted.get(arrival_hour, Account()) + Account(0, records, rx, tx)
    lines = await read_lines(connection, deleted)
    for arrival_hour, account in deleted.items():
        line = lines.get(arrival_hour) or Line(arrival_hour)
        line.expired += account
        await write_line(backend, connection, line)
    if len(rows) < limits.SQL_PIECE_ROWS:
        await write_state(connection, expire_before=0)
    on_step("expire.written")


def some_rows(backend: Backend, before: int) -> Select[Any]:
    """Where a piece of the rows stands that arrived earlier. In the order of the index: without one
    PostgreSQL may look through all of the table, in which few such rows may be left, or none."""
    return (
        select(backend.place)
        .select_from(tallies)
        .where(tallies.c.arrival_hour < before)
        .order_by(tallies.c.arrival_hour)
        .limit(limits.SQL_PIECE_ROWS)
    )


async def forget_some(connection: AsyncConnection, ages: Ages) -> None:
    """Forgets a piece of the batch_ids that are too old."""
    await read_state(connection, lock=True)
    some = (
        select(batch_ids.c.batch_id)
        .where(batch_ids.c.arrived_ms < ages.forget_before_ms)
        .order_by(batch_ids.c.arrived_ms)
        .limit(limits.SQL_PIECE_ROWS)
    )
    await connection.execute(delete(batch_ids).where(batch_ids.c.batch_id.in_(some)))


async def restamp_some(connection: AsyncConnection, ages: Ages) -> None:
    """Lets the time of batch_ids that came while the clock was ahead begin now."""
    await read_state(connection, lock=True)
    some = (
        select(batch_ids.c.batch_id)
        .where(batch_ids.c.arrived_ms > ages.ahead_after_ms)
        .limit(limits.SQL_PIECE_ROWS)
    )
    await connection.execute(
        update(batch_ids).where(batch_ids.c.batch_id.in_(some)).values(arrived_ms=ages.now_ms)
    )
