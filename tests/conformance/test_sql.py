"""The sql store keeps the contract, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.conformance.laws import StoreLaws
from tests.conformance.store_contract import StoreContract
from tests.conformance.subjects import SqlOnPostgres, SqlOnSqlite
from tests.postgres import Postgres


class TestSqlStoreOnSqlite(StoreContract, StoreLaws):
    subject = SqlOnSqlite()


class TestSqlStoreOnPostgres(StoreContract, StoreLaws):
    subject = SqlOnPostgres()

    @pytest.fixture(autouse=True)
    def _give_server(self, postgres: Postgres) -> None:
        self.subject.server = postgres
