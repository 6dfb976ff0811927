"""The committed OpenAPI document is in step with the code, and breaks no promise of a release."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from flowtally.api.openapi import openapi_document
from tests.repo.breaking import breaks
from tests.repo.snapshot import WORKING, last_release, text_of_document

FLOWS = "paths /v1/flows "
RECORD = "components schemas Record "
PROBLEM = "components schemas Problem "
SUM = "components schemas Sum "
HOUR = FLOWS + "get parameters 0 "
HOUR_REF = "#/components/schemas/Label"
NEW_PARAMETER = {"name": "vpc_id", "in": "query", "schema": {"type": "string"}}


def test_the_snapshot_is_in_step() -> None:
    assert WORKING.read_text() == text_of_document(), "run `make openapi`, and look at the change"


def test_nothing_that_was_released_is_broken() -> None:
    assert breaks(last_release(), openapi_document()) == []


def changed(where: str, value: Any) -> dict[str, Any]:
    """The document with one value set, appended (`+`) or, as None, removed."""
    document: Any = copy.deepcopy(json.loads(json.dumps(openapi_document())))
    *way, last = where.split()
    found = document
    for step in way:
        found = found[int(step) if isinstance(found, list) else step]
    key: Any = int(last) if isinstance(found, list) and last != "+" else last
    if last == "+":
        found.append(value)
    elif value is None:
        del found[key]
    else:
        found[key] = value
    return document  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        ("paths /v1/hours", None, "GET /v1/hours is gone"),
        (FLOWS + "post", None, "POST /v1/flows is gone"),
        (FLOWS + "get operationId", "sums", "GET /v1/flows has another operationId"),
        (FLOWS + "get security", [{"token": []}], "cannot be used without credentials"),
        (FLOWS + "get responses 304", None, "answer 304 is gone"),
        (FLOWS + "get responses 200 headers ETag", None, "answer 200 has no header ETag any more"),
        (FLOWS + "get responses 200 content text/csv", None, "is no text/csv any more"),
        (FLOWS + "post requestBody content application/x-ndjson", None, "body is no application/x"),
        (FLOWS + "post requestBody", None, "POST /v1/flows takes no body any more"),
        ("paths /v1/aggregate post requestBody", {"required": True}, "demands a body"),
        (FLOWS + "get parameters 1", None, "has no parameter format (query) any more"),
        (FLOWS + "get parameters +", {**NEW_PARAMETER, "required": True}, "demands the parameter"),
        (FLOWS + "get parameters 1 required", True, "demands the parameter format (query)"),
        (FLOWS + "get parameters 1 schema enum 4", None, "no longer takes 'parquet'"),
        (FLOWS + "get parameters 2 schema enum", ["a"], "takes only some values now"),
        (HOUR + "schema minimum", 1, "parameter hour (query) no longer takes its minimum: 0 and 1"),
        (HOUR + "schema maximum", 23, "no longer takes its maximum: 2147483647 and 23"),
        (HOUR + "schema type", "string", "no longer takes its type: ['integer'] and ['string']"),
        (HOUR + "schema multipleOf", 2, "no longer takes its multipleOf"),
        (HOUR + "schema not", {"const": 7}, "has another not, which this check cannot judge"),
        (RECORD + "required +", "proto", "no longer takes what it must have: field proto"),
        (RECORD + "properties vpc_id maxLength", 8, "field vpc_id no longer takes its maxLength"),
        (RECORD + "properties vpc_id pattern", "^v", "field vpc_id no longer takes its pattern"),
        (RECORD + "properties hour", None, "items has no field hour any more"),
        (RECORD + "additionalProperties", False, "no longer takes its fields"),
        (PROBLEM + "required 3", None, "may now be outside what it must have: field detail"),
        (PROBLEM + "properties errors_total", None, "has no field errors_total any more"),
        (PROBLEM + "properties status type", "string", "may now be outside its type"),
        (PROBLEM + "properties status type", ["integer", "null"], "may now be outside its type"),
        (PROBLEM + "properties errors items required 0", None, "must have: field pointer"),
        (SUM + "properties bytes_rx minimum", None, "may now be outside its minimum"),
        (SUM + "properties hour maximum", 2**40, "may now be outside its maximum"),
        (SUM + "propertyNames enum +", "proto", "may now be outside its propertyNames"),
        (SUM + "propertyNames", None, "may now be outside its propertyNames"),
        (FLOWS + "get security 0 token", ["admin"], "no longer takes the credentials"),
        (FLOWS + "get security", [{"key": []}, {}], "no longer takes the credentials"),
        ("components securitySchemes token scheme", "basic", "the credentials token are others"),
        ("components securitySchemes token", None, "the credentials token are others"),
        ("security", [{"token": ["admin"]}], "GET /livez cannot be used without credentials"),
        ("servers", [{"url": "/api"}], "the document has another servers"),
        ("paths /v1/hours servers", [{"url": "/api"}], "/v1/hours has another servers"),
        ("paths /v1/hours parameters", [NEW_PARAMETER], "/v1/hours has another parameters"),
        (FLOWS + "get servers", [{"url": "/api"}], "GET /v1/flows has another servers"),
        (FLOWS + "get parameters 1 style", "pipeDelimited", "has another style"),
        (FLOWS + "get parameters 1 content", {"a/b": {}}, "has another content"),
        ("components headers Retry-After schema type", "string", "may now be outside its type"),
        (FLOWS + "get responses 304 headers ETag", {"schema": {"type": "integer"}}, "its type"),
        (RECORD + "additionalProperties", {"type": "string"}, "other fields no longer takes its"),
        (RECORD + "properties hour", {"$ref": "#/components/schemas/Sum"}, "no longer takes its"),
    ],
)
def test_a_change_that_breaks_clients(where: str, value: Any, told: str) -> None:
    found = breaks(json.loads(json.dumps(openapi_document())), changed(where, value))
    assert any(told in one for one in found), found


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("info version", "9.0.0"),
        ("paths /v1/new", {"get": {"responses": {}}}),
        (FLOWS + "delete", {"responses": {}}),
        (FLOWS + "get summary", "Other words"),
        (FLOWS + "get deprecated", True),
        (FLOWS + "get security", [{}, {"token": []}]),
        (FLOWS + "get security", [{}]),
        (FLOWS + "get security +", {"key": []}),
        ("components securitySchemes key", {"type": "apiKey", "in": "header", "name": "k"}),
        ("components securitySchemes token description", "Other words"),
        ("components headers Retry-After description", "Other words"),
        (FLOWS + "get parameters 1 schema default", "json"),
        (RECORD + "additionalProperties", True),
        (FLOWS + "get responses 425", {"description": "Too many"}),
        (FLOWS + "get responses 200 headers New", {"schema": {}}),
        (FLOWS + "get responses 200 content text/html", {"schema": {}}),
        (FLOWS + "post requestBody content text/csv", {"schema": {}}),
        (FLOWS + "post requestBody required", False),
        ("paths /v1/aggregate post requestBody", {"required": False}),
        (FLOWS + "get parameters +", NEW_PARAMETER),
        (HOUR + "required", False),
        (HOUR + "schema minimum", -1),
        (HOUR + "schema type", ["integer", "string"]),
        (HOUR + "schema type", "number"),
        (HOUR + "schema description", "Other words"),
        (FLOWS + "get parameters 1 schema enum +", "avro"),
        (FLOWS + "get parameters 1 schema enum", None),
        (RECORD + "properties proto", {"type": "integer"}),
        (RECORD + "required 0", None),
        (PROBLEM + "properties new", {"type": "string"}),
        (PROBLEM + "required +", "errors"),
        (PROBLEM + "properties errors maxItems", 10),
        (PROBLEM + "properties type enum", ["a", "b"]),
        ("components schemas New", {"type": "string"}),
    ],
)
def test_a_change_that_breaks_nobody(where: str, value: Any) -> None:
    assert breaks(json.loads(json.dumps(openapi_document())), changed(where, value)) == []


def test_values_of_an_answer() -> None:
    before = changed(PROBLEM + "properties title enum", ["a", "b"])
    assert breaks(before, changed(PROBLEM + "properties title enum", ["a", "b", "c"])) == []
    fewer = breaks(before, changed(PROBLEM + "properties title enum", ["a"]))
    assert fewer and all("is never 'b' any more" in one for one in fewer)
    assert breaks(before, openapi_document())


def test_a_default_means_something() -> None:
    before = changed(FLOWS + "get parameters 1 schema default", "json")
    assert breaks(before, before) == []
    told = "means something else where it is left out"
    assert any(told in one for one in breaks(before, openapi_document()))


def test_what_a_reference_leads_to_counts_wherever_it_stands() -> None:
    """Also in what is not understood, and beside what a reference has next to it."""
    before = changed("components schemas Record properties hour", {"anyOf": [{"$ref": HOUR_REF}]})
    after = copy.deepcopy(before)
    for document, largest in ((before, 10), (after, 5)):
        document["components"]["schemas"]["Label"] = {"type": "integer", "maximum": largest}
    assert any("has another anyOf" in one for one in breaks(before, after))
    beside = {"$ref": HOUR_REF, "maximum": 3}
    before["components"]["schemas"]["Record"]["properties"]["hour"] = {"$ref": HOUR_REF}
    after = copy.deepcopy(before)
    after["components"]["schemas"]["Record"]["properties"]["hour"] = beside
    assert any("no longer takes its maximum: 10 and 3" in one for one in breaks(before, after))


def test_what_was_deprecated_may_go() -> None:
    before = changed(FLOWS + "get deprecated", True)
    assert breaks(before, changed(FLOWS + "get", None)) == []
