"""Tokens: their form, and how one is found."""

from __future__ import annotations

import hashlib

import pytest

from flowtally.access.tokens import (
    PATTERN,
    TokenEntry,
    TokenSet,
    digest_of,
    is_token,
    new_token,
    without_tokens,
)

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def entry(token: str, name: str = "agents") -> TokenEntry:
    return TokenEntry(name, frozenset(["write"]), digest_of(token), "2026-11-25T00:00:00Z")


def test_a_token_has_256_bits_and_no_two_are_equal() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    assert len(DIGITS) ** 43 >= 2**256
    for token in tokens:
        assert token.startswith("flt_") and len(token) == 53
        assert set(token[4:]) <= set(DIGITS)
        assert is_token(token) and PATTERN.fullmatch(token)
    # Each of the digits that 256 bits can fill comes up in each of its values.
    assert {token[10] for token in {new_token() for _ in range(2_000)}} == set(DIGITS)


def test_a_changed_digit_is_found_out_by_the_checksum() -> None:
    token = new_token()
    for at in range(4, len(token)):
        other = DIGITS[(DIGITS.index(token[at]) + 1) % len(DIGITS)]
        assert not is_token(token[:at] + other + token[at + 1 :])
    assert not is_token(token[:-1]) and not is_token(token + "0") and not is_token("")


def test_the_entry_of_a_token_is_found_and_of_no_other() -> None:
    known, other = new_token(), new_token()
    tokens = TokenSet([entry(known), entry(other, "others")])
    assert tokens.entry_of(known.encode()) == entry(known)
    assert tokens.entry_of(other.encode()) == entry(other, "others")
    for strange in (new_token(), known[:-1], known.lower(), "", hashlib.sha256(b"").hexdigest()):
        assert tokens.entry_of(strange.encode()) is None
    assert TokenSet().entry_of(known.encode()) is None


def test_half_of_a_hash_is_not_enough() -> None:
    token = new_token()
    digest = digest_of(token)
    close = TokenEntry("close", frozenset(["read"]), digest[:16] + bytes(16), "")
    assert TokenSet([close]).entry_of(token.encode()) is None


@pytest.mark.parametrize("around", ["{}", "Bearer {}", "x={}&y", '{{"k":"{}"}}', "{}\n{}"])
def test_tokens_are_masked_wherever_they_stand(around: str) -> None:
    token = new_token()
    shown = without_tokens(around.replace("{}", token))
    assert token[4:] not in shown
    assert shown.count("flt_***") == around.count("{}")


def test_a_token_that_was_cut_off_is_masked_as_well() -> None:
    token = new_token()
    for digits in range(12, 53):
        assert without_tokens(f"'{token[:digits]}...'") == "'flt_***...'"


def test_what_is_no_token_is_not_masked() -> None:
    assert without_tokens("the flt_ of a flt_x") == "the flt_ of a flt_x"
