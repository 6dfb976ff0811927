"""A decoded body into a tally: the one entrance for every format."""

from __future__ import annotations

import hashlib

import msgspec

from flowtally.limits import BodyLimits
from flowtally.model import Tally
from flowtally.wire import kernel
from flowtally.wire.json_records import decode_array, decode_lines
from flowtally.wire.media import BodyFormat

_FINGERPRINT_BYTES = 16
_DIGESTS = {form: hashlib.sha256(form.name.encode()) for form in BodyFormat}


class DecodedBody(msgspec.Struct, frozen=True, gc=False):
    """What a body says, and the fingerprint by which a repeat of it is known."""

    tally: Tally
    records: int
    fingerprint: bytes


def decode_body(body: bytes, form: BodyFormat, bounds: BodyLimits) -> DecodedBody:
    """Reads and sums a body, after its content coding is undone.

    Raises `InvalidInput`: `InvalidRecords` naming every bad record, `TooLarge`, or what else is
    wrong with it as a whole.
    """
    tally, records = _sum(body, form, bounds)
    return DecodedBody(tally, records, fingerprint(body, form))


def _sum(body: bytes, form: BodyFormat, bounds: BodyLimits) -> tuple[Tally, int]:
    if form is BodyFormat.ARROW:
        from flowtally.wire.arrow_records import decode_arrow

        return decode_arrow(body, bounds.records_max, bounds.decoded_bytes_max)
    summed = kernel.decode(body, form, bounds.records_max)
    if summed is not None:
        return summed
    decode = decode_array if form is BodyFormat.JSON else decode_lines
    return decode(body, bounds.records_max)


def fingerprint(body: bytes, form: BodyFormat) -> bytes:
    """The first 16 bytes of SHA-256 over the format's name and the decoded body: the same body
    sent with another content coding is the same batch."""
    digest = _DIGESTS[form].copy()
    digest.update(body)
    return digest.digest()[:_FINGERPRINT_BYTES]
