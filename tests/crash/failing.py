"""The story that every fault of the machine has in common, told once.

Writers send; the fault comes; from then on nothing is acknowledged, each refusal says when to come
back, the service says what is wrong, and reads go on exactly; nothing dies. Then the fault goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.crash.accounts import assert_exact, assert_nothing_extra
from tests.crash.calls import get
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service
from tests.crash.writers import Writers

BEFORE = 20
"""Batches acknowledged before the fault, and again after it."""
_REFUSALS = 24
"""Three for each writer: after these, no acknowledgement from before is still on its way."""


@contextmanager
def writing(service: Service, seed: int, expected: Expected) -> Iterator[Writers]:
    """Writers that have got some acknowledgements, and are ended at the end, whatever happens."""
    writers = Writers(service.port, seed, expected)
    writers.start()
    try:
        assert writers.wait_acknowledged(BEFORE, READY_S_MAX), writers.counts
        yield writers
    except BaseException:
        writers.abandon()
        raise


def assert_refuses(service: Service, writers: Writers, expected: Expected, *parts: str) -> None:
    """Writers are told 503 with Retry-After, one of `parts` is named, and reads stay exact."""
    wait_refused(writers)
    acknowledged = writers.counts.acknowledged
    ready = get(service.port, "/readyz")
    assert ready.status == 503, ready
    health = get(service.port, "/health")
    failed = [found for found in health.json()["parts"] if found["state"] == "error"]
    assert {found["name"] for found in failed} & set(parts), health
    assert all(found["last_error"] or found["detail"] for found in failed), health
    if service.launch.store == "hourly":
        # Sums wait for a run, which may be what cannot be done.
        assert_nothing_extra(service, expected)
    else:
        assert_exact(service, expected)
    wait_refused(writers)
    assert writers.counts.acknowledged == acknowledged, "it acknowledges while it refuses"
    assert service.is_alive(), service.output()


def wait_refused(writers: Writers) -> None:
    """Waits until each writer was refused several times since now."""
    before = writers.counts.unavailable
    assert writers.wait_until(
        lambda counts: counts.unavailable >= before + _REFUSALS, READY_S_MAX
    ), writers.counts
    assert not writers.counts.failures, "\n".join(writers.counts.failures)


def assert_resumes(service: Service, writers: Writers, expected: Expected) -> None:
    """Writing goes on by itself, in the same process, and every sum is exact."""
    pid = service.pid
    assert writers.wait_acknowledged(BEFORE, READY_S_MAX), (writers.counts, service.output())
    writers.stop(READY_S_MAX)
    assert service.is_alive(), service.output()
    assert service.pid == pid, "another process serves"
    service.wait_ready()
    assert_exact(service, expected)


def suffers(
    service: Service, seed: int, fault: Callable[[], None], mend: Callable[[], None], *parts: str
) -> Expected:
    """The whole story, in one process. Returns what must be there."""
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        fault()
        assert_refuses(service, writers, expected, *parts)
        mend()
        assert_resumes(service, writers, expected)
    return expected
