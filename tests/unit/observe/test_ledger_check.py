"""The background count of the ledger: what it finds, how often it is made, and when it is not."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from flowtally import limits
from flowtally.clock import ManualClock, SystemClock
from flowtally.errors import NotAccepting
from flowtally.model import Account, Ledger, LedgerLine, PartHealth
from flowtally.observe.ledger_check import LedgerCheck, imbalance_records
from flowtally.ports import FlowSource

SOUND = LedgerLine(7, accepted=Account(2, 5, 9, 9), summed=Account(2, 5, 9, 9))
SHORT = LedgerLine(8, accepted=Account(2, 5, 9, 9), summed=Account(2, 3, 9, 9))
LONG = LedgerLine(9, accepted=Account(2, 3, 9, 9), summed=Account(2, 5, 9, 9))


class Source:
    """Has the ledger that it is told to have."""

    def __init__(self, *lines: LedgerLine) -> None:
        self.lines = lines
        self.error: Exception | None = None
        self.disturbed: str | None = None
        self.counts = 0
        self.took_s = 0.0
        self.clock = ManualClock()

    async def ledger(self) -> Ledger:
        self.counts += 1
        self.clock.advance_ms(int(self.took_s * 1000))
        if self.error is not None:
            raise self.error
        return Ledger(self.lines)

    def counting_disturbs(self) -> str | None:
        return self.disturbed


def checked(source: Source, times: int = 1) -> PartHealth:
    """The part after so many counts."""

    async def story() -> PartHealth:
        check = LedgerCheck(cast(FlowSource, source), source.clock)
        check.start()
        for _ in range(times):
            await check.check()
        [part] = check.health()
        await check.close()
        return part

    return asyncio.run(story())


def test_a_ledger_that_balances() -> None:
    part = checked(Source(SOUND))
    assert (part.state, part.hint, part.facts["imbalance_records"]) == ("ok", "", 0)
    assert part.facts["accepted_records"] == 5


def test_what_is_missing_here_and_too_much_there_is_no_balance() -> None:
    assert imbalance_records(Ledger((SOUND, SHORT, LONG))) == 4
    part = checked(Source(SOUND, SHORT, LONG))
    assert (part.state, part.hint) == ("error", "docs/runbooks/imbalance.md")
    assert part.facts["imbalance_records"] == 4
    assert "4 records in 2 arrival hours; the first is 8, by " in part.detail
    assert "Account" not in part.detail


def test_bytes_alone_count_as_well() -> None:
    line = LedgerLine(8, accepted=Account(2, 5, 9, 9), summed=Account(2, 5, 9, 8))
    part = checked(Source(line))
    assert (part.state, part.facts["imbalance_records"]) == ("error", 0)


def test_a_ledger_that_cannot_be_counted_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(SOUND)
    source.error = NotAccepting("the store is closed")
    part = checked(source)
    assert (part.state, part.hint) == ("warning", "docs/runbooks/imbalance.md")
    assert part.last_error == "the ledger could not be counted: the store is closed"
    source.error = ValueError("odd")
    assert checked(source).last_error == "the ledger could not be counted: odd"
    assert [record.message for record in caplog.records] == ["the ledger could not be counted"]


def test_where_counting_disturbs_it_is_not_done() -> None:
    source = Source(SOUND)
    source.disturbed = "too much"
    part = checked(source)
    assert (part.state, part.detail, source.counts) == ("ok", "too much", 0)


def test_it_is_told_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    checked(Source(SHORT), times=3)
    assert [record.message for record in caplog.records] == ["the ledger does not balance"]


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.0, 60.0), (1.0, 200.0)])
def test_the_longer_a_count_takes_the_longer_the_next_one_waits(
    monkeypatch: pytest.MonkeyPatch, took_s: float, pause_s: float
) -> None:
    async def story() -> None:
        source = Source(SOUND)
        source.took_s = took_s
        turned = asyncio.Event()

        async def turn(_: float) -> None:
            turned.set()
            await released.acquire()

        released = asyncio.Semaphore(0)
        monkeypatch.setattr("flowtally.observe.ledger_check.asyncio.sleep", turn)
        check = LedgerCheck(cast(FlowSource, source), source.clock)
        check.start()

        async def after(seconds: float) -> int:
            await turned.wait()
            turned.clear()
            source.clock.advance_ms(int(seconds * 1000))
            released.release()
            await turned.wait()
            return source.counts

        assert await after(limits.LEDGER_CHECK_FIRST_S - 0.1) == 0
        assert await after(0.1) == 1
        assert await after(pause_s - 0.1) == 1
        assert await after(0.1) == 2
        await check.close()

    asyncio.run(asyncio.wait_for(story(), 60))


def test_its_task_is_missed() -> None:
    async def story() -> None:
        check = LedgerCheck(cast(FlowSource, Source(SOUND)), SystemClock())
        assert check.health() == ()
        check.start()
        assert [part.state for part in check.health()] == ["ok"]
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "ledger-check"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        [part] = check.health()
        assert (part.state, part.is_stuck) == ("error", True)
        assert part.last_error == "its background task was cancelled"
        await check.close()

    asyncio.run(story())
