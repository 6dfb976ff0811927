"""Checks in the background that the account balances, as `flowtally verify` does it on demand.

Counting reads every row, so it takes longer the more there is. The next count waits until two
hundred times as long has passed as the last one took: it never costs more than half a percent.
Where a count could only be had by letting writes wait, none is made, and the part says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from flowtally import limits
from flowtally.clock import Clock
from flowtally.errors import Unavailable
from flowtally.heartbeat import ended_part, how_ended
from flowtally.model import Ledger, PartHealth
from flowtally.ports import FlowSource

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_HINT = "docs/runbooks/imbalance.md"
_COLUMNS = ("accepted", "summed", "pending", "expired")


class LedgerCheck:
    """`start`, `close`. It is of the source as reads see it."""

    def __init__(self, source: FlowSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._beat_s = clock.monotonic_s()
        self._counting = False
        self._last: Ledger | None = None
        self._last_s: float | None = None
        self._took_s = 0.0
        self._skipped = ""
        self._error = ""

    def start(self) -> None:
        """Begins to check; the first time when the start is over."""
        self._beat_s = self._clock.monotonic_s()
        self._task = asyncio.create_task(self._check_regularly(), name="ledger-check")

    async def close(self) -> None:
        """Ends it. May be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _check_regularly(self) -> None:
        due_s = self._clock.monotonic_s() + limits.LEDGER_CHECK_FIRST_S
        while True:
            await asyncio.sleep(_TICK_S)
            self._beat_s = self._clock.monotonic_s()
            if self._beat_s >= due_s:
                await self.check()
                wait_s = max(limits.LEDGER_CHECK_INTERVAL_S, self._took_s * limits.LEDGER_REST)
                due_s = self._clock.monotonic_s() + wait_s

    async def check(self) -> None:
        """Counts once, or says why not. Never raises."""
        self._skipped = self._source.counting_disturbs() or ""
        if self._skipped:
            return
        began_s = self._clock.monotonic_s()
        self._counting = True
        try:
            async with asyncio.timeout(limits.LEDGER_CHECK_S_MAX):
                ledger = await self._source.ledger()
        except (Unavailable, TimeoutError) as error:
            # Whoever made that so tells it louder.
            self._error = f"the ledger could not be counted: {str(error) or 'it took too long'}"
            return
        except Exception as error:
            self._error = f"the ledger could not be counted: {str(error) or repr(error)}"
            logger.exception("the ledger could not be counted")
            return
        finally:
            self._counting = False
            self._beat_s = self._clock.monotonic_s()
            self._took_s = self._beat_s - began_s
        self._note(ledger)

    def _note(self, ledger: Ledger) -> None:
        if not ledger.balances and (self._last is None or self._last.balances):
            logger.critical("the ledger does not balance", extra={"difference": _told(ledger)})
        self._last, self._last_s, self._error = ledger, self._clock.monotonic_s(), ""

    def health(self) -> Sequence[PartHealth]:
        """What the last count found."""
        if self._task is None:
            return ()
        ended = how_ended(self._task)
        if ended:
            return (ended_part("ledger", self._beat_s, ended, self._facts()),)
        balances = self._last is None or self._last.balances
        state = "ok" if not self._error else "warning"
        return (
            PartHealth(
                "ledger",
                state if balances else "error",
                self._beat_s,
                detail=self._detail(),
                last_error=self._error,
                hint=_HINT if self._error or not balances else "",
                facts=self._facts(),
                beat_age_s_max=limits.BEAT_AGE_S_MAX
                + (limits.LEDGER_CHECK_S_MAX if self._counting else 0.0),
            ),
        )

    def _detail(self) -> str:
        if self._last is None or self._last_s is None:
            return self._skipped or "not counted yet"
        ago_s = self._clock.monotonic_s() - self._last_s
        found = (
            "it balances" if self._last.balances else f"it does NOT balance: {_told(self._last)}"
        )
        detail = f"{found}; counted {ago_s:.0f} s ago in {self._took_s * 1000:.0f} ms"
        return f"{detail}; {self._skipped}" if self._skipped else detail

    def _facts(self) -> dict[str, int | float | str | bool | None]:
        if self._last is None:
            return {}
        total = self._last.total()
        facts: dict[str, int | float | str | bool | None] = {
            f"{name}_records": getattr(total, name).records for name in _COLUMNS
        }
        facts["imbalance_records"] = imbalance_records(self._last)
        facts["took_ms"] = round(self._took_s * 1000, 1)
        return facts


def imbalance_records(ledger: Ledger) -> int:
    """How many records are too many or missing, whatever the lines together come to."""
    return sum(abs(line.difference.records) for line in ledger.lines)


def _told(ledger: Ledger) -> str:
    wrong = [line for line in ledger.lines if not line.balances]
    first = wrong[0]
    by = first.difference
    return (
        f"{imbalance_records(ledger)} records in {len(wrong)} arrival hours; the first is"
        f" {first.arrival_hour}, by {by.batches} batches, {by.records} records,"
        f" {by.bytes_rx} bytes_rx, {by.bytes_tx} bytes_tx"
    )
