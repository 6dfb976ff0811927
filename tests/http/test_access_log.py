"""One line per request, and the request id in every answer and every line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence

import pytest

from flowtally import limits
from flowtally.errors import KeyReused
from flowtally.model import Batch, Receipt
from flowtally.observe.log_levels import apply_levels
from flowtally.observe.log_lines import JsonFormatter
from flowtally.observe.logs import counts
from flowtally.stores.memory import MemoryStore
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


def test_it_can_be_switched_off_and_on_while_the_service_runs(
    service: Service, lines: io.StringIO
) -> None:
    level = logging.getLogger().level
    try:
        for access_log, events in ((False, 0), (True, 1)):
            apply_levels("info", {"access": "info"}, access_log)
            assert service.get("/livez").status == 200
            assert len(read_lines(lines)) == events
    finally:
        apply_levels("info", {}, access_log=True)
        logging.getLogger().setLevel(level)


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


def test_a_thread_that_works_for_a_request_logs_in_its_name(
    service: Service, lines: io.StringIO
) -> None:
    logging.getLogger("flowtally").setLevel(logging.DEBUG)
    body = encoded(record(src=str(number)) for number in range(1_000))
    assert len(body) > limits.DECODE_INLINE_BYTES_MAX
    service.post(body, {"X-Request-ID": "req-1"})
    service.post(b"[]", {"X-Request-ID": "req-2"})
    found = [line for line in read_lines(lines) if line["event"] == "body decoded"]
    assert [(line["request_id"], line["records"]) for line in found] == [
        ("req-1", 1_000),
        ("req-2", 0),
    ]


def test_a_failed_commit_is_named_by_each_of_its_requests(
    make_service: Callable[..., Service], lines: io.StringIO
) -> None:
    class BrokenStore(MemoryStore):
        async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
            raise OSError("broken")

    service = make_service(make_store=BrokenStore)
    reply = service.post(b"[]", {"X-Request-ID": "req-1", "Idempotency-Key": "k"})
    assert reply.status == 503
    assert b"broken" not in reply.body
    _, failed, request = read_lines(lines)
    assert (failed["event"], failed["commit"], request["commit"]) == ("commit failed", 1, 1)
    assert failed["request_ids"] == ["req-1"] == [request["request_id"]]
    assert failed["batch_ids"] == ["k"]
    assert str(failed["exception"]).endswith("OSError: broken")
    assert "request_id" not in failed


def test_why_a_batch_is_refused_is_logged_where_it_is_asked_for(
    service: Service, lines: io.StringIO
) -> None:
    service.post(b"{")
    logging.getLogger("flowtally").setLevel(logging.DEBUG)
    service.post(b"{", {"X-Request-ID": "req-1", "Idempotency-Key": "k"})
    [refused] = [line for line in read_lines(lines) if line["event"] == "batch refused"]
    assert (refused["level"], refused["request_id"], refused["batch_id"]) == ("debug", "req-1", "k")
    assert refused["why"]


def test_the_log_is_counted(service: Service) -> None:
    assert service.metric("flowtally_log_events_total", level="error") == counts.events["error"]
    assert service.metric("flowtally_log_suppressed_total") == counts.suppressed
