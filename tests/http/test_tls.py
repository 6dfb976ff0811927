"""TLS with real handshakes: who is trusted, what is refused, and what never ends."""

from __future__ import annotations

import asyncio
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from flowtally import limits
from flowtally.access.tls import read_certificate
from flowtally.client.client import FlowClient, Unreachable
from tests.certificates import Authority, Issued
from tests.http.service import Service
from tests.http.sockets import BODY, Peer, eventually, head, listening, post


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("service")


@pytest.fixture
def tls(issued: Issued) -> Callable[[], ssl.SSLContext]:
    context = read_certificate(issued.certificate, issued.key).context
    return lambda: context


@pytest.fixture(params=["asyncio", "uvloop"])
def service(request: pytest.FixtureRequest, make_service: Callable[..., Service]) -> Service:
    """One on each kind of event loop: they have a TLS of their own each."""
    return make_service(make_loop=uvloop.new_event_loop if request.param == "uvloop" else None)


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.certificate)


@contextmanager
def client(
    port: int, ca: Path | None, host: str = "localhost", scheme: str = "https"
) -> Iterator[FlowClient]:
    with FlowClient(f"{scheme}://{host}:{port}", ca=ca) as made:
        yield made


def test_batches_and_reads_over_tls(
    service: Service, authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    def ask(port: int) -> None:
        with client(port, authority.certificate) as asking:
            assert asking.post(BODY, "k").records == 1
            assert len(asking.sums(1)) == 1

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            await asyncio.to_thread(ask, server.port)
            peer = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
            await peer.send(post(BODY) + head("GET", "/livez"))
            for _ in range(2):
                status, headers, _ = await peer.answer()
                assert status == 200
                assert headers["strict-transport-security"] == "max-age=31536000"
            peer.close()

    service.run(story())


def test_a_large_answer_and_a_client_that_hangs_up(
    service: Service, authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async def story() -> None:
        async with listening(service, tls=tls) as server:
            for _ in range(3):
                peer = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
                await peer.send(head("POST", "/v1/flows", "Content-Length: 100") + b"[")
                peer.close()
            peer = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
            await peer.send(head("GET", "/openapi.json", "Connection: close"))
            status, _, body = await peer.answer()
            assert status == 200 and len(body) > 10_000
            assert await peer.is_closed()
            peer.close()

    service.run(story())


def test_a_client_refuses_a_certificate_of_another_authority_or_name_at_once(
    service: Service,
    folder: Path,
    authority: Authority,
    issued: Issued,
    tls: Callable[[], ssl.SSLContext],
) -> None:
    other = Authority(folder, "other")
    elsewhere = authority.issue("elsewhere", "DNS:elsewhere.test")
    named = read_certificate(elsewhere.certificate, elsewhere.key).context

    def refused(port: int, ca: Path | None) -> str:
        began_s = time.monotonic()
        with client(port, ca) as asking, pytest.raises(Unreachable) as caught:
            asking.post(BODY, "k")
        assert asking.retries == 0 and time.monotonic() - began_s < 30
        return str(caught.value)

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            for ca in (other.certificate, None):
                why = await asyncio.to_thread(refused, server.port, ca)
                assert f"the certificate of https://localhost:{server.port} is not trusted" in why
            await eventually(
                lambda: service.metric("flowtally_denied_total", reason="handshake") == 2
            )
        async with listening(service, tls=lambda: named) as server:
            why = await asyncio.to_thread(refused, server.port, authority.certificate)
            assert "Hostname mismatch" in why

    service.run(story())
    assert service.counted() == (0, 0, 0)


def test_http_without_tls_is_not_understood(
    service: Service, tls: Callable[[], ssl.SSLContext]
) -> None:
    async def story() -> None:
        async with listening(service, tls=tls) as server:
            peer = server.peer()
            await peer.send(post(BODY))
            try:
                answer = await peer.rest()
            except ConnectionError:
                answer = b""
            assert b"HTTP" not in answer
            await eventually(
                lambda: service.metric("flowtally_denied_total", reason="handshake") == 1
            )

    service.run(story())
    assert service.counted() == (0, 0, 0)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(
    service: Service,
    authority: Authority,
    tls: Callable[[], ssl.SSLContext],
    version: ssl.TLSVersion,
) -> None:
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            peer = await asyncio.to_thread(Peer, server.port, 60, context)
            await peer.send(head("GET", "/livez"))
            assert (await peer.answer())[0] == 200
            peer.close()

    service.run(story())


def test_older_versions_are_refused(
    service: Service, authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert tls().minimum_version == ssl.TLSVersion.TLSv1_2

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            with pytest.raises(OSError):
                await asyncio.to_thread(Peer, server.port, 60, context)

    service.run(story())


def test_who_never_ends_the_handshake_is_put_out_and_keeps_nobody_out_for_long(
    service: Service,
    authority: Authority,
    tls: Callable[[], ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.5)
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            silent = [server.peer() for _ in range(2)]
            slow = server.peer()
            # The begin of a real one, and not the rest of it.
            await slow.send(b"\x16\x03\x01\x02\x00\x01\x00")
            peer = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
            await peer.send(head("GET", "/livez"))
            assert (await peer.answer())[0] == 200
            peer.close()
            for other in (*silent, slow):
                assert await other.is_closed()
            await eventually(
                lambda: service.metric("flowtally_denied_total", reason="handshake") == 3
            )

    service.run(story())


def test_who_is_silent_in_a_handshake_keeps_nobody_out(
    service: Service,
    authority: Authority,
    tls: Callable[[], ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Places that handshakes have taken are there for others long before those would be given up;
    who is at work keeps his."""
    monkeypatch.setattr(limits, "HANDSHAKE_S", 1_000.0)
    monkeypatch.setattr(limits, "UNDISTURBED_S", 0.2)
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 20)

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            busy = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
            await busy.send(post(BODY)[:-10])
            await eventually(lambda: service.services.admission.in_flight_bytes > 0)
            silent = [server.peer() for _ in range(limits.CONNECTIONS_MAX)]
            await silent[0].send(b"\x16\x03\x01\x02\x00\x01\x00")
            for _ in range(3):
                peer = await asyncio.to_thread(Peer, server.port, 30, trusting(authority))
                await peer.send(head("GET", "/livez"))
                assert (await peer.answer())[0] == 200
                peer.close()
            assert await silent[0].is_closed(), "the oldest go first"
            assert service.metric("flowtally_denied_total", reason="handshake") > 0
            await busy.send(BODY[-10:])
            assert (await busy.answer())[0] == 200
            busy.close()

    service.run(asyncio.wait_for(story(), 120))
    assert service.counted() == (1, 0, 0)


@pytest.mark.parametrize("asked", [b"", head("GET", "/livez", "Connection: close")])
def test_who_says_no_goodbye_keeps_nobody_out(
    service: Service,
    authority: Authority,
    tls: Callable[[], ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    asked: bytes,
) -> None:
    """Silent ones that had their handshake, and those whose connection is being closed: TLS would
    have the service wait until they agree to that."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 20)

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            for _ in range(limits.CONNECTIONS_MAX):
                silent = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
                server.peers.append(silent)
                if asked:
                    await silent.send(asked)
                    assert (await silent.answer())[0] == 200
            for _ in range(3):
                peer = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
                server.peers.append(peer)
                await peer.send(head("GET", "/livez"))
                answer = peer.answer()
                assert (await asyncio.wait_for(answer, limits.SEND_S / 3))[0] == 200
            for peer in server.peers:
                peer.close()

    service.run(asyncio.wait_for(story(), 120))


def test_a_stop_does_not_wait_until_a_handshake_is_given_up(
    service: Service,
    authority: Authority,
    tls: Callable[[], ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who wait for nothing but a request are let go, whoever else is in a handshake."""
    monkeypatch.setattr(limits, "HANDSHAKE_S", 1_000.0)
    monkeypatch.setattr(limits, "DRAIN_S", 1_000.0)
    monkeypatch.setattr(limits, "UNDISTURBED_S", 0.2)

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            idle = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
            await idle.send(head("GET", "/livez"))
            assert (await idle.answer())[0] == 200
            silent = server.peer()
            await silent.send(b"\x16\x03\x01")
            server.stop.set()
            assert await idle.is_closed() and await silent.is_closed()
            idle.close()

    service.run(asyncio.wait_for(story(), 30))


def test_a_stop_waits_for_no_handshake_for_ever(
    service: Service, tls: Callable[[], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DRAIN_S", 0.5)

    async def story() -> None:
        async with listening(service, tls=tls) as server:
            peers = [server.peer() for _ in range(3)]
            await peers[0].send(b"\x16\x03\x01")
            server.stop.set()
            for peer in peers:
                assert await peer.is_closed()

    service.run(asyncio.wait_for(story(), 30))


def test_a_new_certificate_is_shown_from_the_next_connection_on(
    service: Service, folder: Path, authority: Authority, issued: Issued
) -> None:
    contexts = [read_certificate(issued.certificate, issued.key).context]

    async def story() -> None:
        async with listening(service, tls=lambda: contexts[-1]) as server:

            async def subject() -> tuple[Peer, str]:
                peer = await asyncio.to_thread(Peer, server.port, 60, trusting(authority))
                assert isinstance(peer._socket, ssl.SSLSocket)
                found = peer._socket.getpeercert()
                assert found is not None
                return peer, str(found["subject"])

            before, name = await subject()
            assert "service" in name
            renewed = authority.issue("renewed")
            contexts.append(read_certificate(renewed.certificate, renewed.key).context)
            after, name = await subject()
            assert "renewed" in name
            # Whoever was connected stays so.
            for peer in (before, after):
                await peer.send(head("GET", "/livez"))
                assert (await peer.answer())[0] == 200
                peer.close()

    service.run(story())
