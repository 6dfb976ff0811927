"""Health, readiness, metrics, version, and the errors of routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from flowtally import __version__
from flowtally.model import PartHealth
from flowtally.wire import kernel
from tests.http.service import Service, assert_problem, encoded, record

JSON_PATHS = ["/livez", "/readyz", "/health", "/version", "/openapi.json"]
PATHS = [*JSON_PATHS, "/metrics", "/docs", "/docs/problems", "/", "/v1/hours", "/v1/ledger"]


class SinkWith:
    """A sink in front of another one, some of its answers replaced."""

    def __init__(self, sink: Any, **answers: Any) -> None:
        self._sink = sink
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name in self._answers:
            return lambda *_: self._answers[name]
        return getattr(self._sink, name)


def test_alive_and_ready(service: Service) -> None:
    assert service.get("/livez").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready"}


def test_not_ready_while_stopping(service: Service) -> None:
    service.stopping = True
    reply = service.get("/readyz")
    assert reply.status == 503
    assert reply.json() == {"status": "not ready", "reason": "the service is stopping"}
    assert service.get("/livez").status == 200


def test_not_ready_while_refusing(service: Service) -> None:
    service.replace(sink=SinkWith(service.store, refusing="the disk is full"))
    reply = service.get("/readyz")
    assert (reply.status, reply.json()["reason"]) == (503, "the disk is full")


def test_not_ready_while_a_part_that_is_needed_is_stuck(service: Service) -> None:
    stuck = PartHealth("journal", "ok", -11.0, "detail", needed_to_accept=True)
    service.replace(sink=SinkWith(service.store, health=[stuck]))
    reply = service.get("/readyz")
    assert reply.status == 503
    assert reply.json()["reason"] == "the journal is stuck: no sign of life for 11 s; detail"
    assert "flowtally_ready 0.0" in service.get("/metrics").body.decode().splitlines()


def parts(*states: str, age_s: float = 0) -> Sequence[PartHealth]:
    """Of a service that has just been made: its monotonic clock is at 0."""
    return [
        PartHealth(f"part-{state}", state, -age_s, "detail", "last error", "hint", {"fact": 7})
        for state in states
    ]


@pytest.mark.parametrize(
    ("states", "status", "worst"),
    [
        (["ok"], 200, "ok"),
        (["ok", "warning"], 200, "warning"),
        (["error", "ok", "warning"], 503, "error"),
    ],
)
def test_the_worst_part_decides(
    service: Service, states: list[str], status: int, worst: str
) -> None:
    service.replace(sink=SinkWith(service.store, health=parts(*states)))
    reply = service.get("/health")
    assert (reply.status, reply.json()["status"]) == (status, worst)
    assert reply.json()["parts"][0] == {
        "name": f"part-{states[0]}",
        "state": states[0],
        "beat": "2023-11-14T22:13:20.000Z",
        "beat_age_ms": 0,
        "detail": "detail",
        "last_error": "last error",
        "hint": "hint",
        "facts": {"fact": 7},
    }
    assert reply.json()["parts"][-1]["name"] == "committer"


def test_a_part_without_a_heartbeat_is_an_error(service: Service) -> None:
    service.replace(sink=SinkWith(service.store, health=parts("ok", age_s=60)))
    reply = service.get("/health")
    part = reply.json()["parts"][0]
    assert (reply.status, part["state"], part["beat_age_ms"]) == (503, "error", 60_000)
    assert "no sign of life for 60 s" in part["detail"]


def test_version(service: Service) -> None:
    found = service.get("/version").json()
    python = found.pop("python")
    assert python.startswith("3.")
    assert found.pop("instance") == service.store.instance()
    assert found == {
        "name": "flowtally",
        "version": __version__,
        "api": "v1",
        "store": "memory",
        "decoder": "python" if kernel.version() is None else "native",
    }


def test_metrics(service: Service) -> None:
    service.post(encoded([record()] * 3))
    service.post(b"{}")
    service.get("/v1/flows?hour=1")
    service.get("/nowhere/at/all")
    service.request("BREW", "/v1/flows")
    service.replace(sink=SinkWith(service.store, health=parts("warning", age_s=1.5)))
    reply = service.get("/metrics")
    assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    lines = reply.body.decode().splitlines()
    for line in (
        "flowtally_records_total 3.0",
        'flowtally_batches_total{outcome="accepted"} 1.0',
        'flowtally_batches_total{outcome="refused"} 1.0',
        'http_request_duration_seconds_count{method="POST",route="/v1/flows",status="200"} 1.0',
        'http_request_duration_seconds_count{method="POST",route="/v1/flows",status="400"} 1.0',
        'http_request_duration_seconds_count{method="GET",route="/v1/flows",status="200"} 1.0',
        'http_request_duration_seconds_count{method="GET",route="unknown",status="404"} 1.0',
        'http_request_duration_seconds_count{method="other",route="/v1/flows",status="405"} 1.0',
        "flowtally_commit_group_batches_count 1.0",
        "flowtally_in_flight_bytes 0.0",
        'flowtally_part_state{part="part-warning"} 1.0',
        'flowtally_part_beat_age_seconds{part="part-warning"} 1.5',
        'flowtally_part_stuck{part="part-warning"} 0.0',
        'flowtally_part_fact{fact="fact",part="part-warning"} 7.0',
        "flowtally_ready 1.0",
        'flowtally_batches_rejected_total{reason="invalid-input"} 1.0',
    ):
        assert line in lines, line


@pytest.mark.parametrize("path", ["/docs", "/docs/problems", "/"])
def test_pages_need_nothing_from_elsewhere(service: Service, path: str) -> None:
    reply = service.get(path)
    assert reply.status == 200
    assert reply.header("content-type") == "text/html; charset=utf-8"
    assert b"http://" not in reply.body and b"https://" not in reply.body
    assert b"<script" not in reply.body


def test_every_problem_is_explained(service: Service) -> None:
    page = service.get("/docs/problems").body.decode()
    reply = service.post(b"{}")
    slug = reply.json()["type"].removeprefix("/docs/problems#")
    assert f'id="{slug}"' in page


# Routing.


@pytest.mark.parametrize("path", [*PATHS, "/v1/flows?hour=1", "/flows?hour=1"])
def test_head_is_get_without_the_body(service: Service, path: str) -> None:
    got = service.get(path, {"X-Request-ID": "same"})
    head = service.request("HEAD", path, {"X-Request-ID": "same"})
    assert (head.status, head.body) == (got.status, b"")
    if path != "/metrics":
        assert head.headers == got.headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_a_method_that_a_path_does_not_take(service: Service, path: str, method: str) -> None:
    reply = service.request(method, path)
    assert_problem(reply, 405, "method-not-allowed", "takes GET, HEAD")
    assert reply.header("allow") == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v1/flows", "/flows"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "post"])
def test_a_method_that_flows_do_not_take(service: Service, path: str, method: str) -> None:
    reply = service.request(method, path)
    assert_problem(reply, 405, "method-not-allowed")
    assert reply.header("allow") == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/v1",
        "/v1/",
        "/v2/flows",
        "/v1/flows/",
        "/v1/Flows",
        "//v1/flows",
        "/v1/flows/../hours",
        "/hours",
        "/redoc",
        "/\r\nX: y",
        "/v1/hours%0a",
        "/v1/backup%0A",
        "/livez\n",
        "/" + "a" * 10_000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path(service: Service, path: str, method: str) -> None:
    assert_problem(service.request(method, path), 404, "not-found")


def test_an_unexpected_error_of_a_read(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def hours(self) -> None:
            raise ValueError("secret")

    service.replace(source=Broken())
    reply = service.get("/v1/hours")
    assert_problem(reply, 500, "fault")
    assert b"secret" not in reply.body
    [logged] = [one for one in caplog.records if one.message == "read failed"]
    assert "secret" in str(logged.exc_info)
    assert service.metric(
        "http_request_duration_seconds_count", method="GET", route="/v1/hours", status="500"
    )
