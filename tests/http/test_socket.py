"""What only a real socket shows: the connection itself, and clients that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flowtally import limits
from flowtally.api.exchange import Exchange
from flowtally.api.server import serve
from flowtally.errors import SettingsError
from flowtally.limits import BodyLimits
from tests.http.service import Service
from tests.http.sockets import BODY, Peer, eventually, head, listening, post


def test_post_and_read_on_one_connection(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            # Pipelined, and chunked: the end of one body is the beginning of the next request.
            chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
            await peer.send(
                post(BODY)
                + head("POST", "/flows", "Transfer-Encoding: chunked")
                + chunked
                + post(b"{}")
                + head("GET", "/v1/flows?hour=1")
            )
            assert [(await peer.answer())[0] for _ in range(3)] == [200, 200, 400]
            status, headers, body = await peer.answer()
            assert (status, headers["flowtally-records"]) == (200, "1")
            assert b'"bytes_tx":200' in body
            peer.close()

    service.run(story())


def test_a_refused_sender_gets_to_see_the_answer(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            body = b" " * (20 << 20)
            for announced in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
                peer = server.peer()
                chunked = "chunked" in announced
                await peer.send(head("POST", "/v1/flows", announced))
                await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
                status, headers, answer = await peer.answer()
                assert (status, headers["connection"]) == (413, "close")
                assert b"/docs/problems#too-large" in answer
                assert await peer.is_closed()
                peer.close()

    service.run(story())


def test_a_large_body_without_room_is_refused_before_it_is_sent_and_is_not_fetched(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender has the answer while it still sends; what it sends all the same waits with it for
    as long as it was told to wait, and is read away then."""
    monkeypatch.setattr(limits, "DISCARD_AFTER_S", 2.0)
    service = make_service(in_flight_bytes_max=8 << 20)

    async def story() -> None:
        async with listening(service) as server:
            body = b" " * (16 << 20)
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", f"Content-Length: {len(body)}"))
            status, headers, answer = await peer.answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert b"no more than 8388608" in answer
            began_s = asyncio.get_running_loop().time()
            await peer.send(body)
            assert asyncio.get_running_loop().time() - began_s > 1.0
            assert await peer.is_closed()

    service.run(story())
    assert service.services.admission.in_flight_bytes == 0
    assert service.counted() == (0, 0, 0)


def test_who_waits_for_a_100_is_refused_at_once(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            expect = ("Content-Length: 20000000", "Expect: 100-continue")
            await peer.send(head("POST", "/v1/flows", *expect))
            assert (await peer.answer())[0] == 413
            assert await peer.is_closed()
            peer.close()
            peer = server.peer()
            length = f"Content-Length: {len(BODY)}"
            await peer.send(head("POST", "/v1/flows", length, "Expect: 100-continue"))
            assert (await peer.answer())[0] == 100
            await peer.send(BODY)
            assert (await peer.answer())[0] == 200
            peer.close()

    service.run(story())


def test_http_1_0_knows_no_100(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            lines = (f"Content-Length: {len(BODY)}", "Expect: 100-continue")
            await peer.send(head("POST", "/v1/flows", *lines).replace(b"HTTP/1.1", b"HTTP/1.0"))
            # A round trip of another: by then a 100 would have been sent.
            other = server.peer()
            await other.send(head("GET", "/livez"))
            await other.answer()
            await peer.send(BODY)
            assert (await peer.answer())[0] == 200

    service.run(story())


def test_who_was_told_to_send_gets_to_see_the_answer(make_service: Callable[..., Service]) -> None:
    service = make_service(deadline_s=0.2)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            body = b" " * (8 << 20)
            lines = (f"Content-Length: {len(body)}", "Expect: 100-continue")
            await peer.send(head("POST", "/v1/flows", *lines))
            assert (await peer.answer())[0] == 100
            assert (await peer.answer())[0] == 408
            # More than the kernel's buffers hold: where nobody read it, the connection were reset.
            await peer.send(body)
            await peer.end()
            assert await peer.is_closed()

    service.run(story())


def test_a_slow_body_is_answered_408(make_service: Callable[..., Service]) -> None:
    service = make_service(deadline_s=0.3)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", "Content-Length: 1000") + b"[")
            status, headers, _ = await peer.answer()
            assert (status, headers["connection"]) == (408, "close")
            peer.close()

    service.run(story())
    assert service.services.admission.in_flight_bytes == 0


def test_a_chunked_body_without_end(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DISCARD_S", 0.3)
    service = make_service(bounds=BodyLimits(body_bytes_max=100_000))

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", "Transfer-Encoding: chunked"))
            chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
            for _ in range(20):
                await peer.send(chunk)
            assert (await peer.answer())[0] == 413
            with pytest.raises(OSError):
                for _ in range(2 * limits.DISCARD_BYTES_MAX // len(chunk)):
                    await peer.send(chunk)
            peer.close()

    service.run(story())


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        pytest.param(["Content-Length: 1000"], BODY, 400, id="less-than-announced"),
        pytest.param(["Content-Length: -1"], BODY, 400, id="negative"),
        pytest.param(["Content-Length: 1", "Content-Length: 2"], BODY, 400, id="two"),
        pytest.param(["Content-Length: " + "9" * 100], BODY, 400, id="endless"),
        pytest.param([f"Content-Length: {len(BODY) - 1}"], BODY, 400, id="more-than-announced"),
        pytest.param(["Transfer-Encoding: chunked"], b"zz\r\n", 400, id="no-chunk"),
        pytest.param(["Transfer-Encoding: chunked"], b"5\r\n[", 400, id="chunk-cut-off"),
        pytest.param(["Transfer-Encoding: nonsense"], BODY, 400, id="unknown-transfer-coding"),
        pytest.param([], b"", 400, id="no-body"),
    ],
)
def test_a_lying_length(service: Service, lines: list[str], body: bytes, status: int) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", *lines) + body)
            if body:
                await peer.end()
            assert (await peer.answer())[0] == status
            peer.close()

    service.run(story())
    assert service.sums(1) == []


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", (414,), id="long-url"),
        pytest.param(head("GET", "/livez", "X: " + "a" * 600_000), (431,), id="long-header"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\r\n\r\n", (400,), id="tls"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", (505,), id="version"),
        pytest.param(b"GET /livez HTTP/1.1\r\nA b: c\r\n\r\n", (400,), id="bad-header"),
    ],
)
def test_a_malformed_request(
    service: Service, request_bytes: bytes, statuses: tuple[int, ...]
) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(request_bytes)
            assert (await peer.answer())[0] in statuses
            assert await peer.is_closed()
            peer.close()

    service.run(story())


def test_a_sender_that_goes_away_counts_nothing(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", "Content-Length: 1000") + BODY)
            await eventually(lambda: service.services.admission.in_flight_bytes == len(BODY))
            peer.close()
            await eventually(lambda: service.services.admission.in_flight_bytes == 0)

    service.run(story())
    assert service.counted() == (0, 0, 0)


def test_what_is_in_flight_is_answered_before_the_end(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            idle = server.peer()
            await idle.send(head("GET", "/livez"))
            assert (await idle.answer())[0] == 200
            peer = server.peer()
            await peer.send(post(BODY)[:-10])
            await eventually(lambda: service.services.admission.in_flight_bytes > 0)
            server.stop.set()
            assert await idle.is_closed()
            with pytest.raises(OSError):
                await eventually(lambda: bool(Peer(server.port).close()))  # type: ignore[func-returns-value]
            await peer.send(BODY[-10:])
            status, headers, _ = await peer.answer()
            assert (status, headers["connection"]) == (200, "close")
            peer.close()
            idle.close()

    service.run(story())
    assert len(service.sums(1)) == 1


def test_a_stop_does_not_wait_for_ever(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_S", 0.2)

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(post(BODY)[:-10])
            await eventually(lambda: service.services.admission.in_flight_bytes > 0)
        peer.close()
        await eventually(lambda: service.services.admission.in_flight_bytes == 0)

    service.run(story())


def test_a_body_that_is_not_read_is_not_fetched(service: Service) -> None:
    """A body waits with its sender, not in the server's memory, until the application reads it."""

    async def story() -> None:
        reading = asyncio.Event()
        reached = asyncio.Event()
        dispatch = service.app

        async def reads_late(exchange: Exchange) -> None:
            reached.set()
            await reading.wait()
            await dispatch(exchange)

        service.app = reads_late  # type: ignore[assignment]
        async with listening(service) as server:
            peer = Peer(server.port, timeout_s=0.5)
            server.peers.append(peer)
            await peer.send(head("POST", "/v1/flows", f"Content-Length: {64 << 20}"))
            await reached.wait()
            sent_mib = 0
            with pytest.raises(TimeoutError):
                while True:
                    await peer.send(b" " * (1 << 20))
                    sent_mib += 1
            assert sent_mib < 32, "more than the kernel's own buffers"
            reading.set()
        service.app = dispatch

    service.run(story())


def test_a_port_that_is_taken_is_named(service: Service) -> None:
    async def story() -> None:
        async with listening(service) as server:
            with pytest.raises(
                SettingsError, match=rf"127\.0\.0\.1:{server.port}: Address already"
            ):
                await serve(
                    service.app,
                    "127.0.0.1",
                    server.port,
                    stop=asyncio.Event(),
                    on_listening=lambda host, port: None,
                )
        with pytest.raises(SettingsError, match="cannot listen on no-such-host"):
            await serve(
                service.app,
                "no-such-host.invalid",
                0,
                stop=asyncio.Event(),
                on_listening=lambda host, port: None,
            )

    service.run(story())
