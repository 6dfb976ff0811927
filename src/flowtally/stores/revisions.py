"""The revision of each hour, in memory, so that a repeated read touches nothing.

Set when a batch is committed, before it is answered. What is not here is asked of the store's
tables; what is here is never older than they are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from flowtally.model import Revision


class Revisions:
    """A bounded map from hour to revision; safe to use from any thread."""

    def __init__(self, hours_max: int) -> None:
        self._hours_max = hours_max
        self._revisions: OrderedDict[int, Revision] = OrderedDict()
        self._forgotten_through = 0
        self._lock = threading.Lock()

    def get(self, hour: int) -> Revision | None:
        """The hour's revision, or None where the store must be asked."""
        return self._revisions.get(hour)

    def touch(self, hours: Iterable[int], revision: Revision, as_of: int) -> None:
        """Notes that the hours changed, or were found so, as of a sequence number. An older
        revision is ignored, and so is one from before the last `forget`."""
        with self._lock:
            if as_of < self._forgotten_through:
                return
            for hour in hours:
                known = self._revisions.get(hour)
                if known is None or known.number < revision.number:
                    self._revisions[hour] = revision
                    self._revisions.move_to_end(hour)
            while len(self._revisions) > self._hours_max:
                self._revisions.popitem(last=False)

    def forget(self, through: int, hours: Iterable[int] | None = None) -> None:
        """Forgets all: after an expiry, the store alone knows which hours changed up to it. Or
        some hours, about to change: what is found of before that is not noted any more."""
        with self._lock:
            self._forgotten_through = through
            if hours is None:
                self._revisions.clear()
            else:
                for hour in hours:
                    self._revisions.pop(hour, None)
