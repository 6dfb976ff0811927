"""The posted traffic: 2,000 apps with a heavy tail, 10 VPCs, 3 hours, about 118 bytes a record.

The same seed gives the same bodies, so whoever checks the sums can make them again. Writes its JSON
and its sums by itself and imports nothing of the product, which it is held against.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

APPS = 2_000
VPCS = 10
HOURS = (471_000, 471_001, 471_002)
HOUR_OF_READS = 480_000
_TAIL = 1.1
"""Zipf's exponent: the busiest app takes part in about one connection of seven."""
_KINDS = ("frontend", "checkout", "postgres", "identity", "payments", "scoring", "sessions")
POOL_RECORDS = 200_000
_POOL_BODIES = 20_000

Key = tuple[str, str, str, int]
ExpectedSums = dict[Key, tuple[int, int]]


class Record(NamedTuple):
    """One record, in the order of its fields on the wire."""

    src_app: str
    dest_app: str
    vpc_id: str
    hour: int
    bytes_rx: int
    bytes_tx: int

    def json(self) -> str:
        """As an agent writes it: compact, fields in the order of the documentation."""
        return (
            f'{{"src_app":"{self.src_app}","dest_app":"{self.dest_app}","vpc_id":"{self.vpc_id}"'
            f',"hour":{self.hour},"bytes_rx":{self.bytes_rx},"bytes_tx":{self.bytes_tx}}}'
        )


class Pool:
    """Batches of one size, prepared beforehand and sent in turn, each time under a new key."""

    def __init__(self, batch_records: int, records: Sequence[Record] | None = None) -> None:
        self.batch_records = batch_records
        if records is None:
            bodies = max(1, min(POOL_RECORDS // batch_records, _POOL_BODIES))
            records = generated(bodies * batch_records, seed=1)
        self.batches = [
            records[start : start + batch_records]
            for start in range(0, len(records), batch_records)
        ]

    def write(self, path: Path) -> None:
        """Writes the batches as bodies, one on each line."""
        path.write_bytes(b"\n".join(body_of(batch) for batch in self.batches))

    def sums(self, times: Sequence[int]) -> ExpectedSums:
        """What a service must hold once batch number i was acknowledged `times[i]` times."""
        return summed(
            (record, count)
            for batch, count in zip(self.batches, times, strict=True)
            if count
            for record in batch
        )


def generated(count: int, seed: int) -> list[Record]:
    """Records of many hours and apps."""
    draw = random.Random(seed)
    names = [f"{_KINDS[rank % len(_KINDS)]}-{rank:04d}" for rank in range(APPS)]
    weights = list(itertools.accumulate((rank + 1) ** -_TAIL for rank in range(APPS)))
    sources = draw.choices(names, cum_weights=weights, k=count)
    targets = draw.choices(names, cum_weights=weights, k=count)
    vpcs = draw.choices([f"vpc-{vpc}" for vpc in range(VPCS)], k=count)
    hours = draw.choices(HOURS, k=count)
    sizes = [int(draw.lognormvariate(9, 2)) for _ in range(2 * count)]
    columns = (sources, targets, vpcs, hours, sizes[:count], sizes[count:])
    return [Record(*row) for row in zip(*columns, strict=True)]


def hour_of_flows(apps: int, vpcs: int, seed: int = 2) -> list[Record]:
    """One record for each flow of an hour in which each app talks to each, in a shuffled order."""
    draw = random.Random(seed)
    names = [f"{_KINDS[rank % len(_KINDS)]}-{rank:04d}" for rank in range(apps)]
    records = [
        Record(source, target, f"vpc-{vpc}", HOUR_OF_READS, draw.randrange(10**6), vpc + 1)
        for source in names
        for target in names
        for vpc in range(vpcs)
    ]
    draw.shuffle(records)
    return records


def body_of(records: Iterable[Record]) -> bytes:
    """A body of POST /v1/flows."""
    return f"[{','.join(record.json() for record in records)}]".encode()


def summed(records: Iterable[tuple[Record, int]]) -> ExpectedSums:
    """The sums of records, each counted the given number of times."""
    sums: dict[Key, list[int]] = {}
    for record, count in records:
        row = sums.setdefault(record[:4], [0, 0])
        row[0] += record.bytes_rx * count
        row[1] += record.bytes_tx * count
    return {key: (row[0], row[1]) for key, row in sums.items()}
