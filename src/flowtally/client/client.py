"""A small client: posts batches under their keys until they are counted, and reads sums.

A batch is retried under the same Idempotency-Key, so it is counted once whatever is lost between.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx2
import msgspec

from flowtally.client.retry import RETRIED, RetryPolicy
from flowtally.errors import FlowtallyError, SettingsError
from flowtally.model import Ledger, LedgerLine, Receipt
from flowtally.wire.backup_manifest import Manifest
from flowtally.wire.media import BodyFormat

_TIMEOUT_S = 60.0
_TIMEOUT_S_MIN = 1.0
_PORT_MAX = 65_535
_HEALTH_BYTES_MAX = 1024 * 1024
_HEALTH_STATUSES = (200, 503)
"""Also what is unwell says how it is."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for what is no JSON, or deeper than it reads."""
Answer = TypeVar("Answer")


class Refused(FlowtallyError):
    """The service refused a request for good; `problem` is its answer (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"the service answered {status}: {problem.get('detail', 'no detail')}")
        self.status = status
        self.problem = problem

    @classmethod
    def by(cls, answer: httpx2.Response) -> Refused:
        """What an answer, read to its end, says."""
        return cls(answer.status_code, _problem(answer))

    def is_kind(self, slug: str) -> bool:
        """Whether the problem's `type` ends in this name, such as `key-reused`."""
        return str(self.problem.get("type", "")).endswith(f"#{slug}")


class Unreachable(FlowtallyError):
    """The service did not take a request within the time limit."""


class UnexpectedAnswer(FlowtallyError):
    """What answers there does not speak as flowtally does."""


class _LedgerAnswer(msgspec.Struct):
    """Both fields must be there: an answer of something else is not an empty ledger."""

    balances: bool
    lines: tuple[LedgerLine, ...]


class HourHeld(msgspec.Struct):
    """A line of the list of hours."""

    hour: int
    flows: int
    revision: int
    last_change: str | None


class _HoursAnswer(msgspec.Struct):
    hours: tuple[HourHeld, ...]


class HealthPart(msgspec.Struct):
    """How a part of a service is, so far as it says."""

    name: str
    state: str
    detail: str = ""
    last_error: str = ""
    hint: str = ""


class Health(msgspec.Struct):
    """How a service is: the state of its worst part, and all of them."""

    status: str
    parts: tuple[HealthPart, ...]


class _Settled(msgspec.Struct):
    settled: bool


class _Version(msgspec.Struct):
    name: str
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class HourRead:
    """An hour as it was read: equal states have equal lines."""

    state: str
    lines: bytes


class FlowClient:
    """One connection pool to one service; safe to use from several threads."""

    def __init__(
        self,
        url: str,
        policy: RetryPolicy = RetryPolicy(),
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], object] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        token: str | None = None,
        ca: Path | None = None,
    ) -> None:
        """Raises `SettingsError` where `url` is none, or `ca` holds no certificates. Opens no
        connection yet. `token` is sent to this service alone: no redirect is followed."""
        self.url = url.rstrip("/")
        self._http = httpx2.Client(
            base_url=_checked(url),
            headers=None if token is None else {"Authorization": f"Bearer {token}"},
            verify=_trust(url, ca),
            timeout=_TIMEOUT_S,
            transport=transport,
            follow_redirects=False,
        )
        self._url = url
        self._policy = policy
        self._abandoned = threading.Event()
        self._sleep = sleep or self._abandoned.wait
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

    def abandon(self) -> None:
        """Ends all waiting for another attempt, in every thread, with `Unreachable`."""
        self._abandoned.set()

    def post(self, body: bytes, key: str, form: BodyFormat = BodyFormat.JSON) -> Receipt:
        """Posts a batch until it is counted.

        Raises `Refused` where the service will never count it, and `Unreachable` where it was not
        counted in time or that is unknown; then it may be posted again under the same key.
        """
        headers = {"Idempotency-Key": key, "Content-Type": form.media_type}
        answer = self._until_answered("POST", "/v1/flows", headers, body)
        repeated = answer.headers.get("Idempotency-Replayed") == "true"
        return msgspec.structs.replace(self._decoded(answer.content, Receipt), repeated=repeated)

    def sums(self, hour: int) -> list[dict[str, Any]]:
        """The sums of an hour, as the objects of the answer."""
        answer = self._until_answered("GET", f"/v1/flows?hour={hour}", {}, None)
        return self._decoded(answer.content, list[dict[str, Any]])

    def sums_text(self, hour: int, format_name: str) -> bytes:
        """The sums of an hour as the service writes them."""
        path = f"/v1/flows?hour={hour}&format={format_name}"
        return self._until_answered("GET", path, {}, None).content

    def hour_read(self, hour: int) -> HourRead:
        """The sums of an hour as lines of JSON, and which of its states that was."""
        answer = self._until_answered("GET", f"/v1/flows?hour={hour}&format=ndjson", {}, None)
        headers = answer.headers
        if "Flowtally-Revision" not in headers:
            raise UnexpectedAnswer(f"{self._url} does not answer as flowtally: no revision")
        state = f"{headers['Flowtally-Revision']} {headers.get('Flowtally-Last-Change', '')}"
        return HourRead(state, answer.content)

    def hours(self) -> tuple[HourHeld, ...]:
        """The hours held."""
        answer = self._until_answered("GET", "/v1/hours", {}, None)
        return self._decoded(answer.content, _HoursAnswer).hours

    def instance(self) -> str | None:
        """What names the service's data for good; None where it has no such name."""
        return self._decoded(
            self._until_answered("GET", "/version", {}, None).content, _Version
        ).instance

    def back_up(self, folder: Path) -> Manifest:
        """Has a copy of everything made, and writes it into a folder. Raises `BackupError`,
        `Refused` and `Unreachable`; then the folder is as it was."""
        from flowtally.client.backup import receive, stream_from

        return receive(stream_from(self._http), folder)

    def settle(self) -> None:
        """Has all that the service acknowledged brought into its sums, and waits until it is. Each
        request waits for a part of that; the time to give up counts anew for each."""
        settled = False
        while not settled:
            answer = self._until_answered("POST", "/v1/aggregate", {}, None)
            settled = self._decoded(answer.content, _Settled).settled

    def health(self, timeout_s: float) -> Health:
        """How the service is. Asked once: whoever watches wants to know that it does not answer.
        Raises `Unreachable`, `Refused`, or `UnexpectedAnswer`."""
        deadline_s = self._monotonic_s() + timeout_s
        content = b""
        try:
            with self._http.stream("GET", "/health", timeout=timeout_s) as answer:
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > _HEALTH_BYTES_MAX:
                        raise UnexpectedAnswer(f"{self._url} answers without an end")
                    if self._monotonic_s() > deadline_s:
                        raise Unreachable(f"no whole answer within {timeout_s:g} s")
        except httpx2.TransportError as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        except httpx2.DecodingError as error:
            raise self._unexpected(error) from error
        if answer.status_code not in _HEALTH_STATUSES:
            raise Refused(answer.status_code, _problem_in(content))
        return self._decoded(content, Health)

    def ledger(self) -> Ledger:
        """The account. Whether it balances is worked out here, from its lines."""
        answer = self._until_answered("GET", "/v1/ledger", {}, None)
        found = self._decoded(answer.content, _LedgerAnswer)
        ledger = Ledger(found.lines)
        if ledger.balances != found.balances:
            raise UnexpectedAnswer(f"the ledger of {self._url} says another thing than its lines")
        return ledger

    def _decoded(self, content: bytes, kind: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(content, type=kind)
        except _UNREADABLE as error:
            raise self._unexpected(error) from error

    def _unexpected(self, why: Exception) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"{self._url} does not answer as flowtally: {why}")

    def _until_answered(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> httpx2.Response:
        began_s = self._monotonic_s()
        attempt = 0
        while True:
            retry_after_s = 0.0
            try:
                # The last attempt ends when the time is up, whoever keeps silent until then.
                left_s = self._policy.give_up_after_s - (self._monotonic_s() - began_s)
                answer = self._http.request(
                    method,
                    path,
                    headers=headers,
                    content=body,
                    timeout=min(_TIMEOUT_S, max(left_s, _TIMEOUT_S_MIN)),
                )
                if answer.is_success:
                    return answer
                if answer.status_code not in RETRIED:
                    raise Refused(answer.status_code, _problem(answer))
                detail = _problem(answer).get("detail")
                why = f"it answered {answer.status_code}" + (f": {detail}" if detail else "")
                retry_after_s = _retry_after_s(answer)
            except httpx2.TransportError as error:
                refuse_untrusted(self._url, error)
                why = str(error) or type(error).__name__
            except httpx2.DecodingError as error:
                raise self._unexpected(error) from error
            wait_s = self._policy.wait_s(
                attempt, self._monotonic_s() - began_s, random.random(), retry_after_s
            )
            if wait_s is None:
                raise Unreachable(f"gave up on {self._url} after {attempt + 1} attempts: {why}")
            attempt += 1
            self.retries += 1
            self._sleep(wait_s)
            if self._abandoned.is_set():
                raise Unreachable(f"stopped trying {self._url}: {why}")


def _checked(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
        is_usable = parsed.scheme in ("http", "https") and bool(parsed.host)
        is_usable = is_usable and (parsed.port or 0) <= _PORT_MAX
    except httpx2.InvalidURL:
        is_usable = False
    if not is_usable:
        raise SettingsError(f"{url!r} is not a URL such as http://127.0.0.1:8080")
    return url


def _trust(url: str, ca: Path | None) -> ssl.SSLContext | bool:
    """Whom the service's certificate must be from."""
    if ca is None:
        if httpx2.URL(url).scheme == "https":
            return True
        # Nobody, since none is shown: reading those that the world trusts takes 30 ms.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{ca} holds no certificates of authorities as PEM") from error
    except OSError as error:
        raise SettingsError(f"{ca} cannot be read: {error.strerror}") from error


def refuse_untrusted(url: str, error: BaseException) -> None:
    """Raises `Unreachable` where a certificate was refused: trying again is of no use."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Unreachable(
                f"the certificate of {url} is not trusted: {cause.verify_message.rstrip('.')}"
                " (--url must name the service as its certificate does; --ca, its authority)"
            ) from error
        cause = cause.__cause__ or cause.__context__


def _retry_after_s(answer: httpx2.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    return _problem_in(answer.content)


def _problem_in(content: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(content)
    except _UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}
