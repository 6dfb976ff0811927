"""The name of a batch: the Idempotency-Key that came with it, or one that is made here.

Header: draft-ietf-httpapi-idempotency-key-header, a structured-field string (RFC 9651) in quotes;
agents in the field send it bare. Both spellings name the same batch.
"""

from __future__ import annotations

import os
import re
import uuid

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import InvalidInput

_PLAIN = re.compile(rb'[\x21\x23-\x5b\x5d-\x7e]+|"[\x21\x23-\x5b\x5d-\x7e]+"')
_VISIBLE = re.compile(rb"[\x21-\x7e]+")
_QUOTED = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPE = re.compile(rb'\\(["\\])')


def batch_id_of(header: bytes | None) -> str | None:
    """The batch_id that the Idempotency-Key header gives, or None without one.

    Raises `InvalidInput` for what is not 1 to 128 visible ASCII characters. A repeated header is
    such: its values come joined by a comma and a space.
    """
    if header is None:
        return None
    if len(header) <= limits.BATCH_ID_LENGTH_MAX and _PLAIN.fullmatch(header) is not None:
        return header.strip(b'"').decode("ascii")
    key = header.strip(b" \t")
    quoted = _QUOTED.fullmatch(key)
    if quoted is not None:
        key = _ESCAPE.sub(rb"\1", quoted.group(1))
    if len(key) > limits.BATCH_ID_LENGTH_MAX or _VISIBLE.fullmatch(key) is None:
        raise InvalidInput(
            f"the Idempotency-Key must be one header of 1 to {limits.BATCH_ID_LENGTH_MAX} visible"
            " ASCII characters, with or without quotes"
        )
    return key.decode("ascii")


def new_batch_id(clock: Clock) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random. Ordered by time, so
    that whoever keeps such ids in an index appends to it."""
    number = (clock.now_ms() & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=number))
