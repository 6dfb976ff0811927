"""The sql store: takes batches and answers reads, each with a transaction of its database.

All of it runs on the event loop; the driver of SQLite has threads of its own. One transaction of
this process changes something at a time: the committer's, or one of the tidying beside it. Whoever
goes away while a read is under way leaves it to end by itself, so that no connection is cut off in
the middle of something.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flowtally import limits
from flowtally.clock import Age, Clock
from flowtally.errors import DataFolderError, KeyReused, NotAccepting
from flowtally.heartbeat import ended_part, how_ended
from flowtally.model import (
    Backup,
    Batch,
    HourSummary,
    Ledger,
    PartHealth,
    Receipt,
    Revision,
    Sums,
)
from flowtally.ports import FlowStore
from flowtally.steps import OnStep, ignore
from flowtally.stores.disk_space import DiskSpace
from flowtally.stores.revisions import Revisions
from flowtally.stores.sql import retention
from flowtally.stores.sql.accounts import read_state, write_state
from flowtally.stores.sql.address import Address
from flowtally.stores.sql.backend import Backend, Failure
from flowtally.stores.sql.commit import commit
from flowtally.stores.sql.migrate import upgrade
from flowtally.stores.sql.reads import read_hours, read_ledger, read_revision, read_sums

logger = logging.getLogger(__name__)

_TIDY_INTERVAL_S = 1.0
"""Also from the start to the first round: a service restarted more often than this never tidies."""
_RETRY_S = 5
_HINT = "docs/runbooks/sql-store-failed.md"
_CLOSED = "the store is closed"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What an operator may set; each is explained in docs/reference/settings.md."""

    retention_ms: int = 7 * 24 * 3_600_000
    batch_ids_keep_ms: int = 24 * 3_600_000
    disk_free_bytes_min: int = limits.DISK_FREE_BYTES_MIN


class SqlStore(FlowStore):
    """See the module, and `FlowStore` for the contract."""

    visible_on_return = True

    def __init__(
        self,
        sql_url: str,
        data: Path,
        clock: Clock,
        settings: SqlSettings = SqlSettings(),
        on_step: OnStep = ignore,
    ) -> None:
        self.backend = backend_of(Address(sql_url, data))
        self._clock = clock
        self._age = Age(clock)
        self._settings = settings
        self._on_step = on_step
        self._revisions = Revisions(limits.HOUR_REVISIONS_MAX)
        self._changing = asyncio.Lock()
        self._reads: set[asyncio.Task[object]] = set()
        self._tidying: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._is_open = False
        self._instance: str | None = None
        self._failure: Failure | None = None
        self._refused = 0
        self._disk = DiskSpace(self.backend.room, clock, settings.disk_free_bytes_min)
        self._beat_s = self._tidy_beat_s = clock.monotonic_s()

    async def start(self) -> None:
        self._instance = await open_tables(self.backend, True, self._on_step)
        self._disk.look()
        self._beat_s = self._tidy_beat_s = self._clock.monotonic_s()
        self._is_open = True
        self._tidying = asyncio.create_task(self._tidy_regularly(), name="sql-tidy")
        logger.info("sql store started", extra={"sql_url": self.backend.address.shown})

    def announce(self, url: str) -> None:
        self.backend.announce(url)

    async def close(self) -> None:
        was_open, self._is_open = self._is_open, False
        if not was_open:
            return
        self._stopping.set()
        with self._answered_within(limits.SQL_CLOSE_S):
            if self._tidying is not None:
                # However it ended; that is told on /health.
                await asyncio.wait([self._tidying])
            async with self._changing:
                await asyncio.gather(*self._reads, return_exceptions=True)
                await self.backend.close()

    def instance(self) -> str | None:
        return self._instance

    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        reason = self.refusing()
        if reason is not None:
            raise NotAccepting(reason, retry_after_s=_RETRY_S)
        return await self._commit(batches)

    async def _commit(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        async with self._changing_safely("store a batch"):
            refused = self._refused
            # Before the commit: whoever has read the new sums must not find an old revision here.
            done = await commit(
                self.backend, self._clock, batches, refused, self._on_step, self._revisions.forget
            )
            self._refused -= refused
            if not self.backend.others_write:
                self._revisions.touch(done.hours, done.revision, done.revision.number)
        return done.answers

    @asynccontextmanager
    async def _changing_safely(self, purpose: str) -> AsyncIterator[None]:
        """Alone among this process's changes; what fails in it ends writing until it is mended."""
        async with self._changing:
            if not self._is_open:
                raise NotAccepting(_CLOSED)
            try:
                with self._answered_within(limits.SQL_CHANGE_S):
                    yield
                self._beat_s = self._clock.monotonic_s()
            except self.backend.errors as error:
                detail = self._fail(purpose, error)
                fault = self.backend.address.masked(error)
                raise NotAccepting(detail, retry_after_s=_RETRY_S) from fault

    @contextmanager
    def _answered_within(self, seconds: float) -> Iterator[None]:
        timer = asyncio.get_running_loop().call_later(seconds, self.backend.cut)
        try:
            yield
        finally:
            timer.cancel()

    def _fail(self, purpose: str, error: Exception) -> str:
        self._beat_s = self._clock.monotonic_s()
        failure = self.backend.failure_of(error)
        if self._failure is None or not self._failure.is_final:
            if self._failure is None:
                address = self.backend.address
                logger.critical(
                    "sql store failed",
                    exc_info=address.masked(error),
                    extra={"purpose": purpose, "error": address.told(error)},
                )
            self._failure = failure
        return failure.detail

    def refusing(self) -> str | None:
        if not self._is_open:
            return _CLOSED
        if self._failure is not None:
            return self._failure.detail
        return self._disk.refusing()

    def count_refused(self, batches: int = 1) -> None:
        self._refused += batches

    async def revision(self, hour: int) -> Revision:
        # Where others write, what is remembered may be old, and so nothing is.
        known = self._revisions.get(hour)
        if known is not None and self._is_open:
            return known
        found, as_of = await self._read(
            lambda connection: read_revision(connection, hour), glance=True
        )
        if found.number and not self.backend.others_write:
            self._revisions.touch([hour], found, as_of)
        return found

    async def sums(self, hour: int) -> Sums:
        return await self._read(lambda connection: read_sums(connection, hour))

    async def hours(self) -> Sequence[HourSummary]:
        return await self._read(read_hours)

    async def ledger(self) -> Ledger:
        return await self._read(read_ledger)

    def backed_up(self) -> AbstractAsyncContextManager[Backup]:
        if not self._is_open:
            raise NotAccepting(_CLOSED)
        return self.backend.backed_up(self._clock.now_ms())

    async def _read(
        self, query: Callable[[AsyncConnection], Awaitable[Answer]], glance: bool = False
    ) -> Answer:
        if not self._is_open:
            raise NotAccepting(_CLOSED)
        engine = self.backend.glancing if glance else self.backend.reading
        reading = asyncio.create_task(_answer(engine, query), name="sql-read")
        self._reads.add(reading)
        reading.add_done_callback(self._forget_read)
        try:
            return await asyncio.shield(reading)
        except self.backend.errors as error:
            fault = self.backend.address.masked(error)
            logger.warning("read failed", exc_info=fault)
            raise NotAccepting("the store cannot be read now", retry_after_s=_RETRY_S) from fault

    def _forget_read(self, reading: asyncio.Task[Answer]) -> None:
        self._reads.discard(reading)
        # Whoever asked may be gone: then nobody else looks at what became of it.
        if not reading.cancelled():
            reading.exception()

    async def _tidy_regularly(self) -> None:
        """Begins an interval after the start: whoever has just come waits for nothing of it."""
        interval_s = _TIDY_INTERVAL_S
        while not await self._stops_within(interval_s):
            more = False
            try:
                more = await self.tidy()
            except NotAccepting:
                # It is told already, and on /health.
                more = False
            except self.backend.errors as error:
                self._fail("tidy", error)
            except Exception:
                logger.exception("tidying failed")
            self._tidy_beat_s = self._clock.monotonic_s()
            interval_s = 0 if more else _TIDY_INTERVAL_S

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def tidy(self) -> bool:
        """One round of what can wait; True if there is more to do at once."""
        self._disk.look()
        if self._failure is not None:
            if self._failure.is_final or self._disk.is_nearly_full:
                self._beat_s = self._clock.monotonic_s()
            else:
                await self._try_again()
            return False
        if self._refused and self.refusing() is None:
            await self._commit([])
        ages = retention.Ages(
            self._age.now_ms(), self._settings.batch_ids_keep_ms, self._settings.retention_ms
        )
        with self._answered_within(limits.SQL_CHANGE_S):
            due = await _answer(self.backend.glancing, lambda one: retention.what_is_due(one, ages))
        await self._do(due, ages)
        await self.backend.fold_log()
        async with self._changing_safely("give space back"):
            await self.backend.give_space_back()
        return due.to_expire or due.to_delete or due.to_forget or due.to_restamp

    async def _do(self, due: retention.Due, ages: retention.Ages) -> None:
        if due.to_expire:
            async with self._transaction("expire") as connection:
                sequence = await retention.expire(connection, ages, self._clock)
                # Before the commit, as there.
                self._revisions.forget(sequence)
            self._on_step("expire.journalled")
        if due.to_expire or due.to_delete:
            async with self._transaction("delete what expired") as connection:
                await retention.delete_some(self.backend, connection, self._on_step)
            self._on_step("expire.committed")
        if due.to_forget:
            async with self._transaction("forget batch_ids") as connection:
                await retention.forget_some(connection, ages)
        if due.to_restamp:
            async with self._transaction("restamp batch_ids") as connection:
                await retention.restamp_some(connection, ages)

    @asynccontextmanager
    async def _transaction(self, purpose: str) -> AsyncIterator[AsyncConnection]:
        async with (
            self._changing_safely(purpose),
            self.backend.writing.begin() as connection,
        ):
            yield connection

    async def _try_again(self) -> None:
        """Tries a small write after one that failed; writing goes on if it was taken."""
        async with self._transaction("try the database") as connection:
            state = await read_state(connection, lock=True)
            await write_state(connection, sequence=state.sequence)
        was, self._failure = self._failure, None
        assert was is not None
        logger.warning("writing resumed", extra={"after": was.detail})

    def health(self) -> Sequence[PartHealth]:
        failure = self._failure
        # While it fails, each round tries it again, and may wait so long for a lock.
        patience_s = limits.BEAT_AGE_S_MAX + (0.0 if failure is None else limits.SQL_CHANGE_S)
        ended = "" if self._stopping.is_set() else how_ended(self._tidying)
        database = PartHealth(
            "database",
            "ok" if failure is None else "error",
            self._beat_s,
            detail=self.backend.address.shown,
            last_error="" if failure is None else failure.detail,
            hint="" if failure is None else _HINT,
            facts={"kind": self.backend.name, **self.backend.facts()},
            # Each round of tidying asks it something. Without, a commit that hangs is told by the
            # committer.
            beat_age_s_max=math.inf if ended else patience_s,
            needed_to_accept=True,
        )
        tidying = PartHealth("tidying", "ok", self._tidy_beat_s, beat_age_s_max=patience_s)
        if ended:
            tidying = ended_part("tidying", self._tidy_beat_s, ended)
        return (database, tidying, *self._disk.health(patience_s))


def backend_of(address: Address) -> Backend:
    """The backend for a URL. Each driver is imported only where it is used."""
    if address.is_sqlite:
        from flowtally.stores.sql.sqlite import SqliteBackend

        return SqliteBackend(address)
    from flowtally.stores.sql.postgres import PostgresBackend

    return PostgresBackend(address)


async def open_tables(backend: Backend, create: bool, on_step: OnStep = ignore) -> str:
    """Opens the database and brings its tables up to date; returns whose they are.

    Raises `DataFolderError` and leaves nothing open where it cannot.
    """

    def upgraded(connection: Connection) -> None:
        backend.lock_migrations(connection)
        if upgrade(connection, create):
            on_step("sql.migrated")

    await backend.open(create)
    try:
        async with backend.writing.begin() as connection:
            await connection.run_sync(upgraded)
            return (await read_state(connection)).instance
    except backend.errors as error:
        await backend.close()
        raise DataFolderError(
            f"{backend.address.shown} cannot be used: {backend.address.told(error)}"
        ) from None
    except DataFolderError as error:
        await backend.close()
        raise DataFolderError(f"{backend.address.shown} cannot be used: {error}") from None
    except BaseException:
        await backend.close()
        raise


async def _answer(
    engine: AsyncEngine, query: Callable[[AsyncConnection], Awaitable[Answer]]
) -> Answer:
    async with engine.connect() as connection:
        return await query(connection)
