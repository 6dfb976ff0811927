"""Keys: the same input gives the same ones, and nothing else does. And what sending adds up."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.client import sending
from flowtally.client.client import FlowClient, Unreachable
from flowtally.client.retry import RetryPolicy
from flowtally.client.sending import (
    BatchRefused,
    Entry,
    KeyedBatch,
    Sent,
    keyed_batches,
    send_batches,
)
from flowtally.errors import InvalidInput
from flowtally.wire.media import BodyFormat

records = st.lists(st.sampled_from([b"1", b"2", b"[1,2]"]), max_size=12)


def same(found: Iterable[bytes]) -> list[Entry]:
    return [(one, one) for one in found]


def batches(
    found: Iterable[bytes], size: int = 3, purpose: str = "p", full_only: bool = False
) -> list[KeyedBatch]:
    return list(keyed_batches(same(found), size, purpose, full_only=full_only))


@given(records)
def test_the_same_input_gives_the_same_batches(found: list[bytes]) -> None:
    made = batches(found)
    assert made == batches(found)
    assert len({batch.key for batch in made}) == len(made)
    assert sum(batch.records for batch in made) == len(found)
    assert [batch.first_record for batch in made] == list(range(0, len(found), 3))


@given(records, records)
def test_an_input_that_grew_repeats_its_full_batches(old: list[bytes], new: list[bytes]) -> None:
    full = batches(old, full_only=True)
    assert len(full) == len(old) // 3
    assert batches(old + new, full_only=True)[: len(full)] == full
    assert batches(old + new)[: len(full)] == full


@given(records, records)
def test_other_inputs_share_only_what_they_begin_with(one: list[bytes], two: list[bytes]) -> None:
    shared = {batch.key for batch in batches(one)} & {batch.key for batch in batches(two)}
    begin = 0
    while begin < min(len(one), len(two)) and one[begin] == two[begin]:
        begin += 1
    alike = begin // 3 + (one == two and len(one) % 3 > 0)
    assert len(shared) == alike


def test_a_record_that_occurs_twice_has_two_keys() -> None:
    first, second = batches([b"1"] * 6)
    assert first.body == second.body
    assert first.key != second.key


def test_where_an_input_is_cut_makes_other_keys() -> None:
    """[1,2][3] is not [1][2,3]: no concatenation of records may be taken for another."""
    assert batches([b"1", b"2"])[0].key != batches([b"1\n2"])[0].key
    assert batches([b"1"], size=3)[0].key != batches([b"1"], size=4)[0].key
    assert batches([b"1"], purpose="p")[0].key != batches([b"1"], purpose="q")[0].key


def test_keys_are_what_they_were() -> None:
    """A release that made other keys would count everybody's files again."""
    (batch,) = keyed_batches(same([b"1", b"2"]), 1000, "send:")
    assert batch.key == "9b9b2eb34bfd0126c7252ad9f2148731dd8cffa0"


def test_the_key_names_what_stood_there_and_the_body_what_became_of_it() -> None:
    entries: list[Entry] = [(b"a", None), (b"b", b"1"), (b"c", None), (b"d", None), (b"e", b"2")]
    first, second = keyed_batches(entries, 2, "p")
    assert (first.body, first.first_record, first.records) == (b"[1]", 0, 1)
    assert (second.body, second.first_record, second.records) == (b"[2]", 1, 1)
    entries[2] = (b"other", None)
    again = list(keyed_batches(entries, 2, "p"))
    assert [again[0].key == first.key, again[1].key == second.key] == [True, False]


def test_a_batch_ends_before_it_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_BATCH_BYTES_MAX", 10)
    made = batches([b"1234", b"1234", b"1234", b"x" * 99, b"1"], size=100)
    assert [batch.records for batch in made] == [2, 1, 1, 1]


def test_the_form_of_the_body() -> None:
    (batch,) = keyed_batches(same([b"1", b"2"]), 9, "p", BodyFormat.NDJSON)
    assert (batch.body, batch.form) == (b"1\n2", BodyFormat.NDJSON)


class Service:
    """Counts each key once, and refuses the bodies that it is told to."""

    def __init__(self, refused: bytes = b"never", down: bool = False) -> None:
        self.keys: set[str] = set()
        self._refused = refused
        self._down = down
        self._lock = threading.Lock()

    def client(self) -> FlowClient:
        return FlowClient(
            "http://service.test", RetryPolicy(0), transport=httpx2.MockTransport(self._answer)
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self._down:
            return httpx2.Response(503)
        if self._refused in request.content:
            errors = [
                {"pointer": "/1/hour", "detail": "is missing"},
                {"pointer": "/2", "detail": "must be an object"},
                {"pointer": "", "detail": "is odd"},
            ]
            return httpx2.Response(400, json={"detail": "it is bad", "errors": errors})
        key = request.headers["Idempotency-Key"]
        with self._lock:
            repeated = key in self.keys
            self.keys.add(key)
        return httpx2.Response(
            200,
            json={"batch_id": key, "records": 0, "flows": 0},
            headers={"Idempotency-Replayed": "true"} if repeated else {},
        )


def send(service: Service, made: Iterable[KeyedBatch]) -> Sent:
    sent = Sent()
    with service.client() as client:
        send_batches(client, made, 3, sent)
    return sent


def test_what_was_sent_is_added_up() -> None:
    service = Service()
    made = batches([b"%d" % number for number in range(50)])
    body_bytes = sum(len(batch.body) for batch in made)
    assert send(service, made) == Sent(50, 17, 0, 0, body_bytes)
    assert send(service, made) == Sent(50, 17, 17, 50, body_bytes)
    assert service.keys == {batch.key for batch in made}


def test_a_refusal_names_the_records_of_the_input() -> None:
    with pytest.raises(BatchRefused) as caught:
        send(Service(refused=b"bad"), batches([b"1", b"2", b"3", b"4", b"bad", b"6", b"7"]))
    assert str(caught.value).splitlines() == [
        "records 4 to 6: the service answered 400: it is bad",
        "  record 5 hour: is missing",
        "  record 6: must be an object",
        "  : is odd",
    ]


def test_what_is_wrong_from_the_first_batch_on_is_found_before_others_count() -> None:
    service = Service(refused=b"bad")
    with pytest.raises(BatchRefused):
        send(service, batches([b"bad"] + [b"good"] * 30))
    assert service.keys == set()


def test_a_service_that_is_down_ends_it() -> None:
    with pytest.raises(Unreachable):
        send(Service(down=True), batches([b"1"] * 100))


def test_what_came_before_a_fault_of_the_input_is_sent() -> None:
    def broken() -> Iterable[KeyedBatch]:
        yield from batches([b"1"] * 9)
        raise InvalidInput("line 10 is bad")

    service, sent = Service(), Sent()
    with service.client() as client, pytest.raises(InvalidInput):
        send_batches(client, broken(), 3, sent)
    assert len(service.keys) <= 3
    assert sent.batches == len(service.keys), "what was under way is added up as well"
    # A second run, with the fault mended, repeats what was counted.
    assert send(service, batches([b"1"] * 9)).records == 9


def test_memory_is_bounded_by_the_connections() -> None:
    made, most = 0, 0

    def counted() -> Iterable[KeyedBatch]:
        nonlocal made, most
        for batch in batches([b"%d" % number for number in range(300)]):
            made += 1
            most = max(most, made - sent.batches)
            yield batch

    sent = Sent()
    with Service().client() as client:
        send_batches(client, counted(), 3, sent)
    assert sent.batches == 100
    assert most <= 3 * 2
