"""The two ports that hold the service together: where batches go, and where reads come from.

The API knows only these. `compose.py` decides what stands behind them: an embedded store (both at
once), or a write server's journal on one side and Druid on the other. One conformance suite,
`tests/conformance/`, holds every implementation to the words below; they are written here only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from flowtally.errors import KeyReused, NotSupported
from flowtally.model import (
    Backup,
    Batch,
    HourSummary,
    Ledger,
    PartHealth,
    Receipt,
    Revision,
    Sums,
)


class Component(ABC):
    """Anything that is started and stopped. A constructor is inert: `start` acts."""

    @abstractmethod
    async def start(self) -> None:
        """Opens what it needs. Raises `DataFolderError` and leaves nothing open if it cannot."""

    @abstractmethod
    async def close(self) -> None:
        """Finishes what was begun, then refuses further work. May be called twice."""

    @abstractmethod
    def health(self) -> Sequence[PartHealth]:
        """How each part is, without I/O and without waiting."""


class FlowSink(Component):
    """Takes batches.

    Durability: once `write` has returned, every batch of it is on stable storage (for a store that
        keeps nothing on disk: in memory), and survives what the store says that it survives.
    Atomicity: each batch is wholly counted or not at all, whatever dies when.
    Idempotency: a keyed batch whose batch_id was counted before changes nothing; its receipt is
        the first one's with `repeated` set. With another fingerprint it is answered `KeyReused`.
        Both hold within one call as well: the order of the sequence decides which came first.
        A batch_id is remembered for the configured time, at least 24 h, across restarts.
    Order: sums do not depend on the order in which batches come.
    Failure: if `write` raises, each of its batches is either counted whole or not at all, and may
        be written again under its batch_id without harm. After a failed sync it raises
        `NotAccepting` from then on; it never retries the sync.
    Concurrency: one `write` at a time (the committer sees to it); any number of readers beside it.
    """

    visible_on_return: bool
    """Whether a read that begins after `write` returned sees the batch: 200, or else 202."""

    @abstractmethod
    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        """Makes the batches durable together and answers each, in the order given.

        Raises `NotAccepting` where the promise cannot be kept.
        """

    async def settle(self) -> None:
        """Returns once all that `write` had returned for is in what reads answer. Where that is
        so already (`visible_on_return`) there is nothing to do; elsewhere what does it later is
        brought to do it now. Raises `NotAccepting` where it cannot be done."""

    @abstractmethod
    def refusing(self) -> str | None:
        """Why a `write` would be refused now, in a sentence, or None if it would be taken."""

    @abstractmethod
    def count_refused(self, batches: int = 1) -> None:
        """Counts batches that were refused before they came here. Best effort: never raises, and
        a kill may forget the last second's."""


class FlowSource(Component):
    """Answers reads.

    Consistency: a read sees each batch whole or not at all, and never an older state than a read
        that ended before it began. What a `visible_on_return` sink acknowledged before a read
        began is in its answer.
        What another one acknowledged comes later; until it is there, `is_partial` says so.
    Exactness: sums are exact integers of up to 38 digits.
    """

    def instance(self) -> str | None:
        """Names what is read, for good: the same after a restart on the same data, another one for
        other data. None where there is no such name."""
        return None

    @abstractmethod
    async def revision(self, hour: int) -> Revision:
        """How the hour stands, cheaply: in the common case without touching the disk."""

    async def is_partial(self, hour: int) -> bool:
        """Whether more of the hour is known to be on its way: acknowledged, and not yet in its
        sums. Cheap. It belongs to no revision: it changes while the sums stay as they are, and
        where it is False, all that was acknowledged before it was asked for is in every answer
        that is asked for afterwards. So ask for it first."""
        return False

    @abstractmethod
    async def sums(self, hour: int) -> Sums:
        """The sums of one hour; no rows where it holds nothing."""

    @abstractmethod
    async def hours(self) -> Sequence[HourSummary]:
        """The hours that hold at least one flow, in rising order."""

    def counting_disturbs(self) -> str | None:
        """Why `ledger` should not be asked now by whoever can wait: batches would have to, or
        much memory would be taken. None where it disturbs nobody."""
        return None

    @abstractmethod
    async def ledger(self) -> Ledger:
        """The account, as of one moment; `summed` is counted from the rows that reads see."""

    def backed_up(self) -> AbstractAsyncContextManager[Backup]:
        """A copy of what is stored, all of one moment that lies between entering and having
        entered: what was acknowledged before is in it. It is removed at the end. Writing and
        reading go on meanwhile. One at a time.

        Raises `NotSupported`, and on entering `NotAccepting` where there is no room for it.
        """
        raise NotSupported("this store takes no backups")


class FlowStore(FlowSink, FlowSource):
    """Both at once: an embedded store."""

    def announce(self, url: str) -> None:
        """Is told where the service that owns it can be reached; a store with a folder notes it
        there, for whoever finds the folder taken."""
