"""The one place that decides an HTTP status, and the one shape that every error has (RFC 9457).

`type` is a stable URI reference: clients may compare it; `title` and `detail` are for people.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from flowtally import errors
from flowtally.access.tokens import without_tokens
from flowtally.api.exchange import Exchange

MEDIA_TYPE = "application/problem+json"
OK = 200
ACCEPTED = 202
NOT_MODIFIED = 304
_SERVER_FAULT = 500
UNHEALTHY = 503


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    slug: str
    title: str


_KINDS: dict[type[Exception], _Kind] = {
    errors.InvalidRecords: _Kind(400, "invalid-records", "Records of the batch are not valid"),
    errors.BodyCutOff: _Kind(400, "body-cut-off", "The body is not whole"),
    errors.TooLarge: _Kind(413, "too-large", "The batch is too large"),
    errors.UnsupportedMedia: _Kind(415, "unsupported-media", "The body's type is not read here"),
    errors.NotAcceptable: _Kind(406, "not-acceptable", "No acceptable format is written here"),
    errors.KeyReused: _Kind(422, "key-reused", "The Idempotency-Key was used with another body"),
    errors.Malformed: _Kind(400, "malformed", "What came cannot be read as a request"),
    errors.TargetTooLong: _Kind(414, "target-too-long", "The target is too long"),
    errors.HeadTooLarge: _Kind(431, "head-too-large", "The head of the request is too large"),
    errors.UnknownVersion: _Kind(505, "http-version", "This version of HTTP is not spoken here"),
    errors.InvalidInput: _Kind(400, "invalid-input", "The request is not valid"),
    errors.NotAuthenticated: _Kind(401, "not-authenticated", "A valid token is needed"),
    errors.NotPermitted: _Kind(403, "not-permitted", "The token may not do this"),
    errors.RateLimited: _Kind(429, "rate-limited", "This client asks too often"),
    errors.Overloaded: _Kind(503, "overloaded", "Too much is in flight"),
    errors.NotAccepting: _Kind(503, "not-accepting", "The service cannot accept now"),
    errors.SlowHead: _Kind(408, "slow-head", "The head of the request came too slowly"),
    errors.SlowBody: _Kind(408, "slow-body", "The body came too slowly"),
    errors.DeadlinePassed: _Kind(503, "deadline-passed", "The request took too long"),
    errors.NotSupported: _Kind(501, "not-supported", "The store does not do this"),
    errors.Unavailable: _Kind(503, "unavailable", "The service is not available now"),
}
_FAULT = _Kind(_SERVER_FAULT, "fault", "The service failed")
_NOT_FOUND = _Kind(404, "not-found", "There is nothing at this path")
_NO_METHOD = _Kind(405, "method-not-allowed", "The path does not take this method")
DENIED_STATUSES = (401, 403, 429)
POST_STATUSES = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
BACKUP_STATUSES = (401, 403, 429, 500, 501, 503)
GET_STATUSES = (400, 401, 403, 406, 429, 500, 503)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is answered."""

    slug: str
    """Which kind it is: the end of its `type`."""
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def problem_of(error: Exception, request_id: str) -> Problem:
    """What to answer for an error; the details of an unexpected one stay in the log."""
    kind = next((_KINDS[base] for base in type(error).__mro__ if base in _KINDS), _FAULT)
    headers: list[tuple[str, str]] = []
    fields: dict[str, object] = {}
    detail = "see the server's log under this request_id" if kind is _FAULT else str(error)
    if isinstance(error, errors.Unavailable):
        headers.append(("Retry-After", str(error.retry_after_s)))
    if isinstance(error, errors.AccessDenied):
        headers.append(("WWW-Authenticate", error.challenge))
    if isinstance(error, errors.InvalidRecords):
        fields["errors"] = [
            {"pointer": fault.pointer, "detail": fault.detail} for fault in error.errors
        ]
        fields["errors_total"] = error.errors_total
    if isinstance(error, errors.UnsupportedMedia):
        headers.append(("Accept-Encoding", "gzip, zstd"))
    return _problem(kind, detail, request_id, headers, fields)


def routing_problem(path: str, allow: str, request_id: str) -> Problem:
    """An unknown path, or a method that a path does not take: it takes those of `allow`."""
    if not allow:
        return _problem(_NOT_FOUND, _NOT_FOUND.title, request_id, [], {})
    return _problem(_NO_METHOD, f"{path} takes {allow}", request_id, [("Allow", allow)], {})


async def send_problem(problem: Problem, exchange: Exchange) -> None:
    """Answers with a problem."""
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers]
    await exchange.answer(problem.status, headers, problem.body)


def kinds() -> list[tuple[str, int, str]]:
    """Every kind of problem: the end of its `type`, its status, its title."""
    found = {kind.slug: kind for kind in (*_KINDS.values(), _NOT_FOUND, _NO_METHOD, _FAULT)}
    return [(kind.slug, kind.status, kind.title) for kind in found.values()]


def _problem(
    kind: _Kind,
    detail: str,
    request_id: str,
    headers: list[tuple[str, str]],
    fields: dict[str, object],
) -> Problem:
    body = {
        "type": f"/docs/problems#{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        # Text of a client may hold half a surrogate pair, which UTF-8 cannot; and whoever puts a
        # token in the wrong place must not find it in a log of answers.
        "detail": without_tokens(detail.encode(errors="replace").decode()),
        "request_id": request_id,
        **fields,
    }
    return Problem(
        kind.slug,
        kind.status,
        (("Content-Type", MEDIA_TYPE), *headers),
        msgspec.json.encode(body),
    )
