"""Admission: what is taken is bounded, and always given back."""

from __future__ import annotations

import pytest

from flowtally.errors import Overloaded
from flowtally.ingest.admission import Admission


def test_a_body_is_accounted_for_until_it_is_answered() -> None:
    admission = Admission(100)
    with admission.admit() as admitted:
        admitted.take(60)
        admitted.take(40)
        assert (admitted.body_bytes, admission.in_flight_bytes) == (100, 100)
    assert admission.in_flight_bytes == 0


def test_one_byte_too_many_is_refused_and_not_accounted_for() -> None:
    admission = Admission(100)
    with admission.admit() as first, admission.admit() as second:
        first.take(60)
        second.take(40)
        with pytest.raises(Overloaded, match="100 bytes of bodies are being stored") as refused:
            second.take(1)
        assert refused.value.retry_after_s == 1
        assert (second.body_bytes, admission.in_flight_bytes) == (40, 100)
        assert admission.refused_total == 1


def test_a_body_that_fails_gives_back_what_it_took_and_no_more() -> None:
    admission = Admission(100)
    with admission.admit() as other:
        other.take(30)
        with pytest.raises(Overloaded), admission.admit() as failing:
            failing.take(50)
            failing.take(50)
        assert admission.in_flight_bytes == 30
        with admission.admit() as next_one:
            next_one.take(70)
    assert admission.in_flight_bytes == 0


def test_a_body_larger_than_everything_is_refused_when_nothing_is_in_flight() -> None:
    admission = Admission(10)
    with pytest.raises(Overloaded), admission.admit() as admitted:
        admitted.take(11)
    assert (admission.in_flight_bytes, admission.refused_total) == (0, 1)


def test_what_is_announced_is_refused_without_room_and_never_accounted_for() -> None:
    admission = Admission(100)
    with admission.admit() as first, admission.admit() as second:
        first.take(60)
        second.require_room(40)
        assert admission.in_flight_bytes == 60
        with pytest.raises(Overloaded, match="60 bytes of bodies"):
            second.require_room(41)
        assert (admission.in_flight_bytes, admission.refused_total) == (60, 1)
