"""Random kills: eight writers send, two readers read, the process dies by kill -9 again and again.

Nothing is lost, nothing is counted twice, and no total that was read ever falls.

    python -m tests.crash.campaign --kills 1000 [--seed N] [--store hourly]

prints what it did as a Markdown table for `docs/crash-testing.md`. The seed decides what is sent
and when a kill is wanted; when it happens is up to the machine, so a seed repeats the attack, not
the instant.

Most starts are forks of a process that has imported everything (`nursery.py`), so that a kill
during a start meets the opening of the files and not an import; one in `EXEC_EVERY` is the whole.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.accounts import assert_exact, assert_service_sound
from tests.crash.expected import Expected
from tests.crash.nursery import Nursery
from tests.crash.readers import Readers
from tests.crash.service import READY_S_MAX, ROOT, Service, running
from tests.crash.writers import Counts, Writers

READY_S_ALLOWED = 5.0
"""What the product promises, on a machine on which a bare start takes a second or less."""
EXEC_EVERY = 20
_DURING_START_PROBABILITY = 0.2
_AFTER_READS_PROBABILITY = 0.4
_ACKNOWLEDGED_MAX = 40
_READS_MAX = 6
_LINGER_S_MAX = 0.05
_CHECK_EVERY = 100
_INTERVAL_S = 0.05
"""Of the hourly store's runs: a kill should meet one."""


@dataclass
class Outcome:
    """What a campaign did; it found nothing wrong, or it would have raised."""

    seed: int
    kills: int = 0
    kills_during_start: int = 0
    first_start_s: float = 0.0
    """The fork of a service on an empty folder until it is ready."""
    first_exec_s: float = 0.0
    """The same with all imports, if there was one."""
    ready_s: list[float] = field(default_factory=list)
    exec_ready_s: list[float] = field(default_factory=list)
    reads: int = 0
    counts: Counts = field(default_factory=Counts)
    records: int = 0
    duration_s: float = 0.0

    def note_ready(self, took_s: float, by_exec: bool) -> None:
        """Raises `AssertionError` where a start took more than the promise, scaled to the machine
        by a bare start here."""
        bare_s = self.first_exec_s if by_exec else self.first_start_s
        (self.exec_ready_s if by_exec else self.ready_s).append(took_s)
        assert took_s < max(1.0, bare_s) * READY_S_ALLOWED, f"ready only after {took_s:.1f} s"

    def table(self) -> str:
        """As rows of Markdown."""
        rows = {
            "kills (of them while starting)": f"{self.kills} ({self.kills_during_start})",
            "lost, extra": "0, 0",
            "batches acknowledged": f"{self.counts.acknowledged} ({self.records} records)",
            "reads, of them older than what was known": f"{self.reads}, 0",
            "repeats answered as such": str(self.counts.repeated),
            "reused keys refused": str(self.counts.refused),
            "requests cut off and sent again": str(self.counts.unanswered),
            "ready again after, median / p99 / worst": _spread(self.ready_s),
            "first start, on an empty folder": f"{self.first_start_s:.2f} s",
            "the same by exec": _spread(self.exec_ready_s),
            "first start by exec": f"{self.first_exec_s:.2f} s",
            "seed": str(self.seed),
            "duration": f"{self.duration_s:.0f} s",
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join(["| | |", "| --- | --- |", *lines])


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    chosen = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])
    return " / ".join(f"{one:.2f} s" for one in chosen) + f" ({len(ordered)} starts)"


def attack(
    service: Service,
    seed: int,
    kills: int,
    duration_s_max: float | None = None,
    exec_every: int | None = None,
) -> Outcome:
    """Kills the process that often, or as often as the time allows, and accounts for every byte.

    One start in `exec_every` is made by exec, where the service has a nursery to fork the others.

    Raises `AssertionError` with every difference that it finds.
    """
    began_s = time.monotonic()
    draw = random.Random(seed)
    outcome = Outcome(seed)
    if exec_every:
        outcome.first_exec_s = service.start_ready(by_exec=True)
        service.kill()
    outcome.first_start_s = service.start_ready()
    expected = Expected()
    writers = Writers(service.port, seed, expected)
    visible_on_return = service.launch.store != "hourly"
    readers = Readers(service.port, seed, expected, visible_on_return=visible_on_return)
    writers.start()
    readers.start()
    try:
        while outcome.kills < kills:
            by_exec = bool(exec_every) and draw.randrange(exec_every or 1) == 0
            _kill_once(service, writers, readers, draw, outcome, by_exec)
            if outcome.kills % _CHECK_EVERY == 0:
                print(f"{outcome.kills} kills", file=sys.stderr, flush=True)
            if duration_s_max is not None and time.monotonic() - began_s > duration_s_max:
                break
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    finally:
        readers.stop()
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_service_sound(service, expected)
    outcome.counts = writers.counts
    outcome.reads = readers.answered
    outcome.records = expected.records
    outcome.duration_s = time.monotonic() - began_s
    return outcome


def _kill_once(
    service: Service,
    writers: Writers,
    readers: Readers,
    draw: random.Random,
    outcome: Outcome,
    by_exec: bool,
) -> None:
    when = draw.random()
    if when < _DURING_START_PROBABILITY:
        service.kill()
        outcome.kills += 1
        service.start()
        # This wait is the random instant itself.
        threading.Event().wait(draw.uniform(0, outcome.first_start_s))
        outcome.kills_during_start += 1
    else:
        if when < _DURING_START_PROBABILITY + _AFTER_READS_PROBABILITY:
            # Long enough for the applier to be at work.
            wanted = draw.randint(1, _READS_MAX)
            assert readers.wait_answered(wanted, READY_S_MAX), "no read is answered"
        else:
            wanted = draw.randint(1, _ACKNOWLEDGED_MAX)
            assert writers.wait_acknowledged(wanted, READY_S_MAX), "no acknowledgements come"
        threading.Event().wait(draw.uniform(0, _LINGER_S_MAX))
        assert service.is_alive(), f"it died by itself: {service.output()}"
    service.kill()
    outcome.kills += 1
    outcome.note_ready(service.start_ready(by_exec), by_exec)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--store", choices=("duckdb", "hourly"), default="duckdb")
    parser.add_argument("--folder", type=Path, default=None, help="default: a temporary one")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="flowtally-crash-"))
    replay = f"make crash KILLS={options.kills} SEED={seed} ARGS='--store {options.store}'"
    print(f"{replay}   # in {folder}", file=sys.stderr, flush=True)
    nursery = Nursery(ROOT)
    try:
        with running(Service(folder, nursery=nursery), replay) as service:
            service.set(store=options.store, aggregate_interval_s=_INTERVAL_S)
            outcome = attack(service, seed, options.kills, exec_every=EXEC_EVERY)
    finally:
        nursery.close()
    print(outcome.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
