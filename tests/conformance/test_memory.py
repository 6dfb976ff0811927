"""The memory store keeps the contract, but for restarts."""

from __future__ import annotations

from tests.conformance.laws import StoreLaws
from tests.conformance.store_contract import StoreContract
from tests.conformance.subjects import Memory


class TestMemoryStore(StoreContract, StoreLaws):
    subject = Memory()
