"""Answers get lost on the way: 30 % never arrive, 10 % are cut in the middle and reset.

The sender cannot know whether it was counted, sends again under the same key, and is counted once.
"""

from __future__ import annotations

from tests.crash.accounts import assert_exact, assert_sound
from tests.crash.expected import Expected
from tests.crash.proxy import Losses, LossyProxy
from tests.crash.service import READY_S_MAX, Service
from tests.crash.writers import Writers

_BATCHES = 200


def test_lost_answers(service: Service, seed: int) -> None:
    service.start_ready()
    expected = Expected()
    proxy = LossyProxy(service.port, Losses(seed=seed))
    proxy.start()
    writers = Writers(proxy.port, seed, expected)
    writers.start()
    try:
        assert writers.wait_acknowledged(_BATCHES, READY_S_MAX)
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    finally:
        proxy.close()
    assert proxy.seen.dropped > 0, proxy.seen
    assert proxy.seen.reset > 0, proxy.seen
    assert writers.counts.unanswered >= proxy.seen.dropped, (writers.counts, proxy.seen)
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)
