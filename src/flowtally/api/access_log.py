"""One line per request, and its metrics, around everything else.

The values of a line are escaped by the log's formatter, and the route is a template, never the path
that a client sent: hostile input cannot forge a line or grow a metric.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from flowtally.access.tokens import without_tokens
from flowtally.api.exchange import Exchange
from flowtally.clock import Clock
from flowtally.observe.log_lines import Event, request_id_of_task
from flowtally.observe.metrics import Metrics

logger = logging.getLogger("flowtally.access")


class AccessLog:
    """Wraps what answers exchanges."""

    def __init__(
        self,
        app: Callable[[Exchange], Awaitable[None]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics

    async def __call__(self, exchange: Exchange) -> None:
        began_s = self._clock.monotonic_s()
        token = request_id_of_task.set(exchange.request_id)
        try:
            await self._app(exchange)
        finally:
            self._note(exchange, self._clock.monotonic_s() - began_s)
            request_id_of_task.reset(token)

    def _note(self, exchange: Exchange, duration_s: float) -> None:
        self._metrics.observe_request(exchange.method, exchange.route, exchange.status, duration_s)
        if exchange.is_deprecated:
            self._metrics.count_deprecated(exchange.method, exchange.route)
        if not logger.isEnabledFor(logging.INFO):
            return
        fields = {
            "method": exchange.method,
            "route": exchange.route,
            "status": exchange.status,
            "duration_ms": round(duration_s * 1000, 3),
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
        }
        if exchange.is_deprecated:
            fields["deprecated"] = True
        if exchange.records is not None:
            fields["records"] = exchange.records
        if exchange.batch_id is not None:
            # The only one of these that may be any text that a client chose.
            fields["batch_id"] = without_tokens(exchange.batch_id)
        if exchange.failed_commit is not None:
            fields["commit"] = exchange.failed_commit
        if exchange.client is not None:
            fields["client"] = exchange.client
        if exchange.token_name is not None:
            fields["token"] = exchange.token_name
        fields["request_id"] = exchange.request_id
        logger.handle(Event(logger.name, logging.INFO, "request", self._clock.now_ms(), fields))
