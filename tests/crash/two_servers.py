"""Two services on one PostgreSQL, killed at random under load: lost 0, extra 0.

    python -m tests.crash.two_servers --kills 1000 [--seed N]

Each writer goes to whichever of the two it draws, at every attempt anew: so a batch whose answer a
kill took is sent again through the other one, and so is every old batch that a writer repeats. The
readers do the same, and must find at either what was acknowledged by the other. Now and then it is
PostgreSQL that dies, and recovers. When it happens is up to the machine, so a seed repeats the
attack, not the instant.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.accounts import assert_exact, assert_service_sound
from tests.crash.calls import Answer, Connection
from tests.crash.expected import Expected
from tests.crash.nursery import Nursery
from tests.crash.readers import Readers
from tests.crash.service import READY_S_MAX, ROOT, Service, running
from tests.crash.writers import Counts, Writers
from tests.postgres import Postgres

_DATABASE_PROBABILITY = 0.1
_BOTH_PROBABILITY = 0.1
_ACKNOWLEDGED_MAX = 30
_LINGER_S_MAX = 0.05


class Scattered(Connection):
    """Connections to several services; each request takes one of them."""

    def __init__(self, ports: Sequence[int], draw: random.Random) -> None:
        super().__init__(ports[0])
        self._draw = draw
        self._connections = [Connection(port) for port in ports]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        return self._draw.choice(self._connections).request(method, path, body, headers)


@dataclass
class Outcome:
    """What a campaign did; it found nothing wrong, or it would have raised."""

    seed: int
    kills: int = 0
    database_kills: int = 0
    reads: int = 0
    counts: Counts = field(default_factory=Counts)
    duration_s: float = 0.0

    def table(self) -> str:
        """As rows of Markdown."""
        rows = {
            "kills of a service, of PostgreSQL": f"{self.kills}, {self.database_kills}",
            "lost, extra": "0, 0",
            "batches acknowledged": str(self.counts.acknowledged),
            "reads, of them older than what was known": f"{self.reads}, 0",
            "repeats answered as such": str(self.counts.repeated),
            "reused keys refused": str(self.counts.refused),
            "requests cut off and sent again": str(self.counts.unanswered),
            "requests told to come back": str(self.counts.unavailable),
            "seed": str(self.seed),
            "duration": f"{self.duration_s:.0f} s",
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join(["| | |", "| --- | --- |", *lines])


def attack(
    services: Sequence[Service],
    postgres: Postgres,
    seed: int,
    kills: int,
    duration_s_max: float | None = None,
) -> Outcome:
    """Kills one or the other that often, or as often as the time allows, and accounts for every
    byte. Raises `AssertionError` with every difference that it finds."""
    began_s = time.monotonic()
    draw = random.Random(seed)
    outcome = Outcome(seed)
    for service in services:
        service.start_ready()
    expected = Expected()
    connect = _connector([service.port for service in services], seed)
    port = services[0].port
    writers = Writers(port, seed, expected, connect=connect)
    readers = Readers(port, seed, expected, connect=connect)
    writers.start()
    readers.start()
    try:
        while outcome.kills < kills:
            wanted = draw.randint(1, _ACKNOWLEDGED_MAX)
            assert writers.wait_acknowledged(wanted, READY_S_MAX), writers.counts
            # This wait is the random instant itself.
            threading.Event().wait(draw.uniform(0, _LINGER_S_MAX))
            _kill(services, postgres, draw, outcome)
            if duration_s_max is not None and time.monotonic() - began_s > duration_s_max:
                break
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    finally:
        readers.stop()
    for service in services:
        assert_exact(service, expected)
    for service in services:
        assert service.stop() == 0, service.output()
    assert_service_sound(services[0], expected)
    outcome.counts = writers.counts
    outcome.reads = readers.answered
    outcome.duration_s = time.monotonic() - began_s
    return outcome


def _connector(ports: Sequence[int], seed: int) -> Callable[[int], Connection]:
    lock = threading.Lock()
    draw = random.Random(f"{seed}/connections")

    def connect(port: int) -> Connection:
        with lock:
            return Scattered(ports, random.Random(draw.random()))

    return connect


def _kill(
    services: Sequence[Service], postgres: Postgres, draw: random.Random, outcome: Outcome
) -> None:
    which = draw.random()
    if which < _DATABASE_PROBABILITY:
        # Told to end at once it does what it does in a crash, and recovers from its log.
        postgres.stop(signal.SIGQUIT)
        postgres.start()
        outcome.database_kills += 1
        for service in services:
            service.wait_ready()
        return
    both = which < _DATABASE_PROBABILITY + _BOTH_PROBABILITY
    victims = services if both else [draw.choice(services)]
    for victim in victims:
        assert victim.is_alive(), f"it died by itself: {victim.output()}"
        victim.kill()
        outcome.kills += 1
    for victim in victims:
        victim.start()
    for victim in victims:
        victim.wait_ready()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.two_servers")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="flowtally-two-servers-"))
    replay = f"python -m tests.crash.two_servers --kills {options.kills} --seed {seed}"
    print(f"{replay}   # in {folder}", file=sys.stderr, flush=True)
    postgres = Postgres()
    nursery = Nursery(ROOT)
    try:
        postgres.start()
        with ExitStack() as stack:
            services = make_services(folder, postgres, nursery)
            for service in services:
                stack.enter_context(running(service, replay))
            print(attack(services, postgres, seed, options.kills).table())
    finally:
        nursery.close()
        postgres.close()
    return 0


def make_services(folder: Path, postgres: Postgres, nursery: Nursery) -> list[Service]:
    """Two of them, not yet started, on one set of tables."""
    services = [Service(folder / name, nursery=nursery) for name in ("one", "two")]
    for service in services:
        service.set(store="sql", sql_url=postgres.url(folder))
    return services


if __name__ == "__main__":
    sys.exit(main())
