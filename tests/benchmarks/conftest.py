"""What the tests of the benchmarks have in common."""

from __future__ import annotations

import pytest


@pytest.fixture
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few records are sent in turn that making and checking them takes no time."""
    monkeypatch.setattr("benchmarks.traffic.POOL_RECORDS", 2_000)
