"""Generated records that look like a network's: few apps talk much, many talk little."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from flowtally.wire.fields import RECORD_FIELDS

_APPS = 2_000
_VPCS = 10
_HOURS = 3
_TAIL = 0.9
_KINDS = (
    "web",
    "api",
    "auth",
    "cart",
    "search",
    "billing",
    "queue",
    "cache",
    "db",
    "batch",
)


def generated_records(count: int, seed: int, first_hour: int) -> Iterator[bytes]:
    """Records as JSON; the same arguments give the same records."""
    draw = random.Random(seed)
    encode = msgspec.json.Encoder().encode

    def app() -> str:
        rank = min(int(draw.paretovariate(_TAIL)) - 1, _APPS - 1)
        return f"{_KINDS[rank % len(_KINDS)]}-{rank:04d}"

    for _ in range(count):
        sent = int(draw.lognormvariate(9, 2))
        values = (
            app(),
            app(),
            f"vpc-{draw.randrange(_VPCS)}",
            first_hour + draw.randrange(_HOURS),
            int(sent * draw.uniform(0.5, 20)),
            sent,
        )
        yield encode(dict(zip(RECORD_FIELDS, values, strict=True)))
