"""Who posts how: the loads that a service is put under, each ten times what it can carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TIMES = 10


@dataclass(frozen=True)
class Clients:
    """Clients that are alike; how many is told by a list, one number for each try at the peak."""

    batch_records: int
    tried: Sequence[int]
    """Connections with which the peak is looked for."""
    connections: int | None = None
    """Under the flood; ten times those that had the peak without it."""
    is_patient: bool = False
    """Whether they wait when they are refused, as long as they are told to."""
    is_open_loop: bool = False
    """Whether the flood comes at ten times the peak's rate, whatever the answers take."""


@dataclass(frozen=True)
class Load:
    """Clients that come together. Their goodput is held against the peak: what the service
    acknowledges to each kind alone, in the number that it serves best."""

    name: str
    about: str
    clients: Sequence[Clients]


def _beside_large_bodies(is_patient: bool) -> list[Clients]:
    return [
        Clients(100, (64, 256, 512), connections=640, is_patient=is_patient),
        Clients(70_000, (2, 4, 8), connections=64, is_patient=is_patient),
    ]


LOADS = {
    load.name: load
    for load in (
        Load(
            "closed-loop",
            "batches of 1,000 records; ten times the best number of connections, each of which"
            " sends when it is answered, and at once again when it is refused",
            [Clients(1_000, (16, 64, 256))],
        ),
        Load(
            "open-loop",
            "batches of 100 records at ten times the rate that can be carried, over up to 1,000"
            " connections; what finds none free is left out",
            [Clients(100, (64, 256, 512), connections=1_000, is_open_loop=True)],
        ),
        Load(
            "crowd",
            "batches of 100 records from 3,000 connections, three times what may be open, each of"
            " which sends when it is answered",
            [Clients(100, (64, 256, 512), connections=3_000)],
        ),
        Load(
            "large-bodies",
            "the bytes in flight run out: 64 connections with bodies of 8 MB (70,000 records),"
            " beside 640 with batches of 100 records; who is refused waits as it is told",
            _beside_large_bodies(is_patient=True),
        ),
        Load(
            "large-bodies-blind",
            "the same, but who is refused sends all of its body and then another one at once",
            _beside_large_bodies(is_patient=False),
        ),
    )
}
