"""When to try again, as a pure policy: exponential back-off with full jitter, within a time limit.

Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) spreads
clients that failed together. A `Retry-After` is a floor: the server knows best when not to come.
"""

from __future__ import annotations

from dataclasses import dataclass

RETRIED = (408, 409, 429, 500, 502, 503, 504)
"""Answers after which the same batch may be counted yet, under its key."""
_DOUBLINGS_MAX = 30


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on, and how long to wait before each attempt."""

    give_up_after_s: float = 300.0
    first_wait_s: float = 0.1
    wait_s_max: float = 10.0

    def wait_s(
        self, attempt: int, elapsed_s: float, draw: float, retry_after_s: float
    ) -> float | None:
        """How long to wait after attempt number `attempt` (from 0) failed, or None to give up.

        `draw` is a random number from 0 to 1.
        """
        ceiling_s = min(self.wait_s_max, self.first_wait_s * 2 ** min(attempt, _DOUBLINGS_MAX))
        wait_s = max(draw * ceiling_s, retry_after_s)
        return None if elapsed_s + wait_s > self.give_up_after_s else wait_s
