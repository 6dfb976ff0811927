"""One line per request, and the request id in every answer and every line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from flowtally.observe.logs import JsonFormatter
from tests.http.service import Hangup, Service, encoded, record
from tests.http.sockets import head, listening


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the access log writes, as it would stand in the log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("flowtally")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def read_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_everything(service: Service, lines: io.StringIO) -> None:
    body = encoded([record(), record()])
    reply = service.post(body, {"Idempotency-Key": "k", "X-Request-ID": "req-1"})
    [line] = read_lines(lines)
    assert line.pop("ts")
    assert line == {
        "level": "info",
        "logger": "flowtally.access",
        "event": "request",
        "request_id": "req-1",
        "method": "POST",
        "route": "/v1/flows",
        "status": 200,
        "duration_ms": 0.0,
        "bytes_in": len(body),
        "bytes_out": len(reply.body),
        "records": 2,
        "batch_id": "k",
        "client": "192.0.2.7",
    }


def test_it_can_be_switched_off(service: Service, lines: io.StringIO) -> None:
    service.replace(access_log=False)
    assert service.get("/livez").status == 200
    assert read_lines(lines) == []


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_a_safe_request_id_is_kept(service: Service, given: str) -> None:
    for path in ("/livez", "/nowhere", "/v1/flows?hour=x"):
        assert service.get(path, {"X-Request-ID": given}).header("x-request-id") == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "<b>", "caf\xe9", 'a"b', "a,b"])
def test_any_other_is_replaced(service: Service, given: str) -> None:
    first = service.get("/livez", {"X-Request-ID": given}).header("x-request-id")
    second = service.get("/livez", {"X-Request-ID": given}).header("x-request-id")
    assert first and second and len({given, first, second}) == 3


def test_a_repeated_request_id_is_replaced(service: Service) -> None:
    reply = service.get("/livez", [("X-Request-ID", "a"), ("X-Request-ID", "b")])
    assert reply.header("x-request-id") not in ("a", "b")


def test_hostile_input_cannot_forge_a_line(service: Service, lines: io.StringIO) -> None:
    evil = '"}\n{"event":"forged"}\r\n\x1b[31m\u2028'
    service.get(f"/{evil}")
    service.request(f"GET{evil}", "/v1/flows")
    service.post(encoded([record(src="x")]), {"Idempotency-Key": '"}{"event":"forged"}'})
    service.get("/livez", {"X-Request-ID": "a\nb", "User-Agent": "a\nb"})
    assert [line["event"] for line in read_lines(lines)] == ["request"] * 4


def test_a_sender_that_goes_away_is_logged(service: Service, lines: io.StringIO) -> None:
    service.post([b"[", Hangup], {"X-Request-ID": "gone"})
    cut_off, request = read_lines(lines)
    assert (cut_off["event"], cut_off["request_id"]) == ("body cut off", "gone")
    assert (request["event"], request["status"], request["bytes_in"]) == ("request", 400, 1)


def test_what_is_no_request_is_logged_and_counted_as_well(
    service: Service, lines: io.StringIO
) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("GET", "/livez") + b"\x16\x03\x01")
            statuses = [(await peer.answer())[0] for _ in range(2)]
            assert statuses == [200, 400]
            peer.close()

    service.run(story())
    good, bad = read_lines(lines)
    assert (good["method"], good["route"], good["status"]) == ("GET", "/livez", 200)
    assert (bad["method"], bad["route"], bad["status"]) == ("-", "unknown", 400)
    labels = {"method": "other", "route": "unknown", "status": "400"}
    assert service.metric("http_request_duration_seconds_count", **labels) == 1
