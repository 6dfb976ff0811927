"""Sums read back from lines of JSON, and the records that add up to them.

A sum outgrows what one record may carry, so it becomes as many records as it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from flowtally import limits
from flowtally.errors import InvalidInput

_RECORDS_PER_FLOW_MAX = 1_000_000
"""2^72 bytes of one flow in one hour; more is a mistake, and would be sent for days."""


class SumsLine(msgspec.Struct):
    """One flow of an answer, or one record of a batch; fields in the order of the wire."""

    src_app: str
    dest_app: str
    vpc_id: str
    hour: int
    bytes_rx: int
    bytes_tx: int

    @property
    def names(self) -> tuple[str, str, str]:
        """What tells it from the other flows of its hour."""
        return self.src_app, self.dest_app, self.vpc_id


_decoder = msgspec.json.Decoder(SumsLine)
_encoder = msgspec.json.Encoder()


def sums_line(line: bytes) -> SumsLine:
    """A line of an answer. Raises `InvalidInput` where it is none."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the answer holds a line that is no sum: {error}") from error


def encode_record(record: SumsLine) -> bytes:
    """A record as a line of a body: always the same bytes for the same record."""
    return _encoder.encode(record)


def records_of(sums: SumsLine) -> Iterator[SumsLine]:
    """The records that add up to a flow's sums; one where they fit into one."""
    largest = limits.RECORD_BYTES_VALUE_MAX
    rx, tx = sums.bytes_rx, sums.bytes_tx
    if max(rx, tx) > largest * _RECORDS_PER_FLOW_MAX:
        raise InvalidInput(f"a sum is too large to be copied: {max(rx, tx)} bytes")
    while True:
        part = min(rx, largest), min(tx, largest)
        yield SumsLine(*sums.names, sums.hour, *part)
        rx, tx = rx - part[0], tx - part[1]
        if not rx and not tx:
            return
