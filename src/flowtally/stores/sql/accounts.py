"""The rows of the ledger and of the state: read, added to in Python, and written again.

Added in Python because neither database adds integers without end to text; nothing is lost by it,
as whoever writes has the lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from flowtally.model import Account
from flowtally.stores.sql.backend import Backend
from flowtally.stores.sql.tables import hours, ledger, state


@dataclass(slots=True)
class Line:
    """One arrival hour. `expired` has no batches here that `batches_summed` still has: a batch
    expires at once, and its rows are deleted, and counted as such, one piece after another."""

    arrival_hour: int
    accepted: Account = field(default_factory=Account)
    batches_repeated: int = 0
    batches_refused: int = 0
    batches_summed: int = 0
    expired: Account = field(default_factory=Account)

    @classmethod
    def of(cls, row: Sequence[int]) -> Line:
        """From a row of the table."""
        arrival_hour, *accepted = row[:5]
        repeated, refused, summed, *expired = row[5:]
        return cls(arrival_hour, Account(*accepted), repeated, refused, summed, Account(*expired))


@dataclass(frozen=True, slots=True)
class State:
    """The one row of the state."""

    instance: str
    sequence: int
    emptied_revision: int
    emptied_ms: int | None
    expire_before: int


_STATE = select(
    state.c.instance,
    state.c.sequence,
    state.c.emptied_revision,
    state.c.emptied_ms,
    state.c.expire_before,
)


async def read_state(connection: AsyncConnection, lock: bool = False) -> State:
    """The state; with `lock` nobody else commits a change from here to the transaction's end.

    A statement of its own: one that waits for a lock sees all other rows as they were before.
    """
    return State(*(await connection.execute(_STATE.with_for_update() if lock else _STATE)).one())


async def write_state(connection: AsyncConnection, **values: int | None) -> None:
    """Changes some of the state."""
    await connection.execute(update(state).values(**values))


async def read_lines(
    connection: AsyncConnection, arrival_hours: Iterable[int] | None = None
) -> dict[int, Line]:
    """The ledger's lines of some arrival hours, or all of them."""
    wanted = select(ledger).order_by(ledger.c.arrival_hour)
    if arrival_hours is not None:
        wanted = wanted.where(ledger.c.arrival_hour.in_(list(arrival_hours)))
    lines = map(Line.of, (await connection.execute(wanted)).all())
    return {line.arrival_hour: line for line in lines}


_NAMES = [column.name for column in ledger.columns]
_LINE_IS_THERE = "(arrival_hour) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _NAMES[1:]
)


async def write_line(backend: Backend, connection: AsyncConnection, line: Line) -> None:
    """Puts a line in the place of the one that is there, or where none is."""
    accepted, expired = line.accepted, line.expired
    row = (
        line.arrival_hour,
        accepted.batches,
        accepted.records,
        backend.digits(accepted.bytes_rx),
        backend.digits(accepted.bytes_tx),
        line.batches_repeated,
        line.batches_refused,
        line.batches_summed,
        expired.batches,
        expired.records,
        backend.digits(expired.bytes_rx),
        backend.digits(expired.bytes_tx),
    )
    await backend.insert(connection, ledger, [row], _LINE_IS_THERE)


async def revise_hours(
    backend: Backend,
    connection: AsyncConnection,
    changed: Iterable[int],
    revision: int,
    changed_ms: int,
) -> None:
    """Gives hours a new revision."""
    await backend.insert(
        connection,
        hours,
        [(hour, revision, changed_ms) for hour in sorted(changed)],
        "(hour) DO UPDATE SET revision = excluded.revision, changed_ms = excluded.changed_ms",
    )
