"""Eight senders that never give up: each batch is sent until it is answered 2xx, then the next.

Now and then one of them sends an old batch again, which must be answered as a repeat, or an old key
with another body, which must be refused; neither may change a sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.batches import BatchGenerator, Sending
from tests.crash.calls import Answer, Connection, NoAnswer, send
from tests.crash.expected import Expected

WRITERS = 8
_REMEMBERED = 50
_REPEAT_PROBABILITY = 0.15
_ALTERED_PROBABILITY = 0.05
_PAUSE_S = 0.05
"""Between two attempts: a refused connection costs nothing and would be tried without end."""


@dataclass
class Counts:
    """What the writers saw; for the report."""

    acknowledged: int = 0
    repeated: int = 0
    refused: int = 0
    unanswered: int = 0
    unavailable: int = 0
    failures: list[str] = field(default_factory=list)


class Writers:
    """Start, wait for acknowledgements, stop. `expected` grows with each first 2xx."""

    def __init__(
        self,
        port: int,
        seed: int,
        expected: Expected,
        writers: int = WRITERS,
        connect: Callable[[int], Connection] = Connection,
    ) -> None:
        self.counts = Counts()
        self._port = port
        self._connect = connect
        self._expected = expected
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(
                target=self._run, args=(BatchGenerator(seed, writer),), name=f"writer-{writer}"
            )
            for writer in range(writers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Lets each finish the batch it is at. The service must be there to take it.

        Raises `AssertionError` with what went wrong, if anything did.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_s)
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        assert not stuck, f"{stuck} got no acknowledgement within {timeout_s} s: {self.counts}"
        assert not self.counts.failures, "\n".join(self.counts.failures)

    def abandon(self) -> None:
        """Ends the writers without waiting for a 2xx; used when a test has failed already."""
        self.counts.failures.append("abandoned")
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def wait_until(self, holds: Callable[[Counts], bool], timeout_s: float) -> bool:
        """Waits until the counts are as wanted, or a writer has failed; False after too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: holds(self.counts) or bool(self.counts.failures), timeout_s
            )

    def wait_acknowledged(self, more: int, timeout_s: float) -> bool:
        """Waits until this many more batches than now are acknowledged."""
        wanted = self.counts.acknowledged + more
        return self.wait_until(lambda counts: counts.acknowledged >= wanted, timeout_s)

    def _run(self, generator: BatchGenerator) -> None:
        done: list[Sending] = []
        with self._connect(self._port) as connection:
            while not self._stopping:
                if done and generator.chance(_REPEAT_PROBABILITY):
                    self._repeat(connection, generator.choose(done))
                elif done and generator.chance(_ALTERED_PROBABILITY):
                    self._alter(connection, generator, generator.choose(done))
                else:
                    sending = generator.next()
                    if self._send(connection, sending):
                        done = [*done[-_REMEMBERED:], sending]

    def _send(self, connection: Connection, sending: Sending) -> bool:
        answer = self._insist(connection, sending.key, sending.body)
        if answer is None:
            return False
        if answer.status not in (200, 202) or answer.json()["records"] != len(sending.records):
            self._fail(f"{sending.key}: {answer}")
            return False
        self._expected.add(sending)
        with self._changed:
            self.counts.acknowledged += 1
            self._changed.notify_all()
        return True

    def _repeat(self, connection: Connection, sending: Sending) -> None:
        answer = self._insist(connection, sending.key, sending.body)
        if answer is None:
            return
        replayed = answer.headers.get("idempotency-replayed") == "true"
        if answer.status not in (200, 202) or not replayed:
            self._fail(f"{sending.key} sent again: {answer} {answer.headers}")
        with self._changed:
            self.counts.repeated += 1

    def _alter(self, connection: Connection, generator: BatchGenerator, sending: Sending) -> None:
        answer = self._insist(connection, sending.key, generator.altered(sending))
        if answer is None:
            return
        if answer.status != 422:
            self._fail(f"{sending.key} with another body: {answer}")
        with self._changed:
            self.counts.refused += 1

    def _insist(self, connection: Connection, key: str, body: bytes) -> Answer | None:
        """Sends until there is an answer that is not "later"; None where a failed test ends it."""
        while not self.counts.failures:
            try:
                answer = send(connection, body, key)
            except NoAnswer:
                with self._changed:
                    self.counts.unanswered += 1
                    self._changed.notify_all()
            else:
                if answer.status not in (409, 429, 503):
                    return answer
                if answer.status != 409 and "retry-after" not in answer.headers:
                    self._fail(f"{key}: {answer} without Retry-After")
                with self._changed:
                    self.counts.unavailable += 1
                    self._changed.notify_all()
            with self._changed:
                self._changed.wait_for(lambda: bool(self.counts.failures), _PAUSE_S)
        return None

    def _fail(self, what: str) -> None:
        with self._changed:
            self.counts.failures.append(what)
            self._changed.notify_all()
