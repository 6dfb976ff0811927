"""The memory store keeps the contract, but for restarts."""

from __future__ import annotations

from pathlib import Path

from flowtally.clock import ManualClock
from flowtally.ports import FlowStore
from flowtally.stores.memory import MemoryStore
from tests.conformance.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    survives_restart = False

    def make_store(self, folder: Path, clock: ManualClock, retention_ms: int) -> FlowStore:
        return MemoryStore(clock, retention_ms=retention_ms)
