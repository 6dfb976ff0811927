"""How FastAPI's endpoints get at the parts they stand on: by a dependency.

A test may override it: `app.dependency_overrides[services_of] = lambda: others` puts other parts in
the place of those that the application was made over, on every path, and for posts as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from flowtally.api.services import Services

Endpoint = Callable[..., Awaitable[Response]]


async def services_of(request: Request) -> Services:
    """The parts that the application was made over. Asynchronous, like all dependencies here:
    FastAPI would call another one in a thread."""
    services: Services = request.app.state.services
    return services


Provided = Annotated[Services, Depends(services_of)]


def endpoint_of(
    make: Callable[[Services], Any], answer: Callable[[Any, Request], Awaitable[Response]]
) -> Endpoint:
    """An endpoint that makes its object over the parts that are provided, and has it answer."""

    async def endpoint(request: Request, services: Provided) -> Response:
        return await answer(make(services), request)

    return endpoint
