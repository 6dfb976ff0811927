"""That a page which shows something else is found out."""

from __future__ import annotations

import pytest

from tests.runbooks.printed import is_as_shown


@pytest.mark.parametrize(
    ("printed", "shown", "is_so"),
    [
        ("a  1\nb\n", "a 1\nb\n", True),
        ("a 1\nb\n", "a 2\nb\n", False),
        ("took 431 ms", "took 17 ms", True),
        ("401", "200", False),
        ("a\nb\nc\n", "a\n...\n", True),
        ("a\nb\nc\n", "...\nc\n", True),
        ("a\nb\nc\n", "a\n", False),
        ("one two three", "one ... three", True),
        ("one two three", "one ... four", False),
        ("", "a\n", False),
        ("a\n", "", False),
        ("2026-01-02T03:04:05.678Z on 127.0.0.1:431", "2025-11-12T13:14:15Z on 127.0.0.1:8", True),
    ],
)
def test_it_is_as_shown(printed: str, shown: str, is_so: bool) -> None:
    assert is_as_shown(printed, shown) is is_so
