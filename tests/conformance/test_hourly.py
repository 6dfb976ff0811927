"""The store that sums by the hour keeps the contract, as one whose batches are visible later."""

from __future__ import annotations

from tests.conformance.laws import StoreLaws
from tests.conformance.store_contract import StoreContract
from tests.conformance.subjects import Hourly


class TestHourlyStore(StoreContract, StoreLaws):
    subject = Hourly()
