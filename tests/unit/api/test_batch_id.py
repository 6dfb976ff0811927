"""Keys as they are sent, and ids as they are made."""

from __future__ import annotations

import uuid

import pytest

from flowtally.api.batch_id import batch_id_of, new_batch_id
from flowtally.clock import ManualClock
from flowtally.errors import InvalidInput


@pytest.mark.parametrize(
    ("header", "batch_id"),
    [
        (None, None),
        (b"a", "a"),
        (b" a\t", "a"),
        (b'"a"', "a"),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b'a"b', 'a"b'),
        (b"a\\b", "a\\b"),
        (b'"a', '"a'),
        (b'"a\\b"', '"a\\b"'),
        (b"x" * 128, "x" * 128),
        (b'"' + b"x" * 128 + b'"', "x" * 128),
    ],
)
def test_a_key(header: bytes | None, batch_id: str | None) -> None:
    assert batch_id_of(header) == batch_id


@pytest.mark.parametrize(
    "header",
    [b"", b'""', b"a b", b'"a b"', b"a, b", b"x" * 129, b"\x00", b"a\x7f", b"\xc3\xa9", b"a\n"],
)
def test_a_bad_key(header: bytes) -> None:
    with pytest.raises(InvalidInput, match="1 to 128 visible ASCII"):
        batch_id_of(header)


def test_a_new_id_is_a_uuid_of_version_7_in_the_order_of_time() -> None:
    clock = ManualClock(1_700_000_000_000)
    made = []
    for _ in range(100):
        made.append(new_batch_id(clock))
        clock.advance_ms(1)
    assert made == sorted(made)
    assert len(set(made)) == 100
    for number, text in enumerate(made):
        one = uuid.UUID(text)
        assert (one.version, one.variant) == (7, uuid.RFC_4122)
        assert one.int >> 80 == 1_700_000_000_000 + number
        assert str(one) == text


def test_ids_of_one_millisecond_differ() -> None:
    clock = ManualClock()
    assert len({new_batch_id(clock) for _ in range(1000)}) == 1000
