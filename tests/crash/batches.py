"""Batches drawn from a seed: small, overlapping, and unpleasant.

The same seed gives the same batches in the same order, whatever the service does. Flows and hours
overlap between writers, byte values reach the limit of the contract, and names hold whatever a
careless sum, query or file name could trip over.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

BYTES_MAX = 2**53 - 1
HOURS = (0, 1, 2, 23, 473_000, 2**31 - 1)
_RECORDS_MAX = 12
_NAMES = (
    "foo",
    "bar",
    "Foo",
    "foo ",
    "a|b",
    "a,b",
    "b",
    "../../etc/passwd",
    "'; DROP TABLE base; --",
    '"quoted"',
    "back\\slash",
    "<img src=x onerror=alert(1)>",
    "=cmd()",
    "%00%n",
    "NULL",
    "\u00e9",
    "e\u0301",
    "\u202eevil",
    "\U0001f600",
    "\uffff",
    "x" * 256,
    "\u20ac" * 85,
)
_EDGE_BYTES = (0, 1, 2**31, 2**32, 2**52, BYTES_MAX - 1, BYTES_MAX)


@dataclass(frozen=True)
class Record:
    """One record, as the contract names its fields."""

    src_app: str
    dest_app: str
    vpc_id: str
    hour: int
    bytes_rx: int
    bytes_tx: int


@dataclass(frozen=True)
class Sending:
    """One batch as it is sent: the key stays the same through every retry, and so does the body."""

    key: str
    records: tuple[Record, ...]
    body: bytes


class BatchGenerator:
    """An endless row of batches for one writer."""

    def __init__(self, seed: int, writer: int) -> None:
        self._random = random.Random(f"{seed}/{writer}")
        self._prefix = f"{seed}-{writer}"
        self._count = 0

    def next(self) -> Sending:
        self._count += 1
        count = self._random.choice((0, 1, 1, 2, 3, 5, _RECORDS_MAX))
        records = tuple(self._record() for _ in range(count))
        return Sending(f"{self._prefix}-{self._count}", records, encode(records, self._random))

    def altered(self, sending: Sending) -> bytes:
        """Another body for the same key: it must be refused and change nothing."""
        return encode((*sending.records, self._record()), self._random)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def choose(self, sendings: list[Sending]) -> Sending:
        """One of them."""
        return self._random.choice(sendings)

    def _record(self) -> Record:
        draw = self._random
        return Record(
            draw.choice(_NAMES),
            draw.choice(_NAMES),
            draw.choice(("vpc-0", "vpc-1", "b", "")) or draw.choice(_NAMES),
            draw.choice(HOURS),
            self._bytes(),
            self._bytes(),
        )

    def _bytes(self) -> int:
        if self._random.random() < 0.3:
            return self._random.choice(_EDGE_BYTES)
        return self._random.randrange(BYTES_MAX + 1)


def encode(records: tuple[Record, ...], draw: random.Random | None = None) -> bytes:
    """The records as a JSON array; it is drawn whether letters beyond ASCII are escaped."""
    escape = draw is None or draw.random() < 0.5
    return json.dumps([vars(record) for record in records], ensure_ascii=escape).encode("utf-8")
