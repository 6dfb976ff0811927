"""HTTP/1.1 as it stands on the wire: what is understood, what is refused, and in which time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import resource
import socket
from typing import Any

import pytest

from flowtally import limits
from flowtally.api.asgi import answer_with
from flowtally.api.exchange import Exchange
from flowtally.api.parser import RequestParser
from tests.http.service import Reply, Service, assert_problem
from tests.http.sockets import ANSWER_S_MAX, BODY, Peer, eventually, head, listening, post

LIVEZ = head("GET", "/livez")
CHUNKED = "Transfer-Encoding: chunked"
SLUGS = {414: "target-too-long", 431: "head-too-large", 505: "http-version"}
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = f"Content-Length: {len(BODY)}"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        # Two readers could see the end of the body in different places: request smuggling.
        pytest.param(head("POST", "/flows", LENGTH, CHUNKED) + CHUNKS, 400, id="length-chunked"),
        pytest.param(head("POST", "/flows", CHUNKED, LENGTH) + CHUNKS, 400, id="chunked-length"),
        pytest.param(head("POST", "/flows", LENGTH, LENGTH) + BODY, 400, id="length-twice"),
        pytest.param(
            head("POST", "/flows", f"{LENGTH}, {len(BODY)}") + BODY, 400, id="list-of-lengths"
        ),
        pytest.param(head("POST", "/flows", "Content-Length: +2") + b"[]", 400, id="signed-length"),
        pytest.param(head("POST", "/flows", CHUNKED, CHUNKED) + CHUNKS, 400, id="chunked-twice"),
        pytest.param(
            head("POST", "/flows", "Transfer-Encoding: chunked, identity") + CHUNKS,
            400,
            id="chunked-not-last",
        ),
        pytest.param(
            head("POST", "/flows", "Transfer-Encoding: xchunked") + CHUNKS, 400, id="xchunked"
        ),
        pytest.param(
            head("POST", "/flows", CHUNKED) + CHUNKS.replace(b"\r\n", b"\n"),
            400,
            id="bare-lf-chunk",
        ),
        pytest.param(head("POST", "/flows", "Content-Length : 2") + b"[]", 400, id="space-colon"),
        pytest.param(LIVEZ.replace(b"\r\n", b"\n"), 400, id="bare-lf"),
        pytest.param(head("GET", "/livez", "A: b", " c"), 400, id="folded"),
        pytest.param(head("GET", "/livez", "A: b\0"), 400, id="nul"),
        pytest.param(head("GET", "/livez", "A: b\rc"), 400, id="bare-cr"),
        pytest.param(head("GET", "/livez", ": b"), 400, id="no-name"),
        # RFC 9112, section 6.1.
        pytest.param(
            head("POST", "/flows", "Transfer-Encoding: gzip, chunked") + CHUNKS,
            400,
            id="coded-and-chunked",
        ),
        pytest.param(
            head("POST", "/flows", CHUNKED, "Connection: keep-alive").replace(b"1.1", b"1.0")
            + CHUNKS,
            400,
            id="1.0-chunked",
        ),
        # RFC 9112, section 3.2.
        pytest.param(
            head("GET", "/livez", "Host: y").replace(b"1.1", b"1.0"), 400, id="1.0-two-hosts"
        ),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(head("GET", "/livez", "Host: y"), 400, id="two-hosts"),
        pytest.param(b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 505, id="http-2.0"),
        pytest.param(b"GET /livez HTTP/0.9\r\n\r\n", 505, id="http-0.9"),
        pytest.param(b"GET /livez\r\n\r\n", 505, id="no-version"),
        pytest.param(b"GET /livez HTTP/9.9\r\n\r\n", 505, id="http-9.9"),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505, id="http-2-preface"
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, id="tls"),
        pytest.param(b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="no-such-method"),
        pytest.param(head("GET", "/liv\u00e9z"), 400, id="target-not-ascii"),
        pytest.param(
            head("GET", "/livez", *["A: b"] * limits.HEAD_LINES_MAX), 431, id="many-lines"
        ),
        pytest.param(
            head("GET", "/livez", "A: " + "b" * 2 * limits.HEAD_BYTES_MAX), 431, id="large"
        ),
        pytest.param(head("GET", "/" + "a" * 2 * limits.HEAD_BYTES_MAX), 414, id="long-target"),
        # What frames a body is no body, and has no end of its own.
        pytest.param(
            head("POST", "/flows", CHUNKED) + b"2;a=" + b"b" * 2 * limits.HEAD_BYTES_MAX,
            400,
            id="endless-chunk-extension",
        ),
        pytest.param(
            head("POST", "/flows", CHUNKED) + b"0\r\na: " + b"b" * 2 * limits.HEAD_BYTES_MAX,
            400,
            id="endless-trailer",
        ),
    ],
)
def test_what_is_refused(service: Service, sent: bytes, status: int) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(sent)
            found, headers, body = await peer.answer()
            assert (found, headers["connection"]) == (status, "close")
            assert headers["content-type"] == "application/problem+json"
            problem = json.loads(body)
            assert (problem["status"], problem["request_id"]) == (status, headers["x-request-id"])
            if status in SLUGS:
                assert problem["type"] == f"/docs/problems#{SLUGS[status]}"
            assert problem["title"] and problem["detail"]
            # Not a byte of what followed was taken for another request.
            assert await peer.rest() == b""
            peer.close()

    service.run(story())
    assert service.sums(1) == []


@pytest.mark.parametrize(
    ("sent", "statuses", "stays"),
    [
        pytest.param(b"GET /livez HTTP/1.0\r\n\r\n", [200], False, id="http-1.0"),
        pytest.param(
            b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200], True, id="1.0-stays"
        ),
        pytest.param(head("GET", "/livez", "Connection: close") + LIVEZ, [200], False, id="close"),
        pytest.param(b"\r\n\r\n" + LIVEZ, [200], True, id="empty-lines-before"),
        pytest.param(head("GET", "http://x/livez"), [200], True, id="absolute"),
        pytest.param(head("GET", "http://x/v1/flows?hour=1"), [200], True, id="absolute-query"),
        pytest.param(head("GET", "http://x"), [200], True, id="absolute-without-path"),
        pytest.param(head("GET", "http://x?a=/nothing"), [200], True, id="absolute-query-alone"),
        pytest.param(head("OPTIONS", "*"), [404], True, id="asterisk"),
        pytest.param(head("CONNECT", "x:1") + b"\x16\x03\x01", [404], False, id="connect"),
        pytest.param(
            head("POST", "/v1/%66lows", LENGTH) + BODY + LIVEZ, [200, 200], True, id="escapes"
        ),
        pytest.param(
            head("POST", "/flows", LENGTH, "Connection: Upgrade", "Upgrade: h2c") + BODY + LIVEZ,
            [200, 200],
            True,
            id="upgrade-with-a-body",
        ),
        pytest.param(
            head("POST", "/flows", CHUNKED, "Connection: Upgrade", "Upgrade: h2c") + CHUNKS + LIVEZ,
            [200, 200],
            True,
            id="upgrade-with-chunks",
        ),
        pytest.param(
            head("GET", "/livez", "Connection: Upgrade", "Upgrade: websocket") + LIVEZ,
            [200, 200],
            True,
            id="upgrade",
        ),
        pytest.param(
            head("POST", "/flows", CHUNKED)
            + b"%x;a=b\r\n%b\r\n0\r\nHost: y\r\nIdempotency-Key: a b\r\n\r\n" % (len(BODY), BODY)
            + LIVEZ,
            [200, 200],
            True,
            id="extension-and-trailer",
        ),
        pytest.param(post(BODY) + b"?\r\n\r\n", [200, 400], False, id="fault-after-a-post"),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_is_understood(
    service: Service, sent: bytes, statuses: list[int], stays: bool, step: int
) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            # What follows the last request may be answered by a reset, and is sent with it.
            pieces = [sent[at : at + step] for at in range(0, len(sent), step)] if stays else [sent]
            for piece in pieces:
                await peer.send(piece)
            assert [(await peer.answer())[0] for _ in statuses] == statuses
            if stays:
                await peer.send(LIVEZ)
                assert (await peer.answer())[0] == 200
            else:
                assert await peer.is_closed()
            peer.close()

    service.run(story())


def test_a_body_that_nobody_asked_for_is_no_request(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            for upgrade in ((), ("Connection: Upgrade", "Upgrade: h2c")):
                peer = server.peer()
                hidden = post(BODY)
                length = f"Content-Length: {len(hidden)}"
                await peer.send(head("GET", "/livez", length, *upgrade) + hidden + LIVEZ)
                for _ in range(2):
                    assert b"alive" in (await peer.answer())[2]

    service.run(story())
    assert service.sums(1) == []


def test_a_head_has_the_headers_and_no_body(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("GET", "/version") + head("HEAD", "/version") + LIVEZ)
            _, whole, body = await peer.answer()
            status, headers, _ = await peer.answer(has_body=False)
            assert (status, headers["content-length"]) == (200, str(len(body)))
            assert {*whole} == {*headers} and "date" in headers
            assert (await peer.answer())[0] == 200

    service.run(story())


def test_pipelined_requests_are_answered_in_order_and_held_meanwhile(service: Service) -> None:
    """More than are parsed ahead, and than the kernel's buffers hold of answers nobody reads."""
    count = 5_000

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            requests = [head("GET", "/livez", f"X-Request-ID: {number}") for number in range(count)]
            sending = asyncio.create_task(peer.send(b"".join(requests)))
            for number in range(count):
                status, headers, _ = await peer.answer()
                assert (status, headers["x-request-id"]) == (200, str(number))
            await sending

    service.run(story())


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"", []),
        (b"GET /livez HTTP/1.1\r\nHost:", [b"408"]),
        (LIVEZ + b"GET /livez HTTP/1.1\r\n", [b"200", b"408"]),
        # RFC 9112, section 2.2: an empty line too many is not yet a request.
        (b"\r\n", []),
    ],
)
def test_a_slow_head(
    service: Service, monkeypatch: pytest.MonkeyPatch, sent: bytes, statuses: list[bytes]
) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.2)
    monkeypatch.setattr(limits, "IDLE_S", 0.2)
    monkeypatch.setattr(limits, "DISCARD_S", 0.1)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(sent)
            assert re.findall(rb"HTTP/1.1 (\d+)", await peer.rest()) == statuses

    service.run(story())


@pytest.mark.parametrize(
    ("sent", "slug", "detail"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http-version", "HTTP/2 is not spoken here"),
        (b"GET / HTTP/3.0\r\n\r\n", "http-version", "use HTTP/1.1"),
        (b"\x16\x03\x01", "malformed", "Invalid method"),
        (head("GET", "/", "A b: c"), "malformed", "Invalid header token"),
        (head("GET", "/", "Host: y"), "malformed", "one Host"),
        (head("POST", "/", "Transfer-Encoding: xchunked"), "malformed", "Transfer-Encoding"),
        (head("GET", "/" + "a" * 70_000), "target-too-long", "65536 bytes"),
        (head("GET", "/", "A: " + "b" * 70_000), "head-too-large", "65536 bytes"),
        (head("GET", "/", *["A: b"] * 101), "head-too-large", "100 lines"),
        (b"GET / HTTP/1.1\r\nHost:", "slow-head", "within 0.2 s"),
    ],
)
def test_what_is_no_request_is_told_why(
    service: Service, monkeypatch: pytest.MonkeyPatch, sent: bytes, slug: str, detail: str
) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.2)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(sent)
            status, headers, body = await peer.answer()
            assert_problem(Reply(status, tuple(headers.items()), body), status, slug, detail)
            peer.close()

    service.run(story())


def test_a_fault_of_ours_is_none_of_the_client(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the parser's own methods: with a head, with a body, and with the rest of a body."""
    on_body = RequestParser.on_body

    def fail(*_: object) -> None:
        raise ValueError("the cause")

    def fail_later(parser: RequestParser, piece: bytes) -> None:
        if parser.exchange is not None and parser.exchange.bytes_in:
            fail()
        on_body(parser, piece)

    async def answer_while(name: str, broken: object, *pieces: bytes) -> None:
        caplog.clear()
        monkeypatch.setattr(RequestParser, name, broken)
        admission = service.services.admission
        async with listening(service) as server:
            peer = server.peer()
            for piece in pieces[:-1]:
                await peer.send(piece)
                await eventually(lambda: admission.in_flight_bytes > 0)
            await peer.send(pieces[-1])
            status, headers, body = await peer.answer()
            peer.close()
        monkeypatch.undo()
        assert_problem(Reply(status, tuple(headers.items()), body), 500, "fault")
        assert b"the cause" not in body
        [logged] = [one.exc_info for one in caplog.records if one.exc_info]
        assert "ValueError: the cause" in logging.Formatter().formatException(logged)

    service.run(answer_while("on_url", fail, LIVEZ))
    service.run(answer_while("on_body", fail, post(BODY)))
    service.run(answer_while("on_body", fail_later, post(BODY)[:-10], BODY[-10:]))
    assert service.counted() == (0, 0, 0)
    assert service.metric("flowtally_batches_total", outcome="failed") == 1
    assert service.metric("flowtally_batches_total", outcome="cut_off") == 0


def test_a_head_that_drips_is_not_waited_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.3)
    monkeypatch.setattr(limits, "DISCARD_S", 0.1)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            answer = asyncio.create_task(peer.answer())
            await peer.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
            while not answer.done():
                await peer.send(b"A: b\r\n")
                await asyncio.wait((answer,), timeout=0.02)
            assert (await answer)[0] == 408

    service.run(story())


def test_an_idle_connection_is_closed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_S", 0.2)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(LIVEZ)
            assert (await peer.answer())[0] == 200
            assert await peer.is_closed()

    service.run(story())


def test_no_more_connections_than_the_limit(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are at work are never closed for others."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 2)

    async def story() -> None:
        async with listening(service) as server:
            peers = [server.peer(), server.peer()]
            for number, peer in enumerate(peers, 1):
                await peer.send(post(BODY)[:-10])
                in_flight_bytes = number * (len(BODY) - 10)
                await eventually(
                    lambda: service.services.admission.in_flight_bytes == in_flight_bytes  # noqa: B023
                )
            third = server.peer()
            await third.send(LIVEZ)
            waiting = asyncio.create_task(third.answer())
            # Longer than it takes until the door looks again.
            assert await asyncio.wait((waiting,), timeout=0.3) == (set(), {waiting})
            for peer in peers:
                await peer.send(BODY[-10:])
                assert (await peer.answer())[0] == 200
            assert (await waiting)[0] == 200

    service.run(story())
    assert service.counted() == (2, 0, 0)


def test_who_is_silent_keeps_nobody_out(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As many silent clients as there are places: the next one is answered at once all the same."""
    # Both ends are in this process, which may have no descriptors for all that a service takes.
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 200)

    async def story() -> None:
        async with listening(service) as server:
            silent = [Peer(server.port) for _ in range(limits.CONNECTIONS_MAX)]
            server.peers += silent
            for _ in range(3):
                peer = server.peer()
                await peer.send(post(BODY))
                assert (await asyncio.wait_for(peer.answer(), limits.HEAD_S / 3))[0] == 200
            closed = [await one.is_closed() for one in silent[:3]]
            assert closed == [True] * 3, "the oldest go first"
            await silent[-1].send(LIVEZ)
            assert (await silent[-1].answer())[0] == 200

    service.run(story())
    assert service.counted() == (3, 0, 0)
    told = [one for one in caplog.records if one.message.startswith("connections were closed")]
    assert len(told) == 1


def test_who_is_silent_keeps_no_descriptor(service: Service) -> None:
    """The process may have fewer descriptors than there are places."""

    async def story() -> None:
        async with listening(service) as server:
            silent = server.peer()
            other = server.peer()
            await other.send(post(BODY)[:-10])
            await eventually(lambda: service.services.admission.in_flight_bytes > 0)
            with socket.socket() as late:
                late.settimeout(ANSWER_S_MAX)
                free = os.dup(late.fileno())
                os.close(free)
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
                try:
                    await asyncio.to_thread(late.connect, ("127.0.0.1", server.port))
                    await asyncio.to_thread(late.sendall, LIVEZ)
                    assert (await asyncio.to_thread(late.recv, 12)) == b"HTTP/1.1 200"
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await silent.is_closed()
            await other.send(BODY[-10:])
            assert (await other.answer())[0] == 200

    service.run(story())


def test_who_makes_room_first(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent one before one between two requests, that before one in the middle of a head; and
    never one that is at work."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 4)
    monkeypatch.setattr(limits, "UNDISTURBED_S", 0.05)

    async def story() -> None:
        async with listening(service) as server:
            in_head, idle, silent, busy = (server.peer() for _ in range(4))
            await in_head.send(LIVEZ + LIVEZ[:-10])
            await idle.send(LIVEZ)
            assert ((await in_head.answer())[0], (await idle.answer())[0]) == (200, 200)
            await busy.send(post(BODY)[:-10])
            await eventually(lambda: service.services.admission.in_flight_bytes > 0)
            for leaving in (silent, idle, in_head):
                peer = server.peer()
                await peer.send(post(BODY)[:-10])
                assert await leaving.is_closed()
            await busy.send(BODY[-10:])
            assert (await busy.answer())[0] == 200
            for peer in server.peers:
                peer.close()

    service.run(story())
    assert service.counted() == (1, 0, 0)


def test_who_is_busy_keeps_nobody_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many busy clients as there are places: the next one has its turn, and those that make room
    are told so with an answer; no request is without one."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)
    answered = 0

    async def story() -> None:
        async with listening(service) as server:
            over = False

            async def keep_posting() -> None:
                nonlocal answered
                peer = server.peer()
                while not over:
                    await peer.send(post(BODY))
                    status, headers, _ = await peer.answer()
                    assert status == 200
                    answered += 1
                    if headers.get("connection") == "close":
                        assert await peer.is_closed()
                        peer = server.peer()

            busy = [asyncio.create_task(keep_posting()) for _ in range(3)]
            await eventually(lambda: answered > 10)
            for _ in range(3):
                late = server.peer()
                await late.send(LIVEZ)
                assert (await asyncio.wait_for(late.answer(), ANSWER_S_MAX))[0] == 200
                late.close()
            over = True
            await asyncio.gather(*busy)

    service.run(story())
    assert service.counted()[0] == answered


LARGE = b"0123456789abcdef" * (1 << 19)


async def answer_large(exchange: Exchange) -> None:
    await exchange.answer(200, (), LARGE)


def test_a_large_answer_waits_for_its_reader(service: Service) -> None:
    async def story() -> None:
        async with listening(service, answer_large) as server:
            peer = server.peer()
            await peer.send(LIVEZ + LIVEZ)
            for _ in range(2):
                assert (await peer.answer())[2] == LARGE

    service.run(story())


def test_who_does_not_read_is_not_waited_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEND_S", 0.2)
    ended: list[bool] = []

    async def app(exchange: Exchange) -> None:
        await answer_large(exchange)
        ended.append(True)

    async def story() -> None:
        async with listening(service, app) as server:
            peer = server.peer()
            await peer.send(LIVEZ)
            await eventually(lambda: bool(ended))
            with pytest.raises(OSError):
                assert len(await peer.rest()) < len(LARGE)
                raise ConnectionResetError

    service.run(story())


def test_a_client_that_goes_away_while_it_is_answered(service: Service) -> None:
    ended: list[bool] = []

    async def app(exchange: Exchange) -> None:
        await answer_large(exchange)
        ended.append(True)

    async def story() -> None:
        async with listening(service, app) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as peer:
                peer.sendall(LIVEZ)
                await asyncio.to_thread(peer.recv, 1)
            await eventually(lambda: bool(ended))

    service.run(story())


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_answer_in_pieces(service: Service, version: str) -> None:
    """Of an ASGI application that does not know its length: chunked, or until the end."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == BODY
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def app(exchange: Exchange) -> None:
        await answer_with(asgi, exchange)

    async def story() -> None:
        async with listening(service, app) as server:
            peer = server.peer()
            await peer.send(post(BODY).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            if version == "1.1":
                assert (await peer.answer())[1]["transfer-encoding"] == "chunked"
                await peer.end()
                assert await peer.rest() == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
            else:
                assert (await peer.answer())[1]["connection"] == "close"
                assert await peer.rest() == b"onetwo"

    service.run(story())


@pytest.mark.parametrize("fails", [True, False])
def test_an_answer_that_ends_early_is_the_last(service: Service, fails: bool) -> None:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        if fails:
            raise ValueError("in the middle of an answer")

    service.app._behind = asgi  # type: ignore[assignment]

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(LIVEZ + post(BODY))
            assert (await peer.answer())[0] == 200
            assert await peer.rest() == b"3\r\none\r\n"

    service.run(story())
    assert service.metric("flowtally_batches_total", outcome="accepted") == 0


def test_a_client_that_says_no_more_comes_is_answered(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = Peer(server.port)
            await peer.send(post(BODY) + head("GET", "/v1/flows?hour=1"))
            await peer.end()
            assert (await peer.answer())[0] == 200
            assert json.loads((await peer.answer())[2])[0]["bytes_tx"] == 100
            assert await peer.is_closed()
            peer.close()

    service.run(story())


def test_who_pipelines_does_not_keep_the_others_waiting(service: Service) -> None:
    answered: list[bytes] = []
    at_next_turn: list[int] = []

    async def app(exchange: Exchange) -> None:
        if not answered:
            asyncio.get_running_loop().call_soon(lambda: at_next_turn.append(len(answered)))
        answered.append(exchange.target)
        await exchange.answer(200, (), b"")

    async def story() -> None:
        async with listening(service, app) as server:
            peer = server.peer()
            await peer.send(LIVEZ * 50)
            for _ in range(50):
                await peer.answer()

    service.run(story())
    assert at_next_turn == [1]
