"""`flowtally copy`, between real services: whole, once, and verified, or told plainly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flowtally.api.exchange import Exchange
from flowtally.client import copying
from flowtally.client.client import FlowClient
from flowtally.config import Settings
from flowtally.wire.sums_lines import SumsLine, records_of
from tests.conformance.batches import HOSTILE_NAMES, LARGEST, LAST_HOUR, Record, record
from tests.http.service import call as call_app
from tests.oracle import Oracle
from tests.unit.cli.conftest import Call, Running, serving

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services; all are ended at the end."""
    with ExitStack() as stack:

        def started(store: str = "memory", wrap: Callable[[Any], Any] = lambda app: app) -> Running:
            folder = tmp_path / f"data-{len(list(tmp_path.iterdir()))}"
            settings = Settings(store=store, data=folder, access_log=False)
            return stack.enter_context(serving(settings, wrap))

        yield started


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PART_RECORDS", 7)


def fill(at: Running, records: list[Record], key: str | None = None) -> None:
    with FlowClient(at.url) as client:
        client.post(json.dumps(records).encode(), key or f"filled-{len(records)}")


def grow(at: Running, doublings: int, records: list[Record]) -> None:
    """What no sender could wait for: the same records, summed so often."""

    async def write() -> None:
        from flowtally.model import Batch, Tally

        rows = {}
        for one in records:
            flow = (one["src_app"], one["dest_app"], one["vpc_id"], one["hour"])
            rows[flow] = [one["bytes_rx"] << doublings, one["bytes_tx"], 1]
        await at.service.store.write([Batch("grown", False, b"f", Tally(rows), len(records))])

    import asyncio
    import threading

    done = threading.Event()
    at.run_there(
        lambda: (
            asyncio.get_running_loop().create_task(write()).add_done_callback(lambda _: done.set())
        )
    )
    assert done.wait(60)


def sums(at: Running) -> dict[int, list[dict[str, Any]]]:
    with FlowClient(at.url) as client:
        assert client.ledger().balances
        return {one.hour: client.sums(one.hour) for one in client.hours()}


def many() -> list[Record]:
    return [
        record(name, dest, hour=hour, rx=LARGEST - hour, tx=number)
        for hour in (0, 1, LAST_HOUR)
        for dest in ("b", "c")
        for number, name in enumerate(HOSTILE_NAMES)
    ]


def through(app: Any, refuse: Callable[[str, str, dict[bytes, bytes]], int | None]) -> Any:
    """The application behind something that refuses some requests with a status of its own."""

    async def answer(exchange: Exchange) -> None:
        status = refuse(exchange.method, exchange.path, dict(exchange.headers))
        if status is None:
            await app(exchange)
            return
        headers = [(b"content-type", b"application/problem+json")]
        await exchange.answer(status, headers, b'{"detail":"wall"}')

    return answer


async def answer_nobody(app: Any, exchange: Exchange) -> None:
    """Has a request answered, and loses the answer."""
    body: list[bytes] = []
    while not exchange.body_ended or exchange.unread_bytes:
        body += await exchange.read()
    headers = {name.decode(): value.decode() for name, value in exchange.headers.items()}
    await call_app(app, exchange.method, exchange.path, headers, b"".join(body))


@pytest.mark.parametrize(
    ("one", "other"),
    [("memory", "duckdb"), ("duckdb", "sql"), ("sql", "hourly"), ("hourly", "memory")],
)
def test_a_copy_has_the_same_answers(call: Call, start: Start, one: str, other: str) -> None:
    source, target = start(one), start(other)
    fill(source, many())
    fill(source, many()[:10])
    assert call("aggregate", "--url", source.url).code == 0
    oracle = Oracle()
    oracle.post(many())
    oracle.post(many()[:10])
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.err) == (0, ""), ended
    assert ended.lines[0] == "the target is empty"
    assert ended.lines[1].startswith("hour 0: ")
    assert ended.lines[-1].startswith(f"copied and verified: 3 hours, {len(many())} flows, ")
    assert sums(target) == {hour: oracle.hour(hour) for hour in oracle.hours()}
    with FlowClient(target.url) as client:
        before = client.ledger().total()
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.err) == (0, ""), ended
    assert "counted before" in ended.out
    with FlowClient(target.url) as client:
        assert client.ledger().total().accepted == before.accepted


@pytest.mark.parametrize("store", ["memory", "duckdb", "sql"])
def test_sums_larger_than_a_record(call: Call, start: Start, store: str) -> None:
    source, target = start(store), start("memory")
    largest = [record(rx=2**53), record("zero", rx=0, tx=0), record("wide", rx=2**53 + 1)]
    grow(source, 0, [record("small")])
    grow(source, 3, largest)
    grow(source, 11, [record("beyond", rx=LARGEST, tx=LARGEST)])
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.err) == (0, ""), ended
    assert sums(target) == sums(source)
    assert max(one["bytes_rx"] for one in sums(target)[1]) > 2**63


def test_records_add_up_and_keep_the_limit() -> None:
    for rx, tx in ((0, 0), (1, LARGEST), (LARGEST + 1, 0), (3 * LARGEST, 2**60)):
        records = list(records_of(SumsLine("a", "b", "v", 1, rx, tx)))
        assert sum(one.bytes_rx for one in records) == rx
        assert sum(one.bytes_tx for one in records) == tx
        assert max(max(one.bytes_rx, one.bytes_tx) for one in records) <= LARGEST
        assert len(records) <= 129


def test_an_empty_source(call: Call, start: Start) -> None:
    source, target = start("duckdb"), start()
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.err) == (0, ""), ended
    assert "copied and verified: 0 hours, 0 flows" in ended.out
    assert sums(target) == {}


@pytest.mark.parametrize("lost", [False, True])
def test_an_interrupted_copy_goes_on(call: Call, start: Start, lost: bool) -> None:
    """The wall comes after some batches; what was counted, answered or not, counts once."""
    posts = 0

    def wrap(app: Any) -> Any:
        def refuse(method: str, path: str, headers: dict[bytes, bytes]) -> int | None:
            nonlocal posts
            posts += method == "POST"
            return 403 if method == "POST" and 6 < posts < 100 else None

        walled = through(app, refuse)

        async def answer(exchange: Exchange) -> None:
            if lost and exchange.method == "POST" and posts == 5:
                await answer_nobody(walled, exchange)
                await through(app, lambda *_: 503)(exchange)
                return
            await walled(exchange)

        return answer

    source, target = start(), start("duckdb", wrap)
    fill(source, many())
    ended = call("copy", "--from", source.url, "--to", target.url, "--connections", "1")
    assert ended.code == 1
    assert "the service answered 403: wall" in ended.err
    assert 0 < len(sums(target)) <= 3
    posts = 100
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.err) == (0, ""), ended
    assert ended.lines[0].startswith("the target was begun on before")
    assert sums(target) == sums(source)


def test_a_target_that_holds_flows_is_refused_and_left_as_it_is(call: Call, start: Start) -> None:
    source, target = start(), start("duckdb")
    fill(source, many())
    fill(target, [record()])
    before = sums(target)
    for _ in range(2):
        ended = call("copy", "--from", source.url, "--to", target.url)
        assert (ended.code, ended.out) == (1, "")
        assert "--into-existing" in ended.err
        assert sums(target) == before


def test_what_the_target_has_not_summed_yet_is_not_taken_for_nothing(
    call: Call, start: Start
) -> None:
    source, target = start(), start("hourly")
    fill(source, many())
    held = [record(HOSTILE_NAMES[0], hour=0), record("own", hour=5)]
    fill(target, held)
    assert sums(target) == {}
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.out) == (1, "")
    assert "the target holds flows already (2 in 2 hours)" in ended.err
    fill(target, [*held, record("late", hour=1)])
    ended = call("copy", "--from", source.url, "--to", target.url, "--into-existing")
    assert (ended.code, ended.err) == (0, ""), ended
    oracle = Oracle()
    oracle.post(many())
    for records in (held, held, [record("late", hour=1)]):
        oracle.post(records)
    assert sums(target) == {hour: oracle.hour(hour) for hour in oracle.hours()}


def test_a_target_that_cannot_be_asked_to_sum_is_not_taken_for_empty(
    call: Call, start: Start
) -> None:
    """As a release is that knows no such request."""

    def refuse(method: str, path: str, headers: dict[bytes, bytes]) -> int | None:
        return 404 if path == "/v1/aggregate" else None

    source, target = start(), start("hourly", lambda app: through(app, refuse))
    fill(source, many())
    fill(target, [record()])
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.out) == (1, "")
    assert "(0 in 0 hours, and 1 records not yet summed)" in ended.err


def test_into_existing_adds_and_compares_what_was_added(call: Call, start: Start) -> None:
    source, target = start(), start("duckdb")
    fill(source, many())
    held = [record(HOSTILE_NAMES[0], hour=0), record("own", hour=5)]
    fill(target, held)
    oracle = Oracle()
    oracle.post(many())
    oracle.post(held)
    for _ in range(2):
        ended = call("copy", "--from", source.url, "--to", target.url, "--into-existing")
        assert (ended.code, ended.err) == (0, ""), ended
        assert sums(target) == {hour: oracle.hour(hour) for hour in oracle.hours()}


def test_another_part_under_a_key_of_before_is_not_counted(call: Call, start: Start) -> None:
    """Keys of what a part holds would have counted the changed hour once more."""
    source, target = start(), start()
    fill(source, many())
    assert call("copy", "--from", source.url, "--to", target.url).code == 0
    before = sums(target)
    fill(source, [record(HOSTILE_NAMES[0], hour=1)])
    ended = call("copy", "--from", source.url, "--to", target.url, "--connections", "1")
    assert ended.code == 1
    assert "hour 1: the target has it, or a part of it, from an earlier run" in ended.err
    assert sums(target) == before


def test_a_flow_that_came_since_moves_none_into_a_part_of_its_own(call: Call, start: Start) -> None:
    """It sorts before the others: each part's last flow is the next one's first, and that one the
    target may not have seen."""
    posts = 0

    def refuse(method: str, path: str, headers: dict[bytes, bytes]) -> int | None:
        nonlocal posts
        posts += method == "POST"
        return 403 if 6 < posts < 100 and method == "POST" else None

    source, target = start(), start(wrap=lambda app: through(app, refuse))
    fill(source, [record(hour=0)])
    fill(source, [record(f"b-{number:03}", rx=1) for number in range(70)])
    assert call("copy", "--from", source.url, "--to", target.url, "--connections", "1").code == 1
    posts = 100
    fill(source, [record("a", rx=1)], "since")
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert ended.code == 1
    assert {one["bytes_rx"] for one in sums(target)[1]} == {1}
    assert "hour 1: the target has it, or a part of it, from an earlier run" in ended.err


@pytest.mark.parametrize("hour", [1, 77])
def test_a_source_that_changes_is_noticed(call: Call, start: Start, hour: int) -> None:
    source = start()
    posts = 0

    def wrap(app: Any) -> Any:
        def refuse(method: str, path: str, headers: dict[bytes, bytes]) -> None:
            nonlocal posts
            posts += method == "POST"
            if posts == 10:
                posts += 1
                fill(source, [record("new", hour=hour)], "meanwhile")

        return through(app, refuse)

    target = start("memory", wrap)
    fill(source, many())
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert ended.code == 1
    assert f"the source changed while it was copied (hour {hour})" in ended.err
    assert "Stop what sends to the source" in ended.err


def test_a_target_that_others_send_to(call: Call, start: Start) -> None:
    """Somebody else posts to the target while the source's second hour is read."""
    target = start()
    reads = 0

    def refuse(method: str, path: str, headers: dict[bytes, bytes]) -> None:
        nonlocal reads
        reads += method == "GET" and path == "/v1/flows"
        if reads == 2:
            reads += 1
            fill(target, [record("others")] * 3)

    source = start(wrap=lambda app: through(app, refuse))
    fill(source, many())
    fill(target, [record("own")])
    ended = call("copy", "--from", source.url, "--to", target.url, "--into-existing")
    assert (ended.code, ended.err) == (0, ""), ended
    assert "the target took 1 batches of others meanwhile" in ended.out


def test_others_are_told_from_what_was_counted_before(call: Call, start: Start) -> None:
    """A copy is run again, and somebody else sends fewer batches than it repeats."""
    target = start()
    source_reads = 0

    def refuse(method: str, path: str, headers: dict[bytes, bytes]) -> None:
        nonlocal source_reads
        source_reads += method == "GET" and path == "/v1/flows"
        if source_reads == 9:
            source_reads += 1
            fill(target, [record("others", hour=0)])

    source = start(wrap=lambda app: through(app, refuse))
    fill(source, many())
    for line in ("copied and verified", "the target took 1 batches of others meanwhile"):
        ended = call("copy", "--from", source.url, "--to", target.url, "--into-existing")
        assert (ended.code, ended.err) == (0, ""), ended
        assert line in ended.out


@pytest.mark.parametrize(("status", "path"), [(401, "/v1/hours"), (400, "/v1/flows")])
def test_a_target_that_refuses(call: Call, start: Start, status: int, path: str) -> None:
    source = start()
    target = start(wrap=lambda app: through(app, lambda _, at, __: status if at == path else None))
    fill(source, many())
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert (ended.code, ended.out) == (1, "")
    assert f"the target ({target.url}): the service answered {status}: wall" in ended.err


def test_a_target_that_is_not_there_for_a_while(call: Call, start: Start) -> None:
    source = start()
    target = start(
        wrap=lambda app: through(app, lambda method, *_: 503 if method == "POST" else None)
    )
    fill(source, many())
    ended = call("copy", "--from", source.url, "--to", target.url, "--give-up-after-s", "0.2")
    assert ended.code == 1
    assert "it answered 503: wall" in ended.err


def test_one_service_is_not_copied_onto_itself(call: Call, start: Start) -> None:
    source = start("duckdb")
    fill(source, many())
    same = source.url.replace("127.0.0.1", "localhost")
    for target in (source.url, same):
        ended = call("copy", "--from", source.url, "--to", target, "--into-existing")
        assert ended.code == 1
        assert "are the same service" in ended.err


def test_a_target_that_loses_what_it_accepted_is_found_out(call: Call, start: Start) -> None:
    def wrap(app: Any) -> Any:
        async def answer(exchange: Exchange) -> None:
            if not exchange.headers.get(b"idempotency-key", b"").endswith(b"-0-1"):
                await app(exchange)
                return
            await exchange.answer(200, (), b'{"batch_id":"x","records":7,"flows":7}')

        return answer

    source, target = start(), start(wrap=wrap)
    fill(source, many())
    ended = call("copy", "--from", source.url, "--to", target.url)
    assert ended.code == 1
    assert "the copy does not hold" in ended.err
    assert "hour 0: and 2 more flows" in ended.err
    assert "the target's ledger has" in ended.err
