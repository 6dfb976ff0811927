"""One table says what is answered where: versions, the alias, deprecation; and parts may be put in
the place of others on all of it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest

from flowtally.api.app import App
from flowtally.api.dependencies import services_of
from flowtally.api.openapi import openapi_document
from flowtally.api.routes import ROUTES, V1, Deprecation, Route, RouteTable, Version
from flowtally.api.services import Services
from flowtally.errors import NotAccepting, Unavailable
from flowtally.ingest.admission import Admission
from tests.http.service import Reply, Service, assert_problem, encoded, record
from tests.http.sockets import head, listening, post
from tests.http.test_access_log import lines, read_lines

__all__ = ["lines"]

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
SUNSET = datetime(2027, 6, 30, 23, 59, 59, tzinfo=UTC)
OLD = Version("v0", Deprecation(SINCE, "/docs#v0", SUNSET))
DEPRECATED = RouteTable(
    [
        Route("POST", "/flows", "postFlows", V1, has_alias=True),
        Route("GET", "/flows", "getFlows", V1, has_alias=True),
        Route("GET", "/hours", "getHours", V1, deprecation=Deprecation(SINCE, "/docs#hours")),
        Route("POST", "/flows", "postFlows", OLD),
        Route("GET", "/flows", "getFlows", OLD),
        Route("GET", "/livez", "livez"),
    ],
    newest=V1,
)
BODY = encoded([record()])


@pytest.fixture
def deprecated(service: Service) -> Service:
    """A service some of whose routes should no longer be used."""
    service.app.close()
    service.app = App(service.services, DEPRECATED)
    return service


def told(reply: Reply) -> dict[str, str | None]:
    return {name: reply.header(name) for name in ("API-Version", "Deprecation", "Sunset", "Link")}


@pytest.mark.parametrize("place", ROUTES.places, ids=lambda place: f"{place.method} {place.path}")
def test_every_answer_names_the_version(service: Service, place: object) -> None:
    reply = service.request(place.method, place.path)  # type: ignore[attr-defined]
    nothing = {"Deprecation": None, "Sunset": None, "Link": None}
    assert told(reply) == {"API-Version": "v1", **nothing}


def test_also_what_is_no_answer_of_a_route(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(
                head("GET", "/nowhere") + head("PUT", "/flows") + post(b"?") + b"\x16\x03\r\n\r\n"
            )
            for status in (404, 405, 400, 400):
                found, headers, _ = await peer.answer()
                assert (found, headers["api-version"]) == (status, "v1")
            peer.close()

    service.run(story())


def test_the_alias_is_the_same_and_stands_alone(service: Service) -> None:
    assert service.post(BODY, target="/flows").status == 200
    assert service.post(BODY, target="/v1/flows").status == 200
    alias, versioned = (service.get(f"{path}?hour=1") for path in ("/flows", "/v1/flows"))
    assert alias.json() == versioned.json() == [record(tx=200, rx=600)]
    assert alias.header("etag") == versioned.header("etag")
    without = {place.path for place in ROUTES.places if f"/v1{place.path}" in paths_of(ROUTES)}
    assert without == {"/flows"}
    for method, path in (("POST", "/flows"), ("POST", "/v1/flows"), ("GET", "/flows")):
        labels = {"method": method, "route": path, "status": "200"}
        assert service.metric("http_request_duration_seconds_count", **labels) == 1


def paths_of(routes: RouteTable) -> set[str]:
    return {place.path for place in routes.places}


def test_a_deprecated_version_is_announced(deprecated: Service) -> None:
    announced = {
        "API-Version": "v0",
        "Deprecation": "@1767319445",
        "Sunset": "Wed, 30 Jun 2027 23:59:59 GMT",
        "Link": '</docs#v0>; rel="deprecation"; type="text/html",'
        ' </docs#v0>; rel="sunset"; type="text/html"',
    }
    assert int(announced["Deprecation"][1:]) == SINCE.timestamp()
    assert parsedate_to_datetime(announced["Sunset"]) == SUNSET
    accepted = deprecated.post(BODY, target="/v0/flows")
    refused = deprecated.post(b"?", target="/v0/flows")
    read = deprecated.get("/v0/flows?hour=1")
    unread = deprecated.get("/v0/flows")
    looked_at = deprecated.request("HEAD", "/v0/flows?hour=1")
    replies = (accepted, refused, read, unread, looked_at)
    assert [reply.status for reply in replies] == [200, 400, 200, 400, 200]
    assert [told(reply) for reply in replies] == [announced] * 5
    assert deprecated.sums(1) == [record()]


def test_only_what_is_deprecated_says_so(deprecated: Service) -> None:
    hours = told(deprecated.get("/v1/hours"))
    assert hours == {
        "API-Version": "v1",
        "Deprecation": "@1767319445",
        "Sunset": None,
        "Link": '</docs#hours>; rel="deprecation"; type="text/html"',
    }
    for path in ("/v1/flows?hour=1", "/flows?hour=1", "/livez"):
        assert told(deprecated.get(path))["Deprecation"] is None


def test_its_use_is_logged_and_counted(deprecated: Service, lines: io.StringIO) -> None:
    deprecated.post(BODY, target="/v0/flows")
    deprecated.get("/v0/flows?hour=1")
    deprecated.get("/v0/flows?hour=x")
    deprecated.get("/flows?hour=1")
    found = [(line["route"], line.get("deprecated")) for line in read_lines(lines)]
    assert found == [("/v0/flows", True)] * 3 + [("/flows", None)]
    counted = {
        (sample.labels["method"], sample.labels["route"]): sample.value
        for metric in deprecated.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "flowtally_deprecated_requests_total"
    }
    assert counted == {("POST", "/v0/flows"): 1, ("GET", "/v0/flows"): 2}


def test_the_document_says_so_as_well() -> None:
    paths = openapi_document(DEPRECATED)["paths"]
    assert set(paths) == paths_of(DEPRECATED)
    old, new, alias = (paths[path]["post"] for path in ("/v0/flows", "/v1/flows", "/flows"))
    ids = [operation["operationId"] for operation in (old, new, alias)]
    assert ids == ["postFlowsV0", "postFlows", "postFlowsUnversioned"]
    assert (old["deprecated"], old["externalDocs"]) == (True, {"url": "/docs#v0"})
    for answer in old["responses"].values():
        assert {"Deprecation", "Sunset", "Link", "API-Version"} <= set(answer["headers"])
    assert "deprecated" not in new and "Sunset" not in new["responses"]["200"]["headers"]


def test_a_method_is_allowed_where_the_table_has_it(deprecated: Service) -> None:
    for path, allow in (("/v0/flows", "GET, HEAD, POST"), ("/v1/hours", "GET, HEAD")):
        reply = deprecated.request("PATCH", path)
        assert (reply.status, reply.header("allow")) == (405, allow)


@pytest.mark.parametrize(
    ("since", "link", "sunset"),
    [
        pytest.param(SINCE.replace(tzinfo=None), "/docs", None, id="no-zone"),
        pytest.param(SINCE, "/docs", SUNSET.replace(tzinfo=None), id="sunset-without-zone"),
        pytest.param(SUNSET, "/docs", SINCE, id="sunset-before"),
        pytest.param(SINCE, "/docs>\r\nX: y", None, id="not-a-link"),
    ],
)
def test_a_deprecation_that_cannot_be(since: datetime, link: str, sunset: datetime | None) -> None:
    with pytest.raises(ValueError):
        Deprecation(since, link, sunset)


def test_two_routes_at_one_place() -> None:
    route = Route("GET", "/flows", "getFlows", V1)
    with pytest.raises(ValueError, match="same method and path"):
        RouteTable([route, route], newest=V1)


class Failing:
    """A source that cannot answer."""

    def __getattr__(self, name: str) -> object:
        async def fail(*_: object) -> None:
            raise Unavailable("this source answers nothing")

        return fail


@pytest.mark.parametrize("path", ["/v1/flows?hour=1", "/flows?hour=1", "/v1/hours", "/v1/ledger"])
def test_parts_may_be_overridden_where_they_are_read(service: Service, path: str) -> None:
    expected = service.get(path)
    other = replace(service.services, source=Failing())  # type: ignore[arg-type]
    service.app.dependency_overrides[services_of] = lambda: other
    assert_problem(service.get(path), 503, "unavailable", "this source answers nothing")
    service.app.dependency_overrides.clear()
    assert service.get(path).body == expected.body


@pytest.mark.parametrize("path", ["/v1/flows", "/flows"])
def test_and_where_batches_are_posted(service: Service, path: str) -> None:
    class Full(Admission):
        def admit(self) -> object:  # type: ignore[override]
            raise NotAccepting("no room in this one")

    async def others() -> Services:
        return replace(service.services, admission=Full(1))

    service.app.dependency_overrides[services_of] = others
    assert_problem(service.post(BODY, target=path), 503, "not-accepting", "no room in this one")
    service.app.dependency_overrides.clear()
    assert service.post(BODY, target=path).status == 200


def test_an_overridden_source_answers_nothing_of_the_other(service: Service) -> None:
    service.post(BODY)
    assert service.sums(1) == [record()]
    other = Service()
    other.start()
    other.post(encoded([record(tx=1)]))
    service.app.dependency_overrides[services_of] = lambda: other.services
    assert service.sums(1) == [record(tx=1)]
    service.app.dependency_overrides.clear()
    assert service.sums(1) == [record()]
    other.close()


def test_the_version_is_the_one_that_is_told(service: Service) -> None:
    name = service.get("/version").json()["api"]
    assert re.fullmatch(r"v[0-9]+", name) and name == service.get("/").header("api-version")
