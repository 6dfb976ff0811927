"""The HTTP application: the write path in front, FastAPI behind it, the access log around both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from fastapi import FastAPI, Request, Response

from flowtally.api.access_log import AccessLog
from flowtally.api.asgi import answer_with
from flowtally.api.dependencies import services_of
from flowtally.api.exchange import Exchange
from flowtally.api.ops import ops_endpoints
from flowtally.api.problems import Problem, problem_of, routing_problem, send_problem
from flowtally.api.read import read_endpoints
from flowtally.api.routes import ROUTES, WRITE_OPERATION, RouteTable
from flowtally.api.services import Services
from flowtally.api.write import WriteEndpoint
from flowtally.errors import AccessDenied, FlowtallyError, RateLimited

logger = logging.getLogger(__name__)


class App:
    """Answers exchanges over the given parts; opens nothing. `close` ends its threads.

    `dependency_overrides` is FastAPI's: what stands in it for `services_of` is used in the place of
    the given parts, by posts too; only the access log and the gate keep to those they were given.
    """

    def __init__(self, services: Services, routes: RouteTable = ROUTES) -> None:
        self._routes = routes
        self._write = WriteEndpoint(services)
        self._behind = _make_behind(services, routes)
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = (
            self._behind.dependency_overrides
        )
        # Nothing is asked where there is nothing to ask: a small post would pay for it.
        self._gate = None if services.gate.is_open else services.gate
        self._metrics = services.metrics
        self._logged = AccessLog(self._dispatch, services.clock, services.metrics)

    async def __call__(self, exchange: Exchange) -> None:
        await self._logged(exchange)

    def close(self) -> None:
        """Ends the threads; may be called twice."""
        self._write.close()

    async def _dispatch(self, exchange: Exchange) -> None:
        if exchange.fault is not None:
            if not isinstance(exchange.fault, FlowtallyError):
                logger.error("a request could not be read", exc_info=exchange.fault)
            await send_problem(problem_of(exchange.fault, exchange.request_id), exchange)
            return
        path = exchange.path
        place = self._routes.find(exchange.method, path)
        if place is not None:
            exchange.arrive(place)
        if self._gate is not None:
            try:
                self._gate.admit(exchange, path)
            except (AccessDenied, RateLimited) as error:
                await self._turn_away(error, exchange)
                return
        if place is None:
            # Not left to FastAPI: to its patterns a path with a newline behind it is the same one.
            await self._nowhere(exchange, path)
            return
        if place.operation == WRITE_OPERATION:
            write = self._write
            if self.dependency_overrides:
                write = await self._overridden(write)
            await write(exchange)
            return
        try:
            await answer_with(self._behind, exchange)
        except Exception:
            # Starlette raises an unexpected error again once our handler has answered it.
            if not exchange.answered:
                raise

    async def _nowhere(self, exchange: Exchange, path: str) -> None:
        """There is nothing at the path, or nothing for the method."""
        allow = self._routes.allow(path)
        if allow:
            exchange.route = path
        await send_problem(routing_problem(path, allow, exchange.request_id), exchange)

    async def _turn_away(self, error: AccessDenied | RateLimited, exchange: Exchange) -> None:
        """Answers without a look at the body."""
        self._metrics.count_denied("rate" if isinstance(error, RateLimited) else error.reason)
        await send_problem(problem_of(error, exchange.request_id), exchange)

    async def _overridden(self, write: WriteEndpoint) -> WriteEndpoint:
        override = self.dependency_overrides.get(services_of)
        if override is None:
            return write
        services = override()
        return write.over(await services if isawaitable(services) else services)


def _make_behind(services: Services, routes: RouteTable) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.services = services
    endpoints = {**read_endpoints(), **ops_endpoints()}
    for place in routes.places:
        if place.operation != WRITE_OPERATION:
            app.add_api_route(
                place.path,
                endpoints[place.operation],
                methods=["GET", "HEAD"] if place.method == "GET" else [place.method],
                include_in_schema=False,
                response_model=None,
            )

    async def on_error(request: Request, error: Exception) -> Response:
        exchange: Exchange = request.scope["flowtally"]
        if not isinstance(error, FlowtallyError):
            logger.error("read failed", exc_info=error)
        return _response(problem_of(error, exchange.request_id))

    app.add_exception_handler(FlowtallyError, on_error)
    app.add_exception_handler(Exception, on_error)
    return app


def _response(problem: Problem) -> Response:
    return Response(problem.body, status_code=problem.status, headers=dict(problem.headers))
