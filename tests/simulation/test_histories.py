"""Random histories of each store against the oracle; with restarts and deaths where it is durable.

FLOWTALLY_TEST_PROFILE=long runs very many and longer ones.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.subjects import Memory, SqlOnPostgres
from tests.postgres import Postgres
from tests.simulation.histories import (
    DuckdbHistories,
    Histories,
    HourlyHistories,
    SharedHistories,
    SnapshotHistories,
    SqliteHistories,
)


def test_histories_of_the_memory_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    tell(lambda: Histories(Memory(), tmp_path_factory.mktemp("memory")))


def test_histories_of_the_memory_store_with_snapshots(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tell(lambda: SnapshotHistories(tmp_path_factory.mktemp("snapshots")))


def test_histories_of_the_duckdb_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    tell(lambda: DuckdbHistories(tmp_path_factory.mktemp("duckdb")))


def test_histories_of_the_hourly_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    tell(lambda: HourlyHistories(tmp_path_factory.mktemp("hourly")))


def test_histories_of_the_sql_store_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> None:
    tell(lambda: SqliteHistories(tmp_path_factory.mktemp("sqlite")))


def test_histories_of_two_sql_stores_on_one_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> None:
    subject = SqlOnPostgres()
    subject.server = postgres
    tell(lambda: SharedHistories(subject, tmp_path_factory.mktemp("postgres")))


def tell(make: Callable[[], Histories]) -> None:
    # Its type asks for a class; any callable does, as its documentation says.
    run_state_machine_as_test(make, settings=settings())  # type: ignore[arg-type]
