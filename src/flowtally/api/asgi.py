"""Lets an ASGI application answer an exchange: what is not a batch is served by FastAPI.

The scope holds the `Exchange` under `flowtally`. Lifespan and web sockets are not spoken.
"""

from __future__ import annotations

from typing import Any

from flowtally.api.exchange import Exchange
from flowtally.errors import BodyCutOff


async def answer_with(app: Any, exchange: Exchange) -> None:
    """Has the application answer, and notes which route did."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": exchange.version,
        "method": exchange.method,
        "scheme": "https" if exchange.secure else "http",
        "path": exchange.path,
        "raw_path": exchange.target.partition(b"?")[0],
        "query_string": exchange.query,
        "root_path": "",
        "headers": list(exchange.headers.items()),
        "client": (exchange.client, 0),
        "server": None,
        "flowtally": exchange,
    }
    head: dict[str, Any] = {}
    read_to_its_end = False

    async def receive() -> dict[str, Any]:
        nonlocal read_to_its_end
        if read_to_its_end:
            await exchange.gone()
            return {"type": "http.disconnect"}
        try:
            body = b"".join(await exchange.read())
        except BodyCutOff:
            return {"type": "http.disconnect"}
        read_to_its_end = exchange.body_ended
        return {"type": "http.request", "body": body, "more_body": not read_to_its_end}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
            return
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if head:
            status, headers, length = _without_length(head)
            head.clear()
            if not more and (length is None or length == len(body)):
                await exchange.answer(status, headers, body)
                return
            await exchange.begin(status, headers, length)
        await exchange.send(body)
        if not more:
            await exchange.end()

    try:
        await app(scope, receive, send)
    finally:
        route = scope.get("route")
        if route is not None:
            exchange.route = route.path


def _without_length(
    head: dict[str, Any],
) -> tuple[int, list[tuple[bytes, bytes]], int | None]:
    """The status of an answer, its headers but the length, and the length."""
    headers = [(bytes(name).lower(), bytes(value)) for name, value in head["headers"]]
    length = dict(headers).get(b"content-length")
    others = [header for header in headers if header[0] != b"content-length"]
    return head["status"], others, None if length is None else int(length)
