"""How often each client may ask: a token bucket for each, as one number and without timers.

The number is the time at which the client would have its whole burst again (the generic cell rate
algorithm, ITU-T I.371). A request moves it on by one interval; one that would move it further
ahead than the burst is refused. Whose number lies in the past need not be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from flowtally import limits
from flowtally.clock import Clock

_EVERYBODY_ELSE = ""


# Not frozen, because one is made for each request, and that would make it three times as slow.
@dataclass(slots=True)
class Taken:
    """What became of one request's place in its client's bucket."""

    granted: bool
    remaining: int
    """Requests that could follow at once."""
    full_s: int
    """Until the whole burst is there again."""
    retry_after_s: int


class RateLimit:
    """Counts requests by client: one who has a token by bytes, of which there are no more than
    tokens, and all others by a text. Of those it remembers `RATE_CLIENTS_MAX`, and what is more as
    one: whoever has many addresses takes no place of a token's."""

    def __init__(self, requests_per_s: float, burst_requests: int, clock: Clock) -> None:
        self._interval_s = 1 / requests_per_s
        self._burst_s = burst_requests / requests_per_s
        self._clock = clock
        self._full_at_s: dict[str | bytes, float] = {}
        self._swept_at_s = clock.monotonic_s()
        window_s = max(1, ceil(self._burst_s))
        self._policy = f'ratelimit-policy: "requests";q={burst_requests};w={window_s}\r\n'.encode()

    def take(self, client: str | bytes) -> Taken:
        """Takes one request's place, if there is one."""
        now_s = self._clock.monotonic_s()
        known = self._full_at_s.get(client)
        if known is None:
            client = self._place_for(client, now_s)
            known = self._full_at_s.get(client, now_s)
        full_at_s = max(known, now_s) + self._interval_s
        over_s = full_at_s - now_s - self._burst_s
        # Rounding must not take the last request of a burst away.
        granted = over_s < self._interval_s * 1e-6
        if granted:
            self._full_at_s[client] = full_at_s
        else:
            full_at_s -= self._interval_s
        remaining = int((self._burst_s - (full_at_s - now_s)) / self._interval_s + 1e-6)
        return Taken(
            granted,
            max(0, remaining),
            max(0, ceil(full_at_s - now_s)),
            0 if granted else max(1, ceil(over_s)),
        )

    def lines(self, taken: Taken) -> bytes:
        """The header lines of the answer (draft-ietf-httpapi-ratelimit-headers-11)."""
        return self._policy + b'ratelimit: "requests";r=%d;t=%d\r\n' % (
            taken.remaining,
            taken.full_s,
        )

    def _place_for(self, client: str | bytes, now_s: float) -> str | bytes:
        """Under which name a client that is not remembered is counted."""
        found = self._full_at_s
        if len(found) < limits.RATE_CLIENTS_MAX:
            return client
        if now_s - self._swept_at_s >= limits.RATE_SWEEP_S:
            self._swept_at_s = now_s
            self._full_at_s = {one: at_s for one, at_s in found.items() if at_s > now_s}
        if isinstance(client, bytes) or len(self._full_at_s) < limits.RATE_CLIENTS_MAX:
            return client
        return _EVERYBODY_ELSE
