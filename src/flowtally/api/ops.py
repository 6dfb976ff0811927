"""What operators and machines ask: is it alive, can it accept, how is each part, what is it."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import Request, Response

from flowtally import __version__
from flowtally.api.dependencies import Endpoint, endpoint_of
from flowtally.api.openapi import openapi_document
from flowtally.api.problems import ACCEPTED, OK, UNHEALTHY, kinds
from flowtally.api.routes import ROUTES
from flowtally.api.services import Services
from flowtally.model import PartHealth
from flowtally.observe.health import with_stale_beats, worst
from flowtally.wire import kernel
from flowtally.wire.answers import timestamp

_JSON = "application/json"
_BEAT_MS_MAX = 10_000
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
    return {name: _endpoint(answer) for name, answer in answers.items()}


def _endpoint(answer: Callable[[Operations], Awaitable[Response]]) -> Endpoint:
    async def answer_alone(operations: Operations, _: Request) -> Response:
        return await answer(operations)

    return endpoint_of(Operations, answer_alone)


class Operations:
    """The endpoints. None of them waits for anything, but for `aggregate`."""

    def __init__(self, services: Services) -> None:
        self._services = services

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
        services = self._services
        reason = "the service is stopping" if services.stopping() else services.sink.refusing()
        if reason is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "reason": reason}, UNHEALTHY)

    async def health(self) -> Response:
        """How each part is; the worst decides."""
        now_ms = self._services.clock.now_ms()
        found = self._parts(now_ms)
        state = worst(found)
        body = {"status": state, "parts": [_part(part, now_ms) for part in found]}
        return _json(body, UNHEALTHY if state == "error" else OK)

    async def metrics(self) -> Response:
        """For Prometheus."""
        services = self._services
        now_ms = services.clock.now_ms()
        in_flight_bytes = services.admission.in_flight_bytes
        services.metrics.note_parts(self._parts(now_ms), now_ms, in_flight_bytes)
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

    def _parts(self, now_ms: int) -> list[PartHealth]:
        found = with_stale_beats(self._services.sink.health(), now_ms, _BEAT_MS_MAX)
        return [*found, _committer_part(self._services, now_ms)]


def _committer_part(services: Services, now_ms: int) -> PartHealth:
    committer = services.committer
    busy_since_s = committer.busy_since_s
    busy_s = 0.0 if busy_since_s is None else services.clock.monotonic_s() - busy_since_s
    stuck = busy_s * 1000 > _BEAT_MS_MAX
    return PartHealth(
        "committer",
        "error" if stuck else "ok",
        now_ms if busy_since_s is None else now_ms - int(busy_s * 1000),
        detail=f"{committer.queued} batches wait",
        last_error=f"a commit has been under way for {busy_s:.0f} s" if stuck else "",
        hint="docs/guides/operating.md#a-part-is-stuck" if stuck else "",
        facts={
            "queued_batches": committer.queued,
            "refused_total": services.admission.refused_total,
        },
    )


def _part(part: PartHealth, now_ms: int) -> dict[str, Any]:
    return {
        "name": part.name,
        "state": part.state,
        "beat": timestamp(part.beat_ms),
        "beat_age_ms": max(now_ms - part.beat_ms, 0),
        "detail": part.detail,
        "last_error": part.last_error,
        "hint": part.hint,
        "facts": part.facts,
    }


def _json(body: object, status: int = OK) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type=_JSON)
