"""What operators and machines ask: is it alive, can it accept, how is each part, what is it."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import Request, Response

from flowtally import __version__
from flowtally.api.backup import Backups
from flowtally.api.dependencies import Endpoint, endpoint_of
from flowtally.api.openapi import openapi_document
from flowtally.api.problems import ACCEPTED, OK, UNHEALTHY, kinds
from flowtally.api.routes import ROUTES
from flowtally.api.services import Services
from flowtally.model import PartHealth
from flowtally.observe.health import Health, worst
from flowtally.wire import kernel
from flowtally.wire.answers import timestamp

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Flowtally</title>
<style>body{font:16px/1.6 sans-serif;margin:3em auto;max-width:40em}</style>
"""
_PAGE = f"""{_HEAD}<h1>Flowtally</h1><p>Sums the bytes of network flows, exactly once.</p><ul>
<li><a href="/v1/hours">/v1/hours</a>: the hours held</li>
<li><a href="/v1/ledger">/v1/ledger</a>: the account of every accepted record</li>
<li><a href="/health">/health</a>: how each part is</li>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/docs/problems">/docs/problems</a>: what can go wrong</li>
<li><a href="/openapi.json">/openapi.json</a>: the contract, OpenAPI 3.1</li>
<li><a href="/version">/version</a>: what is running</li></ul></html>"""


def ops_endpoints() -> dict[str, Endpoint]:
    """What answers each operation of operators and machines, by its name."""
    answers: dict[str, Callable[[Operations], Awaitable[Response]]] = {
        "aggregate": Operations.aggregate,
        "livez": Operations.livez,
        "readyz": Operations.readyz,
        "health": Operations.health,
        "metrics": Operations.metrics,
        "version": Operations.version,
        "openapi": Operations.openapi,
        "docs": Operations.page,
        "problems": Operations.problems,
        "index": Operations.page,
    }
    return {
        **{name: _endpoint(answer) for name, answer in answers.items()},
        "backup": endpoint_of(Backups, Backups.back_up),
    }


def _endpoint(answer: Callable[[Operations], Awaitable[Response]]) -> Endpoint:
    async def answer_alone(operations: Operations, _: Request) -> Response:
        return await answer(operations)

    return endpoint_of(Operations, answer_alone)


class Operations:
    """The endpoints. None of them waits for anything, but for `aggregate`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._health = Health(
            services.clock,
            (services.sink.health, *services.health_sources, services.committer.health),
        )

    async def aggregate(self) -> Response:
        """Has all that was acknowledged brought into view now. Where that takes longer than a
        request may, it goes on, and whoever asks again waits for the rest."""
        try:
            async with asyncio.timeout(self._services.deadline_s):
                await self._services.sink.settle()
        except TimeoutError:
            return _json({"settled": False}, ACCEPTED)
        return _json({"settled": True})

    async def livez(self) -> Response:
        """That the event loop turns."""
        return _json({"status": "alive"})

    async def readyz(self) -> Response:
        """Whether a batch would be taken now."""
        reason = self._refusing()
        if reason is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "reason": reason}, UNHEALTHY)

    async def health(self) -> Response:
        """How each part is; the worst decides."""
        clock = self._services.clock
        found = self._health.parts()
        state = worst(found)
        now_ms, now_s = clock.now_ms(), clock.monotonic_s()
        body = {"status": state, "parts": [_part(part, now_ms, now_s) for part in found]}
        return _json(body, UNHEALTHY if state == "error" else OK)

    async def metrics(self) -> Response:
        """For Prometheus."""
        services = self._services
        admission = services.admission
        services.metrics.watch_parts(self._health.parts, services.clock.monotonic_s)
        services.metrics.note_admission(
            self._refusing() is None, admission.in_flight_bytes, admission.refused_total
        )
        return Response(services.metrics.text(), media_type=_PROMETHEUS)

    async def version(self) -> Response:
        """What is running."""
        return _json(
            {
                "name": "flowtally",
                "version": __version__,
                "api": ROUTES.newest.name,
                "store": self._services.store_name,
                "instance": self._services.source.instance(),
                "decoder": "python" if kernel.version() is None else "native",
                "python": platform.python_version(),
            }
        )

    async def openapi(self) -> Response:
        """The contract."""
        return _json(openapi_document())

    async def page(self) -> Response:
        """Where everything is."""
        return Response(_PAGE, media_type=_HTML)

    async def problems(self) -> Response:
        """What the `type` of a problem refers to."""
        rows = "".join(
            f'<dt id="{slug}">{slug}</dt><dd>{status}: {title}</dd>'
            for slug, status, title in kinds()
        )
        return Response(f"{_HEAD}<h1>Problems</h1><dl>{rows}</dl></html>", media_type=_HTML)

    def _refusing(self) -> str | None:
        services = self._services
        if services.stopping():
            return "the service is stopping"
        return services.sink.refusing() or self._health.refusing()


def _part(part: PartHealth, now_ms: int, now_s: float) -> dict[str, Any]:
    age_ms = max(int((now_s - part.beat_s) * 1000), 0)
    return {
        "name": part.name,
        "state": part.state,
        "beat": timestamp(now_ms - age_ms),
        "beat_age_ms": age_ms,
        "detail": part.detail,
        "last_error": part.last_error,
        "hint": part.hint,
        "facts": part.facts,
    }


def _json(body: object, status: int = OK) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type=_JSON)
