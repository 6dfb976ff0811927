"""A small client: posts batches under their keys until they are counted, and reads sums.

A batch is retried under the same Idempotency-Key, so it is counted once whatever is lost between.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx2
import msgspec

from flowtally.client.retry import RETRIED, RetryPolicy
from flowtally.errors import FlowtallyError
from flowtally.model import Receipt

_TIMEOUT_S = 60.0


class Refused(FlowtallyError):
    """The service refused a request for good; `problem` is its answer (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(
            f"the service answered {status}: {problem.get('detail', 'no detail')}"
        )
        self.status = status
        self.problem = problem


class Unreachable(FlowtallyError):
    """The service did not take a request within the time limit."""


class FlowClient:
    """One connection pool to one service; safe to use from several threads."""

    def __init__(
        self,
        url: str,
        policy: RetryPolicy = RetryPolicy(),
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = httpx2.Client(
            base_url=url, timeout=_TIMEOUT_S, transport=transport
        )
        self._url = url
        self._policy = policy
        self._sleep = sleep
        self._monotonic_s = monotonic_s
        self.retries = 0

    def __enter__(self) -> FlowClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; may be called twice."""
        self._http.close()

    def post(
        self, body: bytes, key: str, content_type: str = "application/json"
    ) -> Receipt:
        """Posts a batch until it is counted. Raises `Refused` or `Unreachable`."""
        headers = {"Idempotency-Key": key, "Content-Type": content_type}
        answer = self._until_answered("POST", "/v1/flows", headers, body)
        receipt = msgspec.json.decode(answer.content)
        return Receipt(
            receipt["batch_id"],
            receipt["records"],
            receipt["flows"],
            repeated=answer.headers.get("Idempotency-Replayed") == "true",
        )

    def sums(self, hour: int) -> list[dict[str, Any]]:
        """The sums of an hour, as the objects of the answer."""
        found: list[dict[str, Any]] = msgspec.json.decode(self.sums_text(hour, "json"))
        return found

    def sums_text(self, hour: int, format_name: str) -> bytes:
        """The sums of an hour as the service writes them."""
        path = f"/v1/flows?hour={hour}&format={format_name}"
        return self._until_answered("GET", path, {}, None).content

    def ledger(self) -> dict[str, Any]:
        """The account."""
        answer = self._until_answered("GET", "/v1/ledger", {}, None)
        found: dict[str, Any] = msgspec.json.decode(answer.content)
        return found

    def _until_answered(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> httpx2.Response:
        began_s = self._monotonic_s()
        attempt = 0
        while True:
            retry_after_s = 0.0
            try:
                answer = self._http.request(method, path, headers=headers, content=body)
                if answer.is_success:
                    return answer
                if answer.status_code not in RETRIED:
                    raise Refused(answer.status_code, _problem(answer))
                why = f"it answered {answer.status_code}"
                retry_after_s = _retry_after_s(answer)
            except httpx2.TransportError as error:
                why = str(error) or type(error).__name__
            wait_s = self._policy.wait_s(
                attempt, self._monotonic_s() - began_s, random.random(), retry_after_s
            )
            if wait_s is None:
                raise Unreachable(f"gave up on {self._url}: {why}")
            attempt += 1
            self.retries += 1
            self._sleep(wait_s)


def _retry_after_s(answer: httpx2.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
