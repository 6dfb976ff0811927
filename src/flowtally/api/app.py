"""The HTTP application: the write path in front, FastAPI behind it, the access log around both."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from flowtally.api.access_log import AccessLog
from flowtally.api.asgi import answer_with
from flowtally.api.exchange import Exchange
from flowtally.api.ops import add_ops_routes
from flowtally.api.problems import Problem, problem_of, routing_problem
from flowtally.api.read import add_read_routes
from flowtally.api.services import Services
from flowtally.api.write import WriteEndpoint
from flowtally.errors import FlowtallyError

logger = logging.getLogger(__name__)

WRITE_PATHS = frozenset(("/v1/flows", "/flows"))
"""The versioned path, and its alias: agents already in the field use that."""


class App:
    """Answers exchanges over the given parts; opens nothing. `close` ends its threads."""

    def __init__(self, services: Services) -> None:
        self._write = WriteEndpoint(services)
        self._reads = _make_reads(services)
        self._logged = AccessLog(
            self._dispatch, services.clock, services.metrics, services.access_log
        )

    async def __call__(self, exchange: Exchange) -> None:
        await self._logged(exchange)

    def close(self) -> None:
        """Ends the threads; may be called twice."""
        self._write.close()

    async def _dispatch(self, exchange: Exchange) -> None:
        if exchange.fault is not None:
            await exchange.answer(exchange.fault, (), b"")
            return
        if exchange.method == "POST" and exchange.path in WRITE_PATHS:
            await self._write(exchange)
            return
        try:
            await answer_with(self._reads, exchange)
        except Exception:
            # Starlette raises an unexpected error again once our handler has answered it.
            if not exchange.answered:
                raise


def _make_reads(services: Services) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    add_read_routes(app, services)
    add_ops_routes(app, services)

    async def on_error(request: Request, error: Exception) -> Response:
        exchange: Exchange = request.scope["flowtally"]
        if not isinstance(error, FlowtallyError):
            logger.error("read failed", exc_info=error)
        return _response(problem_of(error, exchange.request_id))

    async def on_routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        exchange: Exchange = request.scope["flowtally"]
        path = request.scope["path"]
        allow = (error.headers or {}).get("Allow")
        if allow is not None:
            methods = {*allow.split(", "), *(["POST"] if path in WRITE_PATHS else [])}
            allow = ", ".join(sorted(methods))
        return _response(routing_problem(error.status_code, path, allow, exchange.request_id))

    app.add_exception_handler(FlowtallyError, on_error)
    app.add_exception_handler(HTTPException, on_routing)
    app.add_exception_handler(Exception, on_error)
    return app


def _response(problem: Problem) -> Response:
    return Response(problem.body, status_code=problem.status, headers=dict(problem.headers))
