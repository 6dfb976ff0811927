"""The journal with DuckDB behind it keeps the contract."""

from __future__ import annotations

from tests.conformance.laws import StoreLaws
from tests.conformance.store_contract import StoreContract
from tests.conformance.subjects import Duckdb


class TestDuckdbStore(StoreContract, StoreLaws):
    subject = Duckdb()
