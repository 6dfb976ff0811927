"""The stores that are held to the contract: how each is made, and what it promises beyond it.

A new store joins by one class here and a file of ten lines; see `test_memory.py`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from flowtally.clock import ManualClock
from flowtally.ports import FlowStore
from flowtally.stores.duckdb.store import DuckdbSettings, DuckdbStore
from flowtally.stores.hourly.store import HourlySettings, HourlyStore
from flowtally.stores.journal_keeper import KeepingPeriods
from flowtally.stores.memory import MemoryStore
from flowtally.stores.memory_taker import Snapshots
from flowtally.stores.sql.store import SqlSettings, SqlStore
from tests.conformance.batches import HOUR_MS
from tests.postgres import Postgres

Story = Callable[[FlowStore, ManualClock], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Periods:
    """How long a store keeps what."""

    retention_ms: int = 7 * 24 * HOUR_MS
    batch_ids_keep_ms: int = 24 * HOUR_MS


class Subject(ABC):
    """A store under test."""

    survives_restart: bool

    @abstractmethod
    def make_store(self, folder: Path, clock: ManualClock, periods: Periods) -> FlowStore:
        """A store over a folder, not yet started."""

    @abstractmethod
    async def expire(self, store: FlowStore) -> None:
        """Brings a store that expires in the background to do so now."""

    def run(
        self,
        folder: Path,
        story: Story,
        clock: ManualClock | None = None,
        periods: Periods = Periods(),
    ) -> None:
        """Starts a store, tells it a story, and closes it."""
        clock = clock or ManualClock()

        async def told() -> None:
            store = self.make_store(folder, clock, periods)
            await store.start()
            try:
                await story(store, clock)
            finally:
                await store.close()

        asyncio.run(told())


class Memory(Subject):
    survives_restart = False

    def make_store(self, folder: Path, clock: ManualClock, periods: Periods) -> FlowStore:
        return MemoryStore(
            clock,
            retention_ms=periods.retention_ms,
            batch_ids_keep_ms=periods.batch_ids_keep_ms,
        )

    async def expire(self, store: FlowStore) -> None:
        """It does so with every read and write."""


class MemoryWithSnapshots(Memory):
    survives_restart = True

    def make_store(self, folder: Path, clock: ManualClock, periods: Periods) -> MemoryStore:
        return MemoryStore(
            clock,
            retention_ms=periods.retention_ms,
            batch_ids_keep_ms=periods.batch_ids_keep_ms,
            # Taken when the test asks for one, and at the end.
            snapshots=Snapshots(folder, interval_s=86_400),
        )


class Duckdb(Subject):
    survives_restart = True

    def make_store(self, folder: Path, clock: ManualClock, periods: Periods) -> FlowStore:
        return DuckdbStore(
            folder,
            clock,
            DuckdbSettings(KeepingPeriods(periods.retention_ms, periods.batch_ids_keep_ms)),
        )

    async def expire(self, store: FlowStore) -> None:
        assert isinstance(store, DuckdbStore)
        await store.keeper.tidy()
        # A read would not wait longer than the read barrier for the expiry to be carried out.
        assert await store.applier.wait_applied(store.journal.last_sequence, 60)


class Hourly(Subject):
    survives_restart = True

    def make_store(self, folder: Path, clock: ManualClock, periods: Periods) -> FlowStore:
        return HourlyStore(
            folder,
            clock,
            HourlySettings(KeepingPeriods(periods.retention_ms, periods.batch_ids_keep_ms)),
        )

    async def expire(self, store: FlowStore) -> None:
        assert isinstance(store, HourlyStore)
        await store.keeper.tidy()
        await store.settle()


class Sql(Subject):
    """The sql store; which database it is on, `url_of` says."""

    survives_restart = True

    @abstractmethod
    def url_of(self, folder: Path) -> str:
        """A database of this folder's own."""

    def make_store(self, folder: Path, clock: ManualClock, periods: Periods) -> FlowStore:
        settings = SqlSettings(periods.retention_ms, periods.batch_ids_keep_ms)
        return SqlStore(self.url_of(folder), folder, clock, settings)

    async def expire(self, store: FlowStore) -> None:
        assert isinstance(store, SqlStore)
        while await store.tidy():
            pass


class SqlOnSqlite(Sql):
    def url_of(self, folder: Path) -> str:
        return "sqlite+aiosqlite:///{data}/flows.sqlite"


class SqlOnPostgres(Sql):
    server: Postgres

    def url_of(self, folder: Path) -> str:
        return self.server.url(folder)
