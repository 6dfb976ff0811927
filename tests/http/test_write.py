"""POST /v1/flows: what is taken, how it is answered, what it does to the sums."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import threading
from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest
import zstandard

from flowtally import limits
from flowtally.api import write
from flowtally.errors import NotAccepting
from flowtally.limits import BodyLimits
from flowtally.model import Batch, PartHealth, Receipt
from flowtally.wire.decode import DecodedBody, decode_body
from flowtally.wire.media import BodyFormat
from tests.http.service import Hangup, Service, Silence, assert_problem, call, encoded, record

BODY = encoded([record(), record(tx=200, rx=600)])
SUMS = [
    {
        "src_app": "foo",
        "dest_app": "bar",
        "vpc_id": "vpc-0",
        "hour": 1,
        "bytes_rx": 900,
        "bytes_tx": 300,
    }
]


def arrow(records: Sequence[dict[str, object]]) -> bytes:
    table = pa.Table.from_pylist(list(records))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_the_sample_gives_exactly_these_sums(service: Service) -> None:
    sample = [
        record("foo", "bar", "vpc-0", 100, 300, 1),
        record("foo", "bar", "vpc-0", 200, 600, 1),
        record("baz", "qux", "vpc-0", 100, 500, 1),
        record("baz", "qux", "vpc-0", 100, 500, 2),
        record("baz", "qux", "vpc-1", 100, 500, 2),
    ]
    reply = service.post(encoded(sample), {"Idempotency-Key": "sample"})
    assert (reply.status, reply.body) == (200, b'{"batch_id":"sample","records":5,"flows":4}')
    assert service.get("/v1/flows?hour=1").body == (
        b'[{"src_app":"baz","dest_app":"qux","vpc_id":"vpc-0","hour":1,"bytes_rx":500,"bytes_tx":100},'
        b'{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":900,"bytes_tx":300}]'
    )
    assert service.get("/v1/flows?hour=2").body == (
        b'[{"src_app":"baz","dest_app":"qux","vpc_id":"vpc-0","hour":2,"bytes_rx":500,"bytes_tx":100},'
        b'{"src_app":"baz","dest_app":"qux","vpc_id":"vpc-1","hour":2,"bytes_rx":500,"bytes_tx":100}]'
    )
    assert service.get("/v1/flows?hour=3").body == b"[]"


def test_headers_of_a_receipt(service: Service) -> None:
    reply = service.post(BODY, {"Idempotency-Key": "a", "X-Request-ID": "req-1"})
    assert dict(reply.headers) == {
        "content-type": "application/json",
        "content-length": "38",
        "x-request-id": "req-1",
        "api-version": "v1",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        "referrer-policy": "no-referrer",
    }


def test_the_unversioned_path_is_the_same(service: Service) -> None:
    assert service.post(BODY, target="/flows").status == 200
    assert service.sums(1) == SUMS
    assert service.get("/flows?hour=1").body == service.get("/v1/flows?hour=1").body


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param(None, BODY, id="no-content-type"),
        pytest.param("application/json", BODY, id="json"),
        pytest.param("Application/JSON; charset=UTF-8", BODY, id="json-charset"),
        pytest.param(
            "application/x-ndjson",
            b"\n".join(json.dumps(one).encode() for one in json.loads(BODY)),
            id="ndjson",
        ),
        pytest.param("application/vnd.apache.arrow.stream", arrow(json.loads(BODY)), id="arrow"),
    ],
)
@pytest.mark.parametrize("coding", [None, "gzip", "zstd", "identity"])
def test_every_format_and_coding(
    service: Service, content_type: str | None, body: bytes, coding: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    if coding is not None:
        headers["Content-Encoding"] = coding
    if coding == "gzip":
        body = gzip.compress(body)
    elif coding == "zstd":
        body = zstandard.compress(body)
    reply = service.post(body, headers)
    assert (reply.status, reply.json()["records"], reply.json()["flows"]) == (200, 2, 1)
    assert service.sums(1) == SUMS


@pytest.mark.parametrize(
    ("headers", "slug"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported-media"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "unsupported-media"),
        ({"Content-Type": "text/plain"}, "unsupported-media"),
        ({"Content-Type": "application/json; charset=utf-16"}, "unsupported-media"),
        ({"Content-Encoding": "br"}, "unsupported-media"),
        ({"Content-Encoding": "gzip, gzip"}, "unsupported-media"),
        ([("Content-Type", "application/json")] * 2, "unsupported-media"),
    ],
)
def test_types_and_codings_that_are_not_read(
    service: Service, headers: dict[str, str], slug: str
) -> None:
    assert_problem(service.post(BODY, headers), 415, slug)
    assert service.counted() == (0, 0, 1)


def test_an_empty_array_is_a_batch_of_no_records(service: Service) -> None:
    reply = service.post(b"[]", {"Idempotency-Key": "empty"})
    assert (reply.status, reply.body) == (200, b'{"batch_id":"empty","records":0,"flows":0}')
    assert (
        service.post(b"[]", {"Idempotency-Key": "empty"}).header("idempotency-replayed") == "true"
    )


def test_a_large_body_is_decoded_in_a_thread(service: Service) -> None:
    body = encoded(record(tx=1, rx=2, src=f"app-{number % 50}") for number in range(5_000))
    assert len(body) > 500_000
    reply = service.post([body[:100_000], body[100_000:]])
    assert (reply.status, reply.json()["records"], reply.json()["flows"]) == (200, 5_000, 50)
    assert sum(row["bytes_rx"] for row in service.sums(1)) == 10_000


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize(("records", "in_a_thread"), [(100, False), (3_000, True)])
def test_what_is_large_when_decoded_is_read_in_a_thread(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    compress: Callable[[bytes], bytes],
    records: int,
    in_a_thread: bool,
) -> None:
    """However small it came: to read it on the event loop kept everybody waiting."""
    threads: list[threading.Thread] = []

    def noting_decode_body(body: bytes, form: BodyFormat, bounds: BodyLimits) -> DecodedBody:
        threads.append(threading.current_thread())
        return decode_body(body, form, bounds)

    monkeypatch.setattr(write, "decode_body", noting_decode_body)
    body = compress(encoded([record()] * records))
    assert len(body) < limits.DECODE_CODED_INLINE_BYTES_MAX
    coding = "gzip" if compress is gzip.compress else "zstd"
    reply = service.post(body, {"Content-Encoding": coding})
    assert (reply.status, reply.json()["records"]) == (200, records)
    assert [thread is not threading.main_thread() for thread in threads] == [in_a_thread]


def test_a_body_in_single_bytes(service: Service) -> None:
    reply = service.post([bytes([byte]) for byte in BODY])
    assert reply.status == 200
    assert service.sums(1) == SUMS


# Idempotency.


def test_a_key_counts_once(service: Service) -> None:
    first = service.post(BODY, {"Idempotency-Key": "k"})
    again = service.post(BODY, {"Idempotency-Key": "k"})
    assert first.header("idempotency-replayed") is None
    assert again.header("idempotency-replayed") == "true"
    assert (again.status, again.body) == (first.status, first.body)
    assert service.sums(1) == SUMS
    assert service.counted() == (1, 1, 0)
    assert service.metric("flowtally_batches_total", outcome="repeated") == 1
    assert service.metric("flowtally_records_total") == 2


def test_a_key_with_another_body_is_refused(service: Service) -> None:
    service.post(BODY, {"Idempotency-Key": "k"})
    assert_problem(service.post(b"[]", {"Idempotency-Key": "k"}), 422, "key-reused")
    assert service.sums(1) == SUMS
    assert service.counted() == (1, 0, 1)


def test_without_a_key_each_post_counts(service: Service) -> None:
    replies = [service.post(BODY) for _ in range(3)]
    ids = [reply.json()["batch_id"] for reply in replies]
    assert len(set(ids)) == 3
    for batch_id in ids:
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", batch_id
        )
    assert service.sums(1)[0]["bytes_tx"] == 900


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order-7", '"order-7"'),
        ("a\\b", '"a\\\\b"'),
        ('a"b', '"a\\"b"'),
        ("~!#$%&'()*+,-./:;<=>?@[]^_`{|}", '"~!#$%&\'()*+,-./:;<=>?@[]^_`{|}"'),
        ("x" * 128, f'"{"x" * 128}"'),
    ],
)
def test_both_spellings_are_one_key(service: Service, one: str, other: str) -> None:
    first = service.post(BODY, {"Idempotency-Key": one})
    again = service.post(BODY, {"Idempotency-Key": other})
    assert first.json()["batch_id"] == one
    assert again.header("idempotency-replayed") == "true"
    assert again.body == first.body


@pytest.mark.parametrize("key", ["", '""', "x" * 129, "a b", '"a b"', "a\tb", "caf\xe9", "a\x7fb"])
def test_a_bad_key_is_refused(service: Service, key: str) -> None:
    assert_problem(
        service.post(BODY, {"Idempotency-Key": key}), 400, "invalid-input", "Idempotency-Key"
    )
    assert service.counted() == (0, 0, 1)


def test_a_repeated_key_header_is_refused(service: Service) -> None:
    reply = service.post(BODY, [("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert_problem(reply, 400, "invalid-input", "Idempotency-Key")


def test_sixteen_posts_of_one_key_at_once(service: Service) -> None:
    async def story() -> list[bytes]:
        calls = [
            call(service.app, "POST", "/v1/flows", {"Idempotency-Key": "one"}, BODY)
            for _ in range(16)
        ]
        replies = await asyncio.gather(*calls)
        assert {reply.status for reply in replies} == {200}
        assert sum(reply.header("idempotency-replayed") is None for reply in replies) == 1
        return [reply.body for reply in replies]

    assert len(set(service.run(story()))) == 1
    assert service.sums(1) == SUMS
    assert service.counted() == (1, 15, 0)


# Limits, deadlines, and a service that cannot.


@pytest.mark.parametrize(
    ("bounds", "body", "coding"),
    [
        pytest.param(BodyLimits(body_bytes_max=100), BODY, None, id="wire"),
        pytest.param(BodyLimits(decoded_bytes_max=100), BODY, None, id="decoded"),
        pytest.param(BodyLimits(decoded_bytes_max=100), BODY, "gzip", id="decoded-gzip"),
        pytest.param(BodyLimits(decoded_bytes_max=100), BODY, "zstd", id="decoded-zstd"),
        pytest.param(BodyLimits(records_max=1), BODY, None, id="records"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_batch_beyond_a_limit(
    make_service: Callable[..., Service],
    bounds: BodyLimits,
    body: bytes,
    coding: str | None,
    chunked: bool,
) -> None:
    service = make_service(bounds=bounds)
    headers = {} if coding is None else {"Content-Encoding": coding}
    if coding == "gzip":
        body = gzip.compress(body)
    elif coding == "zstd":
        body = zstandard.compress(body)
    reply = service.post([body[:30], body[30:]] if chunked else body, headers)
    assert_problem(reply, 413, "too-large")
    assert service.counted() == (0, 0, 1)
    assert service.services.admission.in_flight_bytes == 0


def test_a_batch_at_its_limits(make_service: Callable[..., Service]) -> None:
    bounds = BodyLimits(body_bytes_max=len(BODY), decoded_bytes_max=len(BODY), records_max=2)
    assert make_service(bounds=bounds).post(BODY).status == 200


def test_a_length_beyond_the_limit_is_refused_before_a_byte_is_read(service: Service) -> None:
    reply = service.post(
        [Silence], {"Content-Length": str(16 * 1024 * 1024 + 1), "Expect": "100-continue"}
    )
    assert_problem(reply, 413, "too-large", "16777217 bytes")
    assert reply.header("connection") == "close"


def test_an_endless_body_ends(make_service: Callable[..., Service]) -> None:
    service = make_service(bounds=BodyLimits(body_bytes_max=10_000))
    reply = service.post([b"[" + b" " * 999] * 60_000)
    assert_problem(reply, 413, "too-large")
    assert service.services.admission.in_flight_bytes == 0


def test_too_much_in_flight(make_service: Callable[..., Service]) -> None:
    service = make_service(in_flight_bytes_max=len(BODY) - 1)
    reply = service.post(BODY, {"Idempotency-Key": "k"})
    assert_problem(reply, 503, "overloaded")
    assert reply.header("retry-after") == "1"
    assert service.counted() == (0, 0, 0), "it may be sent again: it was not refused"
    assert service.metric("flowtally_batches_total", outcome="unavailable") == 1


def test_a_slow_body(make_service: Callable[..., Service]) -> None:
    service = make_service(deadline_s=0.05)
    reply = service.post([BODY[:10], Silence])
    assert_problem(reply, 408, "slow-body")
    assert reply.header("connection") == "close"
    assert service.counted() == (0, 0, 0), "it may be sent again: it was not refused"
    assert service.metric("flowtally_batches_total", outcome="unavailable") == 1
    assert service.services.admission.in_flight_bytes == 0


def test_a_body_cut_off_counts_nothing(service: Service) -> None:
    reply = service.post([BODY[:10], Hangup], {"Content-Length": str(len(BODY))})
    assert_problem(reply, 400, "body-cut-off", "cut off")
    assert service.counted() == (0, 0, 0)
    assert service.metric("flowtally_batches_total", outcome="cut_off") == 1
    assert service.sums(1) == []


class StuckCommitter:
    """Never finishes, like a disk that hangs."""

    def health(self) -> Sequence[PartHealth]:
        return ()

    async def submit(self, batch: Batch, request_id: str | None = None) -> Receipt:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None: ...


class FailingCommitter(StuckCommitter):
    """Fails with what it is given."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def submit(self, batch: Batch, request_id: str | None = None) -> Receipt:
        raise self._error


def test_slow_storage(
    make_service: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(deadline_s=0.05)
    service.replace(committer=StuckCommitter())
    reply = service.post(BODY, {"Idempotency-Key": "k"})
    assert_problem(reply, 503, "deadline-passed", "not stored within 0.05 s")
    [logged] = [one for one in caplog.records if one.message == "write not done in time"]
    assert vars(logged)["batch_id"] == "k"
    assert service.services.admission.in_flight_bytes == 0


def test_a_service_that_cannot_accept(service: Service) -> None:
    service.replace(committer=FailingCommitter(NotAccepting("the disk is full", 5)))
    reply = service.post(BODY)
    assert_problem(reply, 503, "not-accepting", "the disk is full")
    assert reply.header("retry-after") == "5"


def test_an_unexpected_error_shows_nothing(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.replace(committer=FailingCommitter(ValueError("secret")))
    reply = service.post(BODY, {"X-Request-ID": "req-9"})
    assert_problem(reply, 500, "fault")
    assert b"secret" not in reply.body
    assert reply.json()["detail"] == "see the server's log under this request_id"
    [logged] = [one for one in caplog.records if one.message == "write failed"]
    assert "secret" in str(logged.exc_info)
    assert service.metric("flowtally_batches_total", outcome="failed") == 1


def test_202_where_a_batch_is_durable_but_not_visible(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.store, "visible_on_return", False)
    assert service.post(BODY).status == 202
