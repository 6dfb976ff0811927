"""The journal with DuckDB behind it keeps the contract."""

from __future__ import annotations

from pathlib import Path

from flowtally.clock import ManualClock
from flowtally.ports import FlowStore
from flowtally.stores.duckdb.store import DuckdbSettings, DuckdbStore
from tests.conformance.store_contract import StoreContract


class TestDuckdbStore(StoreContract):
    survives_restart = True

    def make_store(self, folder: Path, clock: ManualClock, retention_ms: int) -> FlowStore:
        return DuckdbStore(folder, clock, DuckdbSettings(retention_ms=retention_ms))

    async def expire(self, store: FlowStore) -> None:
        assert isinstance(store, DuckdbStore)
        await store.tidy()
