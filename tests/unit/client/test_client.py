"""The client: one key for every attempt, and a typed error for each way it can end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest

from flowtally.client.client import FlowClient, Refused, UnexpectedAnswer, Unreachable
from flowtally.client.retry import RetryPolicy
from flowtally.errors import SettingsError
from flowtally.model import Account, Receipt
from flowtally.wire.media import BodyFormat

RECEIPT = httpx2.Response(200, json={"batch_id": "k", "records": 2, "flows": 1, "new": "field"})
Answer = httpx2.Response | Exception


class Conversation:
    """A service that gives the answers it was told, and a clock that only waiting advances."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self.requests: list[httpx2.Request] = []
        self.waited_s: list[float] = []

    def client(self, give_up_after_s: float = 300) -> FlowClient:
        return FlowClient(
            "http://service.test",
            RetryPolicy(give_up_after_s, first_wait_s=0),
            transport=httpx2.MockTransport(self._answer),
            sleep=self.waited_s.append,
            monotonic_s=lambda: sum(self.waited_s),
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_batch_is_posted_once_where_all_is_well() -> None:
    talk = Conversation(RECEIPT)
    with talk.client() as client:
        assert client.post(b"[]", "k", BodyFormat.NDJSON) == Receipt("k", 2, 1, repeated=False)
    (request,) = talk.requests
    assert (request.method, str(request.url)) == ("POST", "http://service.test/v1/flows")
    assert request.headers["Idempotency-Key"] == "k"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.content == b"[]"


def test_every_attempt_carries_the_same_key_and_body() -> None:
    talk = Conversation(
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        *(httpx2.Response(status) for status in (408, 409, 429, 500, 502, 503, 504)),
        httpx2.Response(
            200,
            json={"batch_id": "k", "records": 2, "flows": 1},
            headers={"Idempotency-Replayed": "true"},
        ),
    )
    with talk.client() as client:
        assert client.post(b"body", "k") == Receipt("k", 2, 1, repeated=True)
        assert client.retries == 9
    assert {(one.headers["Idempotency-Key"], one.content) for one in talk.requests} == {
        ("k", b"body")
    }


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [("3", 3.0), ("0", 0.0), ("soon", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("-1", 0.0)],
)
def test_the_service_says_when_to_come_back(retry_after: str, wait_s: float) -> None:
    talk = Conversation(httpx2.Response(503, headers={"Retry-After": retry_after}), RECEIPT)
    with talk.client() as client:
        client.post(b"", "k")
    assert talk.waited_s == [wait_s]


def test_it_gives_up_in_time_and_says_why() -> None:
    busy = httpx2.Response(503, headers={"Retry-After": "5"}, json={"detail": "the disk is full"})
    talk = Conversation(*[busy] * 10)
    with talk.client(give_up_after_s=12) as client, pytest.raises(Unreachable) as caught:
        client.post(b"", "k")
    assert str(caught.value) == (
        "gave up on http://service.test after 3 attempts: it answered 503: the disk is full"
    )
    assert talk.waited_s == [5.0, 5.0]


@pytest.mark.parametrize("status", [301, 400, 404, 405, 406, 413, 415, 422])
def test_a_refusal_is_not_tried_again(status: int) -> None:
    problem = {"type": "/docs/problems#key-reused", "detail": "it was used"}
    talk = Conversation(httpx2.Response(status, json=problem))
    with talk.client() as client, pytest.raises(Refused) as caught:
        client.post(b"", "k")
    assert str(caught.value) == f"the service answered {status}: it was used"
    assert caught.value.is_kind("key-reused")
    assert not caught.value.is_kind("reused")
    assert talk.waited_s == []


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"batch_id": 1}', b"\xff"])
@pytest.mark.parametrize("ask", [lambda c: c.post(b"", "k"), FlowClient.ledger])
def test_something_else_answers(content: bytes, ask: Callable[[FlowClient], object]) -> None:
    talk = Conversation(httpx2.Response(200, content=content))
    with talk.client() as client, pytest.raises(UnexpectedAnswer):
        ask(client)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"\xff"])
def test_a_refusal_without_a_problem(content: bytes) -> None:
    talk = Conversation(httpx2.Response(400, content=content))
    with talk.client() as client, pytest.raises(Refused, match="answered 400: no detail"):
        client.post(b"", "k")


def test_who_abandons_it_ends_all_waiting() -> None:
    talk = Conversation(httpx2.ConnectError("refused"), RECEIPT)
    with talk.client() as client:
        client.abandon()
        with pytest.raises(Unreachable, match="stopped trying"):
            client.post(b"", "k")


def test_sums_are_exact() -> None:
    row = {"src_app": "a", "bytes_rx": 10**37, "bytes_tx": 2**63}
    talk = Conversation(httpx2.Response(200, content=json.dumps([row]).encode()))
    with talk.client() as client:
        assert client.sums(7) == [row]
    assert str(talk.requests[0].url) == "http://service.test/v1/flows?hour=7"


def test_the_ledger_is_exact() -> None:
    account = {"batches": 1, "records": 2, "bytes_rx": 10**37, "bytes_tx": 4}
    line = {"arrival_hour": 5, "accepted": account, "summed": account, "batches_repeated": 3}
    true, false = (
        httpx2.Response(200, json={"balances": balances, "lines": [line], "total": {}})
        for balances in (True, False)
    )
    with Conversation(true, false).client() as client:
        ledger = client.ledger()
        with pytest.raises(UnexpectedAnswer, match="says another thing than its lines"):
            client.ledger()
    assert ledger.balances
    assert ledger.total().accepted == Account(1, 2, 10**37, 4)
    assert ledger.total().batches_repeated == 3


@pytest.mark.parametrize("url", ["", "localhost:8080", "http://", "ftp://x", "http://x:99999"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(SettingsError, match="is not a URL"):
        FlowClient(url)
