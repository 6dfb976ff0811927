"""The plainest HTTP client there is: one connection, one request at a time, no retries of its own.

It tells apart only what a sender must tell apart: an answer that is whole, and no answer.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

ANSWER_S_MAX = 120.0
"""Generous: a slow machine is not a fault. The service's own deadline is shorter."""


class NoAnswer(Exception):
    """The connection was refused, reset or cut: whether the request did anything is unknown."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.body[:500]!r}"


class Connection:
    """To 127.0.0.1; opened when it is needed, and opened anew after each failure."""

    def __init__(self, port: int, headers: dict[str, str] | None = None) -> None:
        """`headers` go with each request."""
        self._port = port
        self._headers = headers or {}
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Sends one request. Raises `NoAnswer` where no whole answer came back."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=ANSWER_S_MAX
            )
        try:
            self._connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(repr(error)) from error
        found = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self.close()
        return Answer(response.status, found, content)


def get(port: int, path: str) -> Answer:
    """One GET on a connection of its own."""
    with Connection(port) as connection:
        return connection.request("GET", path)


def post(port: int, body: bytes, key: str | None = None) -> Answer:
    """One POST of a JSON body to /v1/flows on a connection of its own."""
    with Connection(port) as connection:
        return send(connection, body, key)


def send(connection: Connection, body: bytes, key: str | None = None) -> Answer:
    """One POST of a JSON body to /v1/flows."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    return connection.request("POST", "/v1/flows", body, headers)
