"""Fixtures of the HTTP tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.http.service import Service


@pytest.fixture
def make_service() -> Iterator[Callable[..., Service]]:
    """Starts services with bounds of their own; all are closed at the end."""
    services: list[Service] = []

    def make(**options: Any) -> Service:
        service = Service(**options)
        services.append(service)
        service.start()
        return service

    yield make
    for service in services:
        service.close()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """One service with the bounds of production."""
    return make_service()
