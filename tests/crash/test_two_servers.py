"""Two services share one PostgreSQL: each batch counts once, through whichever it comes.

CRASH_KILLS says how often one is killed (here at most 20 times), CRASH_SECONDS how long.
`python -m tests.crash.two_servers` is the same attack for as long as one likes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.accounts import assert_exact
from tests.crash.batches import BatchGenerator
from tests.crash.calls import post
from tests.crash.expected import Expected
from tests.crash.nursery import Nursery
from tests.crash.service import Service, running
from tests.crash.two_servers import attack, make_services
from tests.postgres import Postgres

_KILLS = 20
_SECONDS = 20.0
_KILLS_MIN = 4
_ROUNDS = 15


@pytest.fixture
def services(
    tmp_path: Path,
    own_postgres: Postgres,
    nursery: Nursery,
    seed: int,
    request: pytest.FixtureRequest,
) -> Iterator[list[Service]]:
    replay = f"CRASH_SEED={seed} pytest '{request.node.nodeid}'"
    with ExitStack() as stack:
        made = make_services(tmp_path, own_postgres, nursery)
        for service in made:
            stack.enter_context(running(service, replay))
        yield made


def test_killed_at_random(services: list[Service], own_postgres: Postgres, seed: int) -> None:
    kills = min(int(os.environ.get("CRASH_KILLS", "50")), _KILLS)
    seconds = min(float(os.environ.get("CRASH_SECONDS", "150")), _SECONDS)
    outcome = attack(services, own_postgres, seed, kills, duration_s_max=seconds)
    print(outcome.table())
    assert outcome.kills >= min(kills, _KILLS_MIN), "too few kills to prove anything"
    assert outcome.counts.acknowledged > 0
    assert outcome.reads > 0


def test_one_batch_through_both_at_once(services: list[Service], seed: int) -> None:
    """One of them counts it, the other says that it is a repeat; with another body it is refused,
    whichever comes first."""
    for service in services:
        service.start_ready()
    generator = BatchGenerator(seed, 0)
    expected = Expected()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(_ROUNDS):
            sending = generator.next()
            answers = list(
                threads.map(
                    lambda service: post(service.port, sending.body, sending.key),  # noqa: B023
                    services * 2,
                )
            )
            assert [answer.status for answer in answers] == [200] * 4
            replayed = [answer.headers.get("idempotency-replayed") for answer in answers]
            assert replayed.count("true") == 3, answers
            expected.add(sending)
            altered = generator.altered(sending)
            assert post(services[0].port, altered, sending.key).status == 422
            assert post(services[1].port, altered, sending.key).status == 422
    for service in services:
        assert_exact(service, expected)
