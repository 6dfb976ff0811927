"""Hypothesis profiles: `quick` for every run, `long` where FLOWTALLY_TEST_PROFILE asks for it. And
one PostgreSQL for all tests of a process that need one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Postgres, started

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.differing_executors]
settings.register_profile(
    "quick",
    max_examples=10,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=_SLOW,
    print_blob=True,
)
settings.register_profile(
    "long",
    max_examples=1000,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=_SLOW,
    print_blob=True,
)
settings.load_profile(os.environ.pop("FLOWTALLY_TEST_PROFILE", "quick"))

if os.environ.pop("FLOWTALLY_TEST_KERNEL", "on") == "off":
    # As on a machine where it was never built; a started service is told by its own setting.
    sys.modules["flowtally_kernel"] = None  # type: ignore[assignment]
    os.environ["FLOWTALLY_KERNEL"] = "false"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that nobody stops; each test has tables of its own in it."""
    server = started()
    yield server
    server.close()
