"""Tokens: 256 random bits that a client proves itself by, and the set of those that are valid.

A token looks like `flt_` + 43 + 6 letters and digits; the last six are a checksum (CRC-32, as in
GitHub's), so that a scanner of files or logs knows one without asking, and a mistyped one is told
from an unknown one. Only its SHA-256 is kept. A slow hash (bcrypt, argon2) is for secrets that can
be guessed: of 2^256 nobody guesses one, however fast the hash is, and each request pays for it.

No I/O here; the file is `tokens_file.py`'s business.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)
"""What a token may do. None implies another."""
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
PREFIX = "flt_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_DIGITS = 43
_CHECKSUM_DIGITS = 6
_BITS = 256
_FOUND_BY_BYTES = 16
_MASKED = re.compile(rf"{PREFIX}[0-9A-Za-z]{{8,}}")
"""Also what was cut off: most of a token is too much of it."""
PATTERN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_DIGITS + _CHECKSUM_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """What is known of a token: everything but itself."""

    name: str
    may: frozenset[str]
    sha256: bytes
    created: str
    revoked: str | None = None
    """When it was, in RFC 3339; kept so that whoever still uses it can be found by its name."""


class TokenSet:
    """Finds the entry of a token. Never changes; another file's content is another set."""

    def __init__(self, entries: Iterable[TokenEntry] = ()) -> None:
        self.entries = tuple(entries)
        self._by_half = {entry.sha256[:_FOUND_BY_BYTES]: entry for entry in self.entries}

    def entry_of(self, token: bytes) -> TokenEntry | None:
        """The entry of a token, revoked or not; None for one that is not known.

        Found by half of its hash, and compared by all of it in constant time: how long it takes
        tells nothing of what is kept.
        """
        sha256 = hashlib.sha256(token).digest()
        entry = self._by_half.get(sha256[:_FOUND_BY_BYTES])
        return entry if entry is not None and compare_digest(entry.sha256, sha256) else None


def new_token() -> str:
    """A token that nobody has."""
    text = _base62(secrets.randbits(_BITS), _RANDOM_DIGITS)
    return PREFIX + text + _checksum(text)


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("ascii")).digest()


def is_token(text: str) -> bool:
    """Whether it is a token by its form and its checksum."""
    if PATTERN.fullmatch(text) is None:
        return False
    body = text.removeprefix(PREFIX)
    return _checksum(body[:_RANDOM_DIGITS]) == body[_RANDOM_DIGITS:]


def without_tokens(text: str) -> str:
    """A text with every token in it masked, whole or cut off: for what is logged or answered."""
    return _MASKED.sub(f"{PREFIX}***", text) if PREFIX in text else text


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode("ascii")), _CHECKSUM_DIGITS)


def _base62(number: int, digits: int) -> str:
    found = ""
    for _ in range(digits):
        number, digit = divmod(number, len(_DIGITS))
        found = _DIGITS[digit] + found
    return found
