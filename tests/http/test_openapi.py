"""The document says the truth: it is fuzzed against the service, and held against its routes."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flowtally.api.openapi import openapi_document
from flowtally.api.problems import kinds
from flowtally.api.routes import ROUTES
from tests.http.service import Service, as_asgi, encoded, record

OPERATIONS = [
    (method.upper(), path)
    for path, item in openapi_document()["paths"].items()
    for method in item
    if method in ("get", "post")
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FUZZ = settings(
    max_examples=10,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


MODES = schemathesis.GenerationMode


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        *[(*one, MODES.POSITIVE) for one in OPERATIONS if one[1] != "/flows"],
        ("GET", "/v1/flows", MODES.NEGATIVE),
        ("POST", "/v1/flows", MODES.NEGATIVE),
    ],
)
def test_no_server_error_and_no_undeclared_answer(
    service: Service, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    service.post(encoded([record(), record(hour=0)]))
    schema = schemathesis.openapi.from_asgi("/openapi.json", as_asgi(service.app))
    operation = schema[path][method]

    @FUZZ
    @given(case=operation.as_strategy(generation_mode=mode))
    def fuzz(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    fuzz()


def test_every_route_is_described(service: Service) -> None:
    for method, path in OPERATIONS:
        assert service.request(method, path).status not in (404, 405)
    assert set(OPERATIONS) == {(place.method, place.path) for place in ROUTES.places}


def test_it_is_served_and_names_every_kind_of_problem(service: Service) -> None:
    document = service.get("/openapi.json").json()
    assert document == openapi_document()
    assert document["openapi"] == "3.1.0"
    post = document["paths"]["/v1/flows"]["post"]["responses"]
    get = document["paths"]["/v1/flows"]["get"]["responses"]
    backup = document["paths"]["/v1/backup"]["post"]["responses"]
    # Of no operation: nothing is there, or it is no request at all.
    elsewhere = {404, 405, 414, 431, 505}
    for _, status, title in kinds():
        if status not in elsewhere:
            found = {**backup, **get, **post}[str(status)]
            assert title in found["description"]


def test_operation_ids_are_unique() -> None:
    document = openapi_document()
    ids = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    ]
    assert len(ids) == len(set(ids))
