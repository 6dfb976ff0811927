"""The contract as OpenAPI 3.1: where things are comes from the table of routes, what they are is
written by hand: most of it is about bodies and headers that no framework reads here, and a document
that is made from code would tell less than the truth.

Held against the running service by a test (schemathesis), and against its routes.
"""

from __future__ import annotations

from typing import Any

from flowtally import __version__, limits
from flowtally.api.problems import (
    BACKUP_STATUSES,
    DENIED_STATUSES,
    GET_STATUSES,
    MEDIA_TYPE,
    POST_STATUSES,
    kinds,
)
from flowtally.api.routes import ROUTES, Deprecation, RouteTable
from flowtally.wire.fields import BYTE_FIELDS, NAME_FIELDS, RECORD_FIELDS
from flowtally.wire.media import BodyFormat, SumsFormat

_NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": limits.NAME_BYTES_MAX,
    "description": "1 to 256 bytes of UTF-8 without control characters",
    "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$",
}
_HOUR = {
    "type": "integer",
    "minimum": 0,
    "maximum": limits.HOUR_MAX,
    "description": "a label that the sender chose, not a time",
}
_TEXT = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
_INTEGER = {"type": "integer"}
_COUNT = {"type": "integer", "minimum": 0}
_JSON = "application/json"


def openapi_document(routes: RouteTable = ROUTES) -> dict[str, Any]:
    """The document, as `/openapi.json` serves it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flowtally",
            "version": __version__,
            "summary": "Sums the bytes of network flows, exactly once",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": "write"}, {"name": "read"}, {"name": "operations"}],
        "paths": _paths(routes),
        "components": {
            "schemas": _schemas(),
            "headers": _headers(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a token that may read, write or admin, as each operation says;"
                    " asked for where the service has a tokens file",
                }
            },
        },
    }


def _paths(routes: RouteTable) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    described = _operations()
    for place in routes.places:
        item = paths.setdefault(place.path, {})
        if place.path == "/flows":
            item["description"] = "The same as `/v1/flows`, for agents already in the field."
        operation = {"operationId": place.operation_id, **described[place.operation]}
        if place.deprecation is not None:
            operation |= _deprecated(place.deprecation, operation)
        item[place.method.lower()] = operation
    return paths


def _deprecated(deprecation: Deprecation, operation: dict[str, Any]) -> dict[str, Any]:
    headers = _named(*deprecation.headers())
    return {
        "deprecated": True,
        "externalDocs": {"url": deprecation.link},
        "responses": {
            status: {**answer, "headers": {**answer["headers"], **headers}}
            for status, answer in operation["responses"].items()
        },
    }


def _operations() -> dict[str, dict[str, Any]]:
    """What each operation is, by its name, wherever it is answered."""
    return {
        "postFlows": _post_flows(),
        "getFlows": _get_flows(),
        "getHours": _get_json("The hours held", "Hours"),
        "getLedger": _get_json("The account of every accepted record", "Ledger"),
        "aggregate": _post_aggregate(),
        "backup": _post_backup(),
        "livez": _get_ops("Whether the process is alive"),
        "readyz": _get_ops("Whether the service can accept", unless=True),
        "health": _asked(_get_ops("How each part is", unless=True)),
        "version": _get_ops("What is running"),
        "openapi": _get_ops("This document"),
        "metrics": _asked(_get_ops("Metrics for Prometheus", "text/plain")),
        "docs": _get_ops("Where everything is", "text/html"),
        "problems": _get_ops("What can go wrong", "text/html"),
        "index": _get_ops("Where everything is", "text/html"),
    }


def _post_flows() -> dict[str, Any]:
    receipt = {
        "headers": _named("Idempotency-Replayed"),
        "content": {_JSON: {"schema": _ref("Receipt")}},
    }
    return {
        "tags": ["write"],
        "security": _needs("write"),
        "summary": "Post a batch: counted whole, exactly once, durable when answered",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": (
                    "names the batch, so that it may be sent again without harm; 1 to 128 visible"
                    " ASCII characters, bare or as a structured-field string in quotes"
                ),
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": limits.BATCH_ID_LENGTH_MAX,
                    "pattern": "^[!#-~]+$",
                },
            },
            {
                "name": "Content-Encoding",
                "in": "header",
                "schema": {"type": "string", "enum": ["gzip", "zstd", "identity"]},
            },
            _request_id(),
        ],
        "requestBody": {
            "required": True,
            "description": (
                f"at most {limits.BODY_BYTES_MAX} bytes, {limits.DECODED_BYTES_MAX} decoded,"
                f" {limits.RECORDS_MAX} records"
            ),
            "content": {
                BodyFormat.JSON.media_type: {
                    "schema": {
                        "type": "array",
                        "maxItems": limits.RECORDS_MAX,
                        "items": _ref("Record"),
                    }
                },
                BodyFormat.NDJSON.media_type: {"schema": _TEXT},
                BodyFormat.ARROW.media_type: {"schema": _BINARY},
            },
        },
        "responses": {
            "200": {"description": "Counted and visible", **receipt},
            "202": {"description": "Durable, and visible soon", **receipt},
            **_problems(POST_STATUSES),
        },
    }


def _post_aggregate() -> dict[str, Any]:
    answer = {"headers": _named(), "content": {_JSON: {"schema": _ref("Settled")}}}
    return {
        "tags": ["operations"],
        "security": _needs("admin"),
        "summary": "Bring every batch that was acknowledged into what reads answer, now",
        "parameters": [_request_id()],
        "responses": {
            "200": {"description": "All of them are", **answer},
            "202": {"description": "It goes on; ask again to wait for the rest", **answer},
            **_problems((*DENIED_STATUSES, 500, 503)),
        },
    }


def _post_backup() -> dict[str, Any]:
    return {
        "tags": ["operations"],
        "security": _needs("admin"),
        "summary": "Copy everything as of one point, while batches are taken and hours are read",
        "parameters": [_request_id()],
        "responses": {
            "200": {
                "description": "A tar archive of the files, `manifest.json` last",
                "headers": _named("Content-Disposition", "Flowtally-Sequence"),
                "content": {"application/x-tar": {"schema": _BINARY}},
            },
            **_problems(BACKUP_STATUSES),
        },
    }


def _get_flows() -> dict[str, Any]:
    names = [form.name_in_query for form in SumsFormat]
    content: dict[str, Any] = {form.value: {"schema": _TEXT} for form in SumsFormat}
    content[SumsFormat.JSON.value] = {"schema": {"type": "array", "items": _ref("Sum")}}
    known = ("ETag", "Vary", "Flowtally-Revision")
    changed = ("Flowtally-Last-Change", "Flowtally-Partial")
    return {
        "tags": ["read"],
        "security": _needs("read"),
        "summary": "The sums of one hour",
        "parameters": [
            {"name": "hour", "in": "query", "required": True, "schema": _HOUR},
            {"name": "format", "in": "query", "schema": {"type": "string", "enum": names}},
            {"name": "If-None-Match", "in": "header", "schema": _TEXT},
            _request_id(),
        ],
        "responses": {
            "200": {
                "description": "The sums, sorted by src_app, dest_app, vpc_id in UTF-8 byte order",
                "headers": _named(*known, *changed, "Flowtally-Records", "Content-Encoding"),
                "content": content,
            },
            "304": {"description": "As the given ETag says", "headers": _named(*known, *changed)},
            **_problems(GET_STATUSES),
        },
    }


def _get_json(title: str, schema: str) -> dict[str, Any]:
    content = {_JSON: {"schema": _ref(schema)}}
    answer = {"description": title, "headers": _named(), "content": content}
    return {
        "tags": ["read"],
        "security": _needs("read"),
        "summary": title,
        "responses": {"200": answer, **_problems((400, *DENIED_STATUSES, 500, 503))},
    }


def _get_ops(title: str, media_type: str = _JSON, unless: bool = False) -> dict[str, Any]:
    schema = {"type": "object"} if media_type == _JSON else _TEXT
    answer = {
        "description": title,
        "headers": _named(),
        "content": {media_type: {"schema": schema}},
    }
    return {
        "tags": ["operations"],
        "summary": title,
        "responses": {"200": answer, **({"503": answer} if unless else {}), **_problems((500,))},
    }


def _needs(scope: str) -> list[dict[str, list[str]]]:
    """A token that may do this; or none, where the service asks for none."""
    return [{"token": [scope]}, {}]


def _asked(operation: dict[str, Any]) -> dict[str, Any]:
    """An operation that a token is asked for, to read."""
    responses = {**operation["responses"], **_problems(DENIED_STATUSES)}
    return {**operation, "security": _needs("read"), "responses": responses}


_PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    408: ("Retry-After",),
    415: ("Accept-Encoding",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    titles: dict[int, list[str]] = {}
    for _, status, title in kinds():
        titles.setdefault(status, []).append(title)
    found: dict[str, Any] = {}
    for status in statuses:
        found[str(status)] = {
            "description": "; or: ".join(titles[status]),
            "headers": _named(*_PROBLEM_HEADERS.get(status, ())),
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
    return found


def _request_id() -> dict[str, Any]:
    return {
        "name": "X-Request-ID",
        "in": "header",
        "description": "kept where it is 1 to 64 of A-Z a-z 0-9 . _ -, else replaced",
        "schema": _TEXT,
    }


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _named(*headers: str) -> dict[str, Any]:
    everywhere = ("X-Request-ID", "API-Version")
    return {
        header: {"$ref": f"#/components/headers/{header}"} for header in (*everywhere, *headers)
    }


def _headers() -> dict[str, Any]:
    described: dict[str, tuple[str, dict[str, Any]]] = {
        "X-Request-ID": ("The request's name, in the log as well", _TEXT),
        "API-Version": ("The version of the API that answered, as it stands in its paths", _TEXT),
        "Deprecation": ("Since when this should no longer be used: RFC 9745", _TEXT),
        "Sunset": ("Until when this is answered: RFC 8594", _TEXT),
        "Link": ("Where to read what to use in its place", _TEXT),
        "Idempotency-Replayed": ("true: the batch had been counted before", _TEXT),
        "Retry-After": ("Seconds to wait before the same request is sent again", _COUNT),
        "WWW-Authenticate": ("Bearer, with what is wrong with the token: RFC 6750", _TEXT),
        "RateLimit": ("What is left of the burst (r), and when all of it is there (t, s)", _TEXT),
        "RateLimit-Policy": ("The burst (q), and how long it takes to come again (w, s)", _TEXT),
        "Accept-Encoding": ("The codings of a body that are read here", _TEXT),
        "ETag": ("Strong: the hour, its revision, the format and the coding", _TEXT),
        "Vary": ("Accept, Accept-Encoding", _TEXT),
        "Content-Encoding": ("gzip or zstd, where it was accepted", _TEXT),
        "Flowtally-Revision": ("Grows each time that the hour's sums change", _COUNT),
        "Content-Disposition": ("A name for the archive, with the point in it", _TEXT),
        "Flowtally-Sequence": ("The point: all batches up to it are in, and none after", _COUNT),
        "Flowtally-Records": ("How many rows the answer has", _COUNT),
        "Flowtally-Last-Change": ("When the hour's sums changed last: RFC 3339, UTC", _TEXT),
        "Flowtally-Partial": (
            "true: more is known or likely to be on its way; a 304 says false as well",
            _TEXT,
        ),
    }
    return {
        name: {"description": description, "schema": schema}
        for name, (description, schema) in described.items()
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _schemas() -> dict[str, Any]:
    largest = {"type": "integer", "minimum": 0, "maximum": limits.RECORD_BYTES_VALUE_MAX}
    record = {**dict.fromkeys(NAME_FIELDS, _NAME), "hour": _HOUR}
    account = _object(
        {"batches": _COUNT, "records": _COUNT, "bytes_rx": _COUNT, "bytes_tx": _COUNT}
    )
    line = {
        **dict.fromkeys(("accepted", "summed", "pending", "expired"), account),
        "difference": _object(dict.fromkeys(account["properties"], _INTEGER)),
        "balances": {"type": "boolean"},
        "batches_repeated": _COUNT,
        "batches_refused": _COUNT,
    }
    fault = _object({"pointer": _TEXT, "detail": _TEXT})
    hour = {
        "hour": _HOUR,
        **dict.fromkeys(("flows", "records", *BYTE_FIELDS, "revision"), _COUNT),
        "last_change": {"type": ["string", "null"]},
    }
    problem = {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "request_id": _TEXT,
        "errors_total": _COUNT,
        "errors": {"type": "array", "maxItems": limits.ERRORS_LISTED_MAX, "items": fault},
    }
    return {
        "Record": _object({**record, **dict.fromkeys(BYTE_FIELDS, largest)}),
        "Sum": {
            **_object({**record, **dict.fromkeys(BYTE_FIELDS, _COUNT)}),
            "propertyNames": {"enum": list(RECORD_FIELDS)},
        },
        "Settled": _object({"settled": {"type": "boolean"}}),
        "Receipt": _object({"batch_id": _TEXT, "records": _COUNT, "flows": _COUNT}),
        "Hours": _object({"hours": {"type": "array", "items": _object(hour)}}),
        "Ledger": _object(
            {
                "balances": {"type": "boolean"},
                "total": _object(line),
                "lines": {"type": "array", "items": _object({"arrival_hour": _COUNT, **line})},
            }
        ),
        "Problem": _object(problem, optional=("errors", "errors_total")),
    }
