"""The memory store keeps the contract; restarts as well, where it takes snapshots."""

from __future__ import annotations

from tests.conformance.laws import StoreLaws
from tests.conformance.store_contract import StoreContract
from tests.conformance.subjects import Memory, MemoryWithSnapshots


class TestMemoryStore(StoreContract, StoreLaws):
    subject = Memory()


class TestMemoryStoreWithSnapshots(StoreContract, StoreLaws):
    subject = MemoryWithSnapshots()
