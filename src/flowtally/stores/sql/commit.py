"""One transaction that takes a group of batches in: batch_ids, rows, revisions and ledger together.

The one row of the state is locked by whoever commits, and that is what orders all commits of all
services: revisions rise in the order in which they become visible, and no two transactions can wait
for each other. The heavy part, the rows, goes in before the lock is taken, so that several services
do it at the same time; what had to be known for that is looked at once more under the lock. Should
another service have been first with one of the batch_ids, the transaction is undone, and done again
with the lock from its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import KeyReused
from flowtally.ingest.journal_rows import Known
from flowtally.model import MILLISECONDS_PER_HOUR, Account, Batch, Receipt, Revision
from flowtally.steps import OnStep
from flowtally.stores.sql.accounts import (
    Line,
    State,
    read_lines,
    read_state,
    revise_hours,
    write_line,
    write_state,
)
from flowtally.stores.sql.backend import Backend
from flowtally.stores.sql.rows import rows_of
from flowtally.stores.sql.tables import arrivals, batch_ids


@dataclass(slots=True)
class Sorted:
    """What becomes of each batch of a group, going by the batch_ids that are known."""

    answers: list[Receipt | KeyReused] = field(default_factory=list)
    new: list[Batch] = field(default_factory=list)
    repeated: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """A group that is durable: the answers, and the revision that some hours have by it."""

    answers: list[Receipt | KeyReused]
    hours: set[int]
    revision: Revision


class _OthersWereFirst(Exception):
    """What was looked at without the lock is no longer so."""


async def commit(
    backend: Backend,
    clock: Clock,
    batches: Sequence[Batch],
    refused: int,
    on_step: OnStep,
    before: Callable[[int, set[int]], None],
) -> Committed:
    """Makes the batches durable together, and counts those that were refused before them. `before`
    is told the revision and the hours that it will be of, before anybody can see it.

    Raises `DBAPIError` where the transaction failed: whether it counts is unknown then.
    """
    attempt = partial(_attempt, backend, clock, batches, refused, on_step, before)
    try:
        return await attempt(lock_first=backend.locks_at_begin)
    except _OthersWereFirst:
        return await attempt(lock_first=True)


async def _attempt(
    backend: Backend,
    clock: Clock,
    batches: Sequence[Batch],
    refused: int,
    on_step: OnStep,
    before: Callable[[int, set[int]], None],
    lock_first: bool,
) -> Committed:
    async with backend.writing.begin() as connection:
        on_step("commit.begun")
        state = await read_state(connection, lock=lock_first)
        known = await _find_known(connection, [one.batch_id for one in batches if one.keyed])
        group = _sort(batches, known)
        now_ms = clock.now_ms()
        # Later than what is being deleted: it would go with it. So only where the clock was set
        # back, and for as long as that takes.
        arrival_hour = max(now_ms // MILLISECONDS_PER_HOUR, state.expire_before)
        rows = await _prepared(group.new, arrival_hour)
        await backend.insert_tallies(connection, rows)
        on_step("sql.copied")
        if not lock_first:
            state = await read_state(connection, lock=True)
            if state.expire_before > arrival_hour:
                raise _OthersWereFirst
        changed = set().union(*(batch.tally.hours() for batch in group.new))
        revision = Revision(state.sequence + (1 if group.new else 0), now_ms)
        await _insert_batch_ids(backend, connection, group.new, now_ms)
        await _note_changes(backend, connection, changed, arrival_hour, state, revision)
        await _count(backend, connection, arrival_hour, group, refused)
        before(revision.number, changed)
        on_step("commit.written")
    on_step("commit.synced")
    return Committed(group.answers, changed, revision)


async def _find_known(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, Known]:
    if not keys:
        return {}
    found = await connection.execute(
        select(
            batch_ids.c.batch_id, batch_ids.c.fingerprint, batch_ids.c.records, batch_ids.c.flows
        ).where(batch_ids.c.batch_id.in_(keys))
    )
    return {
        batch_id: Known(fingerprint, records, flows)
        for batch_id, fingerprint, records, flows in found.all()
    }


def _sort(batches: Sequence[Batch], known: dict[str, Known]) -> Sorted:
    group = Sorted()
    for batch in batches:
        if batch.keyed and batch.batch_id in known:
            answer = known[batch.batch_id].answer(batch)
            group.answers.append(answer)
            group.repeated += isinstance(answer, Receipt)
            group.refused += isinstance(answer, KeyReused)
            continue
        flows = len(batch.tally)
        if batch.keyed:
            known[batch.batch_id] = Known(batch.fingerprint, batch.records, flows)
        group.new.append(batch)
        group.answers.append(Receipt(batch.batch_id, batch.records, flows))
    return group


async def _prepared(new: Sequence[Batch], arrival_hour: int) -> pa.Table:
    if sum(len(batch.tally) for batch in new) <= limits.SQL_PREPARE_INLINE_ROWS_MAX:
        return rows_of(new, arrival_hour)
    return await asyncio.to_thread(rows_of, new, arrival_hour)


async def _insert_batch_ids(
    backend: Backend, connection: AsyncConnection, new: Sequence[Batch], now_ms: int
) -> None:
    rows = [
        (batch.batch_id, batch.fingerprint, batch.records, len(batch.tally), now_ms)
        for batch in new
        if batch.keyed
    ]
    if await backend.insert(connection, batch_ids, rows, "DO NOTHING") != len(rows):
        raise _OthersWereFirst


async def _note_changes(
    backend: Backend,
    connection: AsyncConnection,
    changed: set[int],
    arrival_hour: int,
    state: State,
    revision: Revision,
) -> None:
    if revision.number == state.sequence:
        return
    assert revision.changed_ms is not None
    await revise_hours(backend, connection, changed, revision.number, revision.changed_ms)
    places = [(hour, arrival_hour) for hour in sorted(changed)]
    await backend.insert(connection, arrivals, places, "DO NOTHING")
    await write_state(connection, sequence=revision.number)


async def _count(
    backend: Backend, connection: AsyncConnection, arrival_hour: int, group: Sorted, refused: int
) -> None:
    lines = await read_lines(connection, [arrival_hour])
    line = lines.get(arrival_hour) or Line(arrival_hour)
    line.accepted += sum((batch.tally.account() for batch in group.new), Account())
    line.batches_summed += len(group.new)
    line.batches_repeated += group.repeated
    line.batches_refused += group.refused + refused
    await write_line(backend, connection, line)
