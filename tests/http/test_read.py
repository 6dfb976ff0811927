"""GET /v1/flows, /v1/hours, /v1/ledger."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from flowtally.model import Revision, Sums
from tests.http.service import NOW_MS, Service, assert_problem, call, encoded, record

HOUR_MAX = 2**31 - 1
ROWS = [
    {
        "src_app": "a,b",
        "dest_app": "=1+1",
        "vpc_id": "v",
        "hour": 1,
        "bytes_rx": 600,
        "bytes_tx": 200,
    },
    {"src_app": "b", "dest_app": 'c"d', "vpc_id": "v", "hour": 1, "bytes_rx": 300, "bytes_tx": 100},
]


@pytest.fixture
def filled(service: Service) -> Service:
    """A service that holds ROWS in hour 1."""
    records = [
        record("b", 'c"d', "v"),
        record("a,b", "=1+1", "v"),
        record("a,b", "=1+1", "v"),
    ]
    assert service.post(encoded(records)).status == 200
    return service


def test_the_whole_answer(filled: Service) -> None:
    reply = filled.get("/v1/flows?hour=1", {"X-Request-ID": "req-1"})
    assert reply.status == 200
    assert dict(reply.headers) == {
        "content-type": "application/json",
        "content-length": str(len(reply.body)),
        "etag": f'"1-1-{NOW_MS:x}-{(filled.store.instance() or "")[:12]}-json-identity"',
        "flowtally-revision": "1",
        "flowtally-records": "2",
        "flowtally-last-change": "2023-11-14T22:13:20.000Z",
        "flowtally-partial": "true",
        "vary": "Accept, Accept-Encoding",
        "cache-control": "no-cache",
        "x-request-id": "req-1",
        "api-version": "v1",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        "referrer-policy": "no-referrer",
    }
    assert reply.body == json.dumps(ROWS, separators=(",", ":")).encode()


def test_an_hour_without_data(service: Service) -> None:
    reply = service.get("/v1/flows?hour=7")
    assert (reply.status, reply.body) == (200, b"[]")
    assert reply.header("flowtally-revision") == "0"
    assert reply.header("flowtally-records") == "0"
    assert reply.header("flowtally-last-change") is None
    assert reply.header("flowtally-partial") is None
    assert reply.header("etag") is not None


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "hour is missing"),
        ("?", "hour is missing"),
        ("?format=json", "hour is missing"),
        ("?hour=1&hour=1", "hour is repeated"),
        ("?hour=1&hour=2", "hour is repeated"),
        ("?hour", "hour must be an integer"),
        ("?hour=", "hour must be an integer"),
        ("?hour=one", "hour must be an integer"),
        ("?hour=1.0", "hour must be an integer"),
        ("?hour=1e3", "hour must be an integer"),
        ("?hour=-1", "hour must be an integer from 0 to 2147483647"),
        ("?hour=+1", "hour must be an integer"),
        ("?hour=%2B1", "hour must be an integer"),
        ("?hour=%201", "hour must be an integer"),
        ("?hour=1_0", "hour must be an integer"),
        ("?hour=01", "hour must be an integer"),
        ("?hour=0x1", "hour must be an integer"),
        ("?hour=%D9%A1", "hour must be an integer"),
        ("?hour=%00", "hour must be an integer"),
        ("?hour=2147483648", "hour must be an integer"),
        ("?hour=" + "9" * 10_000, "hour must be an integer"),
        ("?hour=1&format=json&format=csv", "format is repeated"),
        ("?hour=1&format=xml", "format must be one of"),
        ("?hour=1&format=", "format must be one of"),
        ("?Hour=1", "'Hour' is not known"),
        ("?hour=1&x=1", "'x' is not known"),
        ("?hour=1&", "'' is not known"),
        ("?hour=1;x=1", "hour must be an integer"),
        ("?hour=1&" + "&".join(f"x{number}=1" for number in range(1000)), "'x0' is not known"),
    ],
)
def test_a_bad_query(service: Service, query: str, detail: str) -> None:
    assert_problem(service.get(f"/v1/flows{query}"), 400, "invalid-input", detail)


@pytest.mark.parametrize("query", ["hour=0", f"hour={HOUR_MAX}", "%68our=1", "format=json&hour=1"])
def test_a_good_query(service: Service, query: str) -> None:
    assert service.get(f"/v1/flows?{query}").status == 200


@pytest.mark.parametrize("path", ["/v1/hours", "/v1/ledger"])
def test_paths_that_take_no_parameters(service: Service, path: str) -> None:
    assert_problem(service.get(f"{path}?hour=1"), 400, "invalid-input", "'hour' is not known")


# Formats and codings.


def parquet_rows(body: bytes) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    return rows


def arrow_rows(body: bytes) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pa.ipc.open_stream(body).read_all().to_pylist()
    return rows


def ndjson_rows(body: bytes) -> list[dict[str, object]]:
    assert body.endswith(b"\n")
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize(
    ("name", "accept", "content_type", "rows"),
    [
        ("json", "application/json", "application/json", json.loads),
        ("ndjson", "application/x-ndjson", "application/x-ndjson", ndjson_rows),
        (
            "arrow",
            "application/vnd.apache.arrow.stream",
            "application/vnd.apache.arrow.stream",
            arrow_rows,
        ),
        (
            "parquet",
            "application/vnd.apache.parquet",
            "application/vnd.apache.parquet",
            parquet_rows,
        ),
    ],
)
def test_every_format_by_accept_and_by_name(
    filled: Service,
    name: str,
    accept: str,
    content_type: str,
    rows: Callable[[bytes], list[dict[str, object]]],
) -> None:
    by_accept = filled.get("/v1/flows?hour=1", {"Accept": accept})
    by_name = filled.get(f"/v1/flows?hour=1&format={name}", {"Accept": "text/html"})
    assert by_accept.body == by_name.body
    assert by_accept.header("content-type") == by_name.header("content-type") == content_type
    found = [
        {key: int(value) if isinstance(value, Decimal) else value for key, value in row.items()}
        for row in rows(by_accept.body)
    ]
    assert found == ROWS


def test_csv_quotes_what_a_spreadsheet_would_run(filled: Service) -> None:
    reply = filled.get("/v1/flows?hour=1", {"Accept": "text/csv"})
    assert reply.header("content-type") == "text/csv; charset=utf-8; header=present"
    assert reply.body == (
        b"src_app,dest_app,vpc_id,hour,bytes_rx,bytes_tx\r\n"
        b'"a,b",\'=1+1,v,1,600,200\r\n'
        b'b,"c""d",v,1,300,100\r\n'
    )


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv; charset=utf-8; header=present"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
        ("application/json;q=0, */*", "application/x-ndjson"),
    ],
)
def test_the_best_format_is_chosen(filled: Service, accept: str, content_type: str) -> None:
    reply = filled.get("/v1/flows?hour=1", {"Accept": accept})
    assert reply.header("content-type") == content_type


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "nonsense"])
def test_no_acceptable_format(service: Service, accept: str) -> None:
    reply = service.get("/v1/flows?hour=1", {"Accept": accept})
    assert_problem(reply, 406, "not-acceptable", "application/json")


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("br", None),
        ("identity", None),
        ("gzip;q=0", None),
        ("*", "zstd"),
    ],
)
def test_codings(service: Service, accept_encoding: str, coding: str | None) -> None:
    service.post(encoded(record(src=f"app-{number:03}") for number in range(100)))
    plain = service.get("/v1/flows?hour=1")
    reply = service.get("/v1/flows?hour=1", {"Accept-Encoding": accept_encoding})
    assert reply.header("content-encoding") == coding
    body = reply.body
    if coding == "gzip":
        body = gzip.decompress(body)
    elif coding == "zstd":
        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    assert body == plain.body
    assert (reply.header("etag") == plain.header("etag")) == (coding is None)


def test_a_large_answer_is_encoded_in_a_thread(service: Service) -> None:
    service.post(encoded(record(src=f"app-{number:04}") for number in range(2_000)))
    rows = service.sums(1)
    assert [row["src_app"] for row in rows] == [f"app-{number:04}" for number in range(2_000)]


# Revisions.


class CountingSource:
    """A source in front of another one; counts the reads, and can hold them up."""

    def __init__(self, source: object) -> None:
        self._source = source
        self.reads = 0
        self.more_to_come = False
        self.gate = asyncio.Event()
        self.gate.set()

    def instance(self) -> str | None:
        return None

    async def is_partial(self, hour: int) -> bool:
        return self.more_to_come

    async def revision(self, hour: int) -> Revision:
        found: Revision = await self._source.revision(hour)  # type: ignore[attr-defined]
        return found

    async def sums(self, hour: int) -> Sums:
        self.reads += 1
        await self.gate.wait()
        found: Sums = await self._source.sums(hour)  # type: ignore[attr-defined]
        return found


@pytest.fixture
def source(filled: Service) -> CountingSource:
    source = CountingSource(filled.store)
    filled.replace(source=source)
    return source


def test_a_known_revision_is_304_and_touches_nothing(
    filled: Service, source: CountingSource
) -> None:
    tag = filled.get("/v1/flows?hour=1").header("etag")
    assert tag is not None
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*", f'{tag} , W/"x"'):
        reply = filled.get("/v1/flows?hour=1", {"If-None-Match": given})
        assert (reply.status, reply.body) == (304, b""), given
        assert reply.header("etag") == tag
        assert reply.header("vary") == "Accept, Accept-Encoding"
        assert reply.header("flowtally-revision") == "1"
    assert source.reads == 1


def test_another_tag_is_answered_in_full(filled: Service) -> None:
    tag = filled.get("/v1/flows?hour=1").header("etag")
    assert tag is not None
    csv = filled.get("/v1/flows?hour=1&format=csv").header("etag")
    assert csv != tag
    for given in ('"other"', tag.strip('"'), csv or "", ""):
        assert filled.get("/v1/flows?hour=1", {"If-None-Match": given}).status == 200, given


def test_a_write_changes_the_tag_of_its_hour_only(filled: Service) -> None:
    tags = [filled.get(f"/v1/flows?hour={hour}").header("etag") for hour in (1, 2)]
    filled.clock.advance_ms(10)
    filled.post(encoded([record()]))
    reply = filled.get("/v1/flows?hour=1", {"If-None-Match": tags[0] or ""})
    assert (reply.status, len(reply.json())) == (200, 3)
    assert reply.header("flowtally-revision") == "2"
    assert reply.header("flowtally-last-change") == "2023-11-14T22:13:20.010Z"
    assert filled.get("/v1/flows?hour=2", {"If-None-Match": tags[1] or ""}).status == 304


def test_an_answer_is_made_once_per_revision_format_and_coding(
    filled: Service, source: CountingSource
) -> None:
    for _ in range(3):
        for query in ("hour=1", "hour=1&format=csv"):
            assert filled.get(f"/v1/flows?{query}").status == 200
            assert filled.get(f"/v1/flows?{query}", {"Accept-Encoding": "gzip"}).status == 200
    assert source.reads == 4
    filled.post(encoded([record()]))
    assert len(filled.sums(1)) == 3
    assert source.reads == 5


def test_readers_at_once_wait_for_one_answer(filled: Service, source: CountingSource) -> None:
    async def story() -> list[int]:
        source.gate.clear()
        readers = [
            asyncio.create_task(call(filled.app, "GET", "/v1/flows?hour=1")) for _ in range(10)
        ]
        while not source.reads:
            await asyncio.sleep(0)
        source.gate.set()
        return [(await reader).status for reader in readers]

    assert filled.run(story()) == [200] * 10
    assert source.reads == 1


def test_partial_ends_five_minutes_after_the_last_change(filled: Service) -> None:
    filled.clock.advance_ms(5 * 60_000 - 1)
    assert filled.get("/v1/flows?hour=1").header("flowtally-partial") == "true"
    filled.clock.advance_ms(1)
    assert filled.get("/v1/flows?hour=1").header("flowtally-partial") is None


def test_partial_where_the_source_knows_of_more(filled: Service, source: CountingSource) -> None:
    """It belongs to no revision: the same answer is partial, and then it is not."""
    filled.clock.advance_ms(5 * 60_000)
    tag = filled.get("/v1/flows?hour=1").header("etag") or ""
    for more_to_come, told in ((False, None), (True, "true"), (False, None)):
        source.more_to_come = more_to_come
        reply = filled.get("/v1/flows?hour=1")
        assert (reply.status, reply.header("etag")) == (200, tag)
        assert reply.header("flowtally-partial") == told
        again = filled.get("/v1/flows?hour=1", {"If-None-Match": tag})
        assert (again.status, again.header("flowtally-partial")) == (304, told or "false")
    assert source.reads == 1
    source.more_to_come = True
    empty = filled.get("/v1/flows?hour=7")
    assert (empty.body, empty.header("flowtally-partial")) == (b"[]", "true")


def test_a_read_that_takes_too_long(make_service: Callable[..., Service]) -> None:
    service = make_service(deadline_s=0.05)
    source = CountingSource(service.store)
    source.gate = asyncio.Event()
    service.replace(source=source)
    assert_problem(service.get("/v1/flows?hour=1"), 503, "deadline-passed", "longer than 0.05 s")


# Hours and ledger.


def test_hours(filled: Service) -> None:
    filled.clock.advance_ms(1)
    filled.post(encoded([record(hour=0), record(hour=0, rx=2**53 - 1)]))
    reply = filled.get("/v1/hours")
    assert reply.status == 200
    assert reply.header("content-type") == "application/json"
    assert reply.json() == {
        "hours": [
            {
                "hour": 0,
                "flows": 1,
                "records": 2,
                "bytes_rx": 2**53 - 1 + 300,
                "bytes_tx": 200,
                "revision": 2,
                "last_change": "2023-11-14T22:13:20.001Z",
            },
            {
                "hour": 1,
                "flows": 2,
                "records": 3,
                "bytes_rx": 900,
                "bytes_tx": 300,
                "revision": 1,
                "last_change": "2023-11-14T22:13:20.000Z",
            },
        ]
    }


def test_ledger(filled: Service) -> None:
    filled.post(b"{}")
    filled.post(b"[]", {"Idempotency-Key": "k"})
    filled.post(b"[]", {"Idempotency-Key": "k"})
    ledger = filled.get("/v1/ledger").json()
    accepted = {"batches": 2, "records": 3, "bytes_rx": 900, "bytes_tx": 300}
    nothing = dict.fromkeys(accepted, 0)
    line = {
        "accepted": accepted,
        "summed": accepted,
        "pending": nothing,
        "expired": nothing,
        "difference": nothing,
        "balances": True,
        "batches_repeated": 1,
        "batches_refused": 1,
    }
    assert ledger == {
        "balances": True,
        "total": line,
        "lines": [{"arrival_hour": NOW_MS // 3_600_000, **line}],
    }
