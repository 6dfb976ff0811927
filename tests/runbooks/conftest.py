"""The services of the crash tests, each with the page that the test is named after."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.conftest import (
    faults_library,
    nursery,
    own_postgres,
    seed,
    service,
    service_on_small_disk,
    small_disk,
)
from tests.crash.service import Service
from tests.postgres import Postgres
from tests.runbooks.incident import Incident

__all__ = [
    "faults_library",
    "nursery",
    "own_postgres",
    "seed",
    "service",
    "service_on_small_disk",
    "small_disk",
]


@pytest.fixture
def incident(service: Service, seed: int, request: pytest.FixtureRequest) -> Iterator[Incident]:
    """Of the page that has the test's name; at the end everything must be well."""
    yield from _ended_well(Incident(page_of(request), service, seed), request)


@pytest.fixture
def incident_on_small_disk(
    service_on_small_disk: Service, seed: int, request: pytest.FixtureRequest
) -> Iterator[Incident]:
    """The same, with 96 MiB of disk."""
    yield from _ended_well(Incident(page_of(request), service_on_small_disk, seed), request)


@pytest.fixture(params=["sqlite", "postgresql"])
def incident_on_sql(
    service: Service, seed: int, request: pytest.FixtureRequest
) -> Iterator[Incident]:
    """With a unit of systemd for PostgreSQL, where it is that."""
    service.set(store="sql")
    postgres: Postgres | None = None
    if request.param == "postgresql":
        postgres = request.getfixturevalue("own_postgres")
        service.set(sql_url=postgres.url(service.folder))
    incident = Incident(page_of(request), service, seed)
    incident.environment |= {"FLOWTALLY_STORE": "sql", "FLOWTALLY_SQL_URL": service.launch.sql_url}
    if postgres is not None:
        incident.environment["PGHOST"] = str(postgres.folder)
        incident.units["postgresql"] = {"start": postgres.start, "stop": postgres.stop}
    yield from _ended_well(incident, request)


def page_of(request: pytest.FixtureRequest) -> str:
    """`test_disk_full` is of `disk-full`."""
    name: str = request.node.originalname
    return name.removeprefix("test_").replace("_", "-")


def _ended_well(incident: Incident, request: pytest.FixtureRequest) -> Iterator[Incident]:
    failed_before = request.session.testsfailed
    yield incident
    if request.session.testsfailed == failed_before:
        incident.assert_over()
