"""Query strings; the table of what is refused stands in `tests/http/test_read.py`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally.api.parameters import hour_of, parameters_of
from flowtally.errors import InvalidInput


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"", {}),
        (b"hour=1", {"hour": "1"}),
        (b"%68our=%31&format=csv", {"hour": "1", "format": "csv"}),
        (b"hour", {"hour": ""}),
        (b"hour==", {"hour": "="}),
    ],
)
def test_parameters(query: bytes, found: dict[str, str]) -> None:
    assert parameters_of(query, ("hour", "format")) == found


@given(st.binary(max_size=60))
@settings(max_examples=50, deadline=None)
def test_any_query_is_read_or_refused(query: bytes) -> None:
    try:
        hour = hour_of(parameters_of(b"hour=" + query, ("hour", "format")))
    except InvalidInput:
        return
    assert 0 <= hour < 2**31
