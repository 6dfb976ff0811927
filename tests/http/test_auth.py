"""Who is let in: each path with each kind of token, before any of the body is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flowtally import limits
from flowtally.access.tokens import TokenEntry, TokenSet, digest_of, new_token
from flowtally.api.auth import Gate
from flowtally.api.rate_limit import RateLimit
from tests.http.service import Reply, Service, assert_problem, encoded, record
from tests.http.sockets import BODY, Listening, head, listening

KINDS = ("read", "write", "admin", "all", "revoked")
TOKENS = {kind: new_token() for kind in KINDS}
UNKNOWN = new_token()
MAY = {"all": ["read", "write", "admin"], "revoked": ["read", "write", "admin"]}
SET = TokenSet(
    TokenEntry(
        kind,
        frozenset(MAY.get(kind, [kind])),
        digest_of(token),
        "2026",
        "2027" if kind == "revoked" else None,
    )
    for kind, token in TOKENS.items()
)
ASKED = {
    ("POST", "/v1/flows"): ("write", 200),
    ("POST", "/flows"): ("write", 200),
    ("GET", "/v1/flows?hour=1"): ("read", 200),
    ("HEAD", "/v1/flows?hour=1"): ("read", 200),
    ("GET", "/flows?hour=1"): ("read", 200),
    ("GET", "/v1/hours"): ("read", 200),
    ("GET", "/v1/ledger"): ("read", 200),
    ("GET", "/health"): ("read", 200),
    ("GET", "/metrics"): ("read", 200),
    ("POST", "/v1/aggregate"): ("admin", 200),
    ("POST", "/v1/backup"): ("admin", 200),
    ("GET", "/nothing"): ("read", 404),
    ("GET", "/%76%31/hours"): ("read", 200),
    ("DELETE", "/v1/flows"): ("admin", 405),
}
OPEN = ["/livez", "/readyz", "/version", "/openapi.json", "/docs", "/docs/problems", "/"]


@pytest.fixture
def guarded(make_service: Callable[..., Service]) -> Service:
    service = make_service()
    service.replace(gate=Gate(lambda: SET, None))
    return service


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def asked(service: Service, method: str, target: str, token: str | None) -> Reply:
    body = encoded([record()]) if method == "POST" and "flows" in target else b""
    return service.request(method, target, bearer(token), body)


@pytest.mark.parametrize(("method", "target"), ASKED)
def test_each_path_with_each_kind_of_token(guarded: Service, method: str, target: str) -> None:
    scope, status = ASKED[method, target]
    path = target.partition("?")[0]
    for kind, token in TOKENS.items():
        reply = asked(guarded, method, target, token)
        if kind in (scope, "all"):
            assert reply.status == status, (kind, reply)
        elif kind == "revoked":
            assert reply.status == 401
            challenge = 'Bearer realm="flowtally", error="invalid_token"'
            assert reply.header("www-authenticate") == challenge
        else:
            assert reply.status == 403, (kind, reply)
            assert reply.header("www-authenticate") == (
                f'Bearer realm="flowtally", error="insufficient_scope", scope="{scope}"'
            )
    for strange in (None, UNKNOWN, "junk"):
        reply = asked(guarded, method, target, strange)
        assert reply.status == 401, (strange, reply)
        if method != "HEAD":
            assert_problem(reply, 401, "not-authenticated")
    if method == "POST" and "flows" in path:
        guarded.replace(gate=Gate(None, None))
        # Of those who were turned away nothing was counted, nor noted as refused.
        assert guarded.counted() == (2, 0, 0)


@pytest.mark.parametrize("path", OPEN)
def test_some_paths_are_open_whatever_is_sent(guarded: Service, path: str) -> None:
    for token in (None, UNKNOWN, "junk junk", TOKENS["write"], TOKENS["revoked"]):
        assert guarded.get(path, bearer(token)).status == 200


def test_the_answers_say_what_to_do(guarded: Service) -> None:
    assert_problem(
        guarded.get("/v1/hours"), 401, "not-authenticated", "Authorization: Bearer TOKEN"
    )
    for token, detail in (
        (UNKNOWN, "the token is not known here"),
        (TOKENS["revoked"], "the token was revoked"),
        (UNKNOWN[:-1], "what was sent is no token of flowtally"),
    ):
        assert_problem(guarded.get("/v1/hours", bearer(token)), 401, "not-authenticated", detail)
    reply = guarded.get("/v1/hours", bearer(TOKENS["write"]))
    detail = "the token write may write; this needs one that may read"
    assert_problem(reply, 403, "not-permitted", detail)


def test_who_was_turned_away_is_counted_by_reason(guarded: Service) -> None:
    for token in (None, UNKNOWN, "junk", TOKENS["revoked"], TOKENS["write"], TOKENS["write"]):
        guarded.get("/v1/hours", bearer(token))
    found = {
        reason: guarded.metric("flowtally_denied_total", reason=reason)
        for reason in ("missing", "unknown", "malformed", "revoked", "scope")
    }
    assert found == {"missing": 1, "unknown": 1, "malformed": 1, "revoked": 1, "scope": 2}
    for target in ("/v1/hours", "/nothing/" + "x" * 50):
        guarded.get(target)
    routes = {
        sample.labels["route"]
        for metric in guarded.metrics.registry.collect()
        for sample in metric.samples
        if "route" in sample.labels
    }
    assert routes == {"/v1/hours", "unknown"}


def test_a_change_of_the_tokens_holds_from_the_next_request_on(service: Service) -> None:
    tokens = [SET]
    service.replace(gate=Gate(lambda: tokens[0], None))
    assert service.get("/v1/hours", bearer(TOKENS["read"])).status == 200
    tokens[0] = TokenSet()
    assert service.get("/v1/hours", bearer(TOKENS["read"])).status == 401


def test_without_tokens_everybody_may_do_everything(service: Service) -> None:
    for (method, target), (_, status) in ASKED.items():
        for token in (None, UNKNOWN, "junk"):
            assert asked(service, method, target, token).status == status


async def _turned_away(server: Listening, token: str | None, *lines: str) -> None:
    """Sends the head alone, and nothing of the body until the answer is there."""
    peer = server.peer()
    authorization = [] if token is None else [f"Authorization: Bearer {token}"]
    await peer.send(head("POST", "/v1/flows", "Content-Length: 9000000", *authorization, *lines))
    status, headers, _ = await peer.answer()
    assert status == (403 if token == TOKENS["read"] else 401)
    assert headers["connection"] == "close"
    assert await peer.is_closed()


@pytest.fixture
def short_discards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here waits for what is never sent."""
    monkeypatch.setattr(limits, "DISCARD_S", 0.2)


@pytest.mark.usefixtures("short_discards")
@pytest.mark.parametrize("lines", [[], ["Expect: 100-continue"]])
@pytest.mark.parametrize("kind", [None, "unknown", "revoked", "read"])
def test_the_answer_comes_before_any_of_the_body_is_asked_for(
    guarded: Service, kind: str | None, lines: list[str]
) -> None:
    async def story() -> None:
        async with listening(guarded) as server:
            token = TOKENS.get(kind, UNKNOWN) if kind else None
            # With Expect the first answer is this one, and no 100 Continue.
            await asyncio.wait_for(_turned_away(server, token, *lines), 30)

    guarded.run(story())


def test_who_was_turned_away_keeps_nobody_out(
    guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still to come of a body that nobody reads is waited for where there is room alone."""
    monkeypatch.setattr(limits, "DISCARD_S", 1_000.0)
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)

    async def story() -> None:
        async with listening(guarded) as server:
            refused = [server.peer() for _ in range(limits.CONNECTIONS_MAX)]
            for peer in refused:
                await peer.send(head("POST", "/v1/flows", "Content-Length: 9000000"))
                assert (await peer.answer())[0] == 401
            peer = server.peer()
            await peer.send(head("GET", "/livez"))
            assert (await peer.answer())[0] == 200
            for peer in server.peers:
                peer.close()

    guarded.run(asyncio.wait_for(story(), 30))


@pytest.mark.usefixtures("short_discards")
def test_a_chunked_body_without_an_end_is_not_waited_for(guarded: Service) -> None:
    async def story() -> None:
        async with listening(guarded) as server:
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", "Transfer-Encoding: chunked") + b"5\r\n[")
            status, headers, _ = await peer.answer()
            assert (status, headers["connection"]) == (401, "close")

    guarded.run(story())


def test_a_connection_goes_on_where_the_body_had_come(guarded: Service) -> None:
    async def story() -> None:
        async with listening(guarded) as server:
            peer = server.peer()
            for token, expected in ((UNKNOWN, 401), (TOKENS["write"], 200), (UNKNOWN, 401)):
                lines = (f"Content-Length: {len(BODY)}", f"Authorization: Bearer {token}")
                await peer.send(head("POST", "/v1/flows", *lines) + BODY)
                status, headers, _ = await peer.answer()
                assert (status, "connection" in headers) == (expected, False)

    guarded.run(story())


def test_two_authorizations_are_none(guarded: Service) -> None:
    pairs = [("Authorization", f"Bearer {TOKENS[kind]}") for kind in ("read", "write")]
    assert guarded.get("/v1/hours", pairs).status == 401


def test_each_token_has_a_rate_of_its_own(service: Service) -> None:
    service.replace(gate=Gate(lambda: SET, RateLimit(1, 3, service.clock)))
    for kind in ("read", "all"):
        replies = [service.get("/v1/hours", bearer(TOKENS[kind])) for _ in range(5)]
        assert [reply.status for reply in replies] == [200] * 3 + [429] * 2
        assert [reply.header("ratelimit") for reply in replies[:3]] == [
            '"requests";r=2;t=1',
            '"requests";r=1;t=2',
            '"requests";r=0;t=3',
        ]
        assert {reply.header("ratelimit-policy") for reply in replies} == {'"requests";q=3;w=3'}
        assert replies[-1].header("retry-after") == "1"
        assert_problem(replies[-1], 429, "rate-limited", "Retry-After")
    assert service.metric("flowtally_denied_total", reason="rate") == 4
    service.clock.advance_ms(1_000)
    assert service.get("/v1/hours", bearer(TOKENS["read"])).status == 200
    # Probes are no clients.
    assert {service.get("/readyz").status for _ in range(9)} == {200}


def test_who_guesses_tokens_is_slowed_down_and_others_are_not(service: Service) -> None:
    service.replace(gate=Gate(lambda: SET, RateLimit(1, 3, service.clock)))
    statuses = [service.get("/v1/hours", bearer(new_token())).status for _ in range(5)]
    assert statuses == [401] * 3 + [429] * 2
    assert service.get("/v1/hours", bearer(TOKENS["read"])).status == 200


def test_without_tokens_the_address_is_counted(service: Service) -> None:
    service.replace(gate=Gate(None, RateLimit(1, 2, service.clock)))
    statuses = [service.post(encoded([record()])).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    service.clock.advance_ms(60_000)
    assert service.counted() == (2, 0, 0)


def test_too_many_are_told_so_before_the_body(service: Service) -> None:
    service.replace(gate=Gate(None, RateLimit(0.001, 1, service.clock)))

    async def story() -> None:
        async with listening(service) as server:
            peer = server.peer()
            await peer.send(head("POST", "/v1/flows", f"Content-Length: {len(BODY)}") + BODY)
            assert (await peer.answer())[0] == 200
            lines = ("Content-Length: 9000000", "Expect: 100-continue")
            await peer.send(head("POST", "/v1/flows", *lines))
            status, headers, _ = await peer.answer()
            assert (status, headers["connection"]) == (429, "close")
            assert headers["retry-after"] == "1000"

    service.run(story())
