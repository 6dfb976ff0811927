"""The committer: who is committed with whom, in which order, and what each waiter is told.

The sink below records the groups it is given; a test can hold it in the middle of a commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from flowtally import limits
from flowtally.clock import ManualClock
from flowtally.errors import CommitFailed, KeyReused, NotAccepting, Overloaded
from flowtally.ingest.committer import Committer, CommitterLimits
from flowtally.model import Batch, PartHealth, Receipt, Tally
from flowtally.ports import FlowSink


class RecordingSink(FlowSink):
    """Answers every batch with its receipt, but for those it is told to answer otherwise."""

    visible_on_return = True

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.released = asyncio.Event()
        self.released.set()
        self.failure: Exception | None = None
        self.reason: str | None = None
        self.reused: set[str] = set()
        self._taken = asyncio.Condition()

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def health(self) -> Sequence[PartHealth]:
        return ()

    async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
        async with self._taken:
            self.groups.append([batch.batch_id for batch in batches])
            self._taken.notify_all()
        await self.released.wait()
        if self.failure is not None:
            raise self.failure
        return [
            KeyReused(batch.batch_id)
            if batch.batch_id in self.reused
            else Receipt(batch.batch_id, batch.records, len(batch.tally))
            for batch in batches
        ]

    def refusing(self) -> str | None:
        return self.reason

    def count_refused(self, batches: int = 1) -> None:
        """Counted by nobody here."""

    async def taken(self, groups: int) -> None:
        """Waits until so many groups have come."""
        async with self._taken:
            await self._taken.wait_for(lambda: len(self.groups) >= groups)


def batch(name: str, flows: int = 1) -> Batch:
    rows = {(str(index), "b", "v", 1): [1, 1, 1] for index in range(flows)}
    return Batch(name, True, b"body", Tally(rows), flows)


def told(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def submitted(committer: Committer, batches: Sequence[Batch]) -> list[asyncio.Task[Receipt]]:
    """Submits each from a task of its own, in order, and returns when all wait."""
    tasks = [asyncio.create_task(committer.submit(one)) for one in batches]
    # Tasks run in the order they were made: when this one goes on, all have submitted.
    await asyncio.sleep(0)
    return tasks


def test_a_batch_that_comes_alone_is_committed_at_once_and_alone() -> None:
    async def story() -> None:
        sink = RecordingSink()
        committer = Committer(sink, ManualClock())
        assert await committer.submit(batch("one", flows=3)) == Receipt("one", 3, 3)
        assert await committer.submit(batch("two")) == Receipt("two", 1, 1)
        assert sink.groups == [["one"], ["two"]]

    told(story)


def test_what_comes_during_a_commit_goes_into_the_next_one_in_order() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.released.clear()
        committer = Committer(sink, ManualClock())
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks += await submitted(committer, [batch(name) for name in "abcde"])
        assert committer.queued == 5
        assert sink.groups == [["first"]]
        sink.released.set()
        answers = await asyncio.gather(*tasks)
        assert [answer.batch_id for answer in answers] == ["first", *"abcde"]
        assert sink.groups == [["first"], list("abcde")]
        assert committer.queued == 0

    told(story)


@pytest.mark.parametrize(
    ("bounds", "groups"),
    [
        pytest.param(
            CommitterLimits(group_batches_max=2),
            [["a", "b"], ["c", "d"]],
            id="batches",
        ),
        pytest.param(
            CommitterLimits(group_rows_max=5),
            [["a", "b"], ["c"], ["d"]],
            id="rows",
        ),
    ],
)
def test_a_group_is_bounded(bounds: CommitterLimits, groups: list[list[str]]) -> None:
    """By batches and by rows; a batch larger than the bound goes alone."""

    async def story() -> None:
        sink = RecordingSink()
        sink.released.clear()
        committer = Committer(sink, ManualClock(), bounds)
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        sizes = {"a": 2, "b": 3, "c": 9, "d": 1}
        tasks += await submitted(committer, [batch(name, size) for name, size in sizes.items()])
        sink.released.set()
        await asyncio.gather(*tasks)
        assert sink.groups == [["first"], *groups]

    told(story)


def test_a_reused_key_is_told_to_its_waiter_only() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.reused = {"b"}
        sink.released.clear()
        committer = Committer(sink, ManualClock())
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks = await submitted(committer, [batch(name) for name in "abc"])
        sink.released.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Receipt, KeyReused, Receipt]

    told(story)


def test_a_failed_commit_is_told_to_its_group_and_the_next_one_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.failure = RuntimeError("a secret of the house")
        sink.released.clear()
        committer = Committer(sink, ManualClock())
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks += await submitted(committer, [batch("a"), batch("b")])
        sink.released.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer.commit for answer in answers if isinstance(answer, CommitFailed)] == [
            1,
            2,
            2,
        ]
        assert {str(answer) for answer in answers} == {
            "the batch could not be stored; see the server's log"
        }
        sink.failure = None
        assert await committer.submit(batch("later")) == Receipt("later", 1, 1)

    with caplog.at_level(logging.ERROR):
        told(story)
    assert [line.getMessage() for line in caplog.records] == ["commit failed"] * 2
    assert "a secret of the house" in caplog.text
    last = vars(caplog.records[-1])
    assert (last["purpose"], last["commit"]) == ("store a group of batches", 2)
    assert (last["batches"], last["batch_ids"], last["request_ids"]) == (2, ["a", "b"], [])


def test_a_failed_commit_names_its_requests_as_far_as_a_line_has_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    count = limits.LOG_GROUP_REQUEST_IDS_MAX + 50

    async def story() -> None:
        sink = RecordingSink()
        sink.failure = NotAccepting("the disk is full", retry_after_s=7)
        sink.failure.__cause__ = OSError("no space")
        sink.released.clear()
        committer = Committer(sink, ManualClock())
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks += [
            asyncio.create_task(committer.submit(batch(f"b{number}"), f"r{number}"))
            for number in range(count)
        ]
        await asyncio.sleep(0)
        sink.released.set()
        for answer in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(answer, CommitFailed)
            assert (str(answer), answer.retry_after_s) == ("the disk is full", 7)

    with caplog.at_level(logging.ERROR):
        told(story)
    line = vars(caplog.records[-1])
    assert line["batches"] == count
    assert line["batch_ids"] == [f"b{number}" for number in range(limits.LOG_IDS_MAX)]
    assert line["request_ids"] == [f"r{n}" for n in range(limits.LOG_GROUP_REQUEST_IDS_MAX)]
    assert "no space" in caplog.text


def test_a_commit_is_in_no_requests_name() -> None:
    """Whoever came first has the task made, which commits what others send as well."""
    named: ContextVar[str] = ContextVar("named", default="nobody")

    class NamingSink(RecordingSink):
        async def write(self, batches: Sequence[Batch]) -> Sequence[Receipt | KeyReused]:
            self.groups.append([named.get()])
            return await super().write(batches)

    async def story() -> None:
        sink = NamingSink()
        named.set("the first")
        await Committer(sink, ManualClock()).submit(batch("one"))
        assert sink.groups[0] == ["nobody"]

    told(story)


def test_what_the_sink_says_of_itself_is_passed_on_as_it_is() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.failure = NotAccepting("the disk is nearly full", retry_after_s=7)
        committer = Committer(sink, ManualClock())
        with pytest.raises(NotAccepting, match="the disk is nearly full") as refused:
            await committer.submit(batch("one"))
        assert refused.value.retry_after_s == 7

    told(story)


def test_a_sink_that_refuses_is_not_written_to() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.reason = "the store is closed"
        committer = Committer(sink, ManualClock())
        with pytest.raises(NotAccepting, match="the store is closed"):
            await committer.submit(batch("one"))
        sink.reason = None
        await committer.submit(batch("two"))
        assert sink.groups == [["two"]]

    told(story)


def test_a_full_queue_refuses_at_once_and_takes_again_when_it_has_drained() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.released.clear()
        committer = Committer(sink, ManualClock(), CommitterLimits(queue_batches_max=2))
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks += await submitted(committer, [batch("a"), batch("b")])
        with pytest.raises(Overloaded, match="2 batches wait"):
            await committer.submit(batch("c"))
        sink.released.set()
        await asyncio.gather(*tasks)
        assert (await committer.submit(batch("c"))).batch_id == "c"
        assert sink.groups == [["first"], ["a", "b"], ["c"]]

    told(story)


def test_a_waiter_that_went_away_is_counted_once_a_group_has_it_and_not_before() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.released.clear()
        committer = Committer(sink, ManualClock())
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks += await submitted(committer, [batch("gone"), batch("stays")])
        tasks[0].cancel()
        tasks[1].cancel()
        sink.released.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            asyncio.CancelledError,
            asyncio.CancelledError,
            Receipt,
        ]
        assert sink.groups == [["first"], ["stays"]]

    told(story)


def test_what_waits_is_bounded_by_rows_and_let_go_of_with_its_waiter() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.released.clear()
        committer = Committer(sink, ManualClock(), CommitterLimits(queue_rows_max=10))
        tasks = await submitted(committer, [batch("first", 50)])
        await sink.taken(1)
        waiting = await submitted(committer, [batch("large", 50)])
        with pytest.raises(Overloaded, match="50 flows wait"):
            await committer.submit(batch("small"))
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert committer.queued == 0
        tasks += await submitted(committer, [batch("a", 4), batch("b", 6)])
        with pytest.raises(Overloaded, match="10 flows wait"):
            await committer.submit(batch("c"))
        sink.released.set()
        await asyncio.gather(*tasks)
        tasks = await submitted(committer, [batch("d", 10)])
        await asyncio.gather(*tasks)
        assert sink.groups == [["first"], ["a", "b"], ["d"]]

    told(story)


def test_a_failed_commit_whose_waiter_went_away_harms_nobody() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.failure = NotAccepting("no")
        sink.released.clear()
        committer = Committer(sink, ManualClock())
        [task] = await submitted(committer, [batch("gone")])
        await sink.taken(1)
        task.cancel()
        sink.released.set()
        await committer.close()
        assert task.cancelled()

    told(story)


def test_closing_commits_what_waits_and_then_takes_nothing() -> None:
    async def story() -> None:
        sink = RecordingSink()
        sink.released.clear()
        committer = Committer(sink, ManualClock(), CommitterLimits(group_batches_max=1))
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        tasks += await submitted(committer, [batch("a"), batch("b")])
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(NotAccepting, match="stopping"):
            await committer.submit(batch("late"))
        assert not closing.done()
        sink.released.set()
        await closing
        assert [(await task).batch_id for task in tasks] == ["first", "a", "b"]
        assert sink.groups == [["first"], ["a"], ["b"]]
        await committer.close()

    told(story)


def test_closing_an_idle_committer_twice_is_harmless() -> None:
    async def story() -> None:
        committer = Committer(RecordingSink(), ManualClock())
        await committer.close()
        await committer.close()
        with pytest.raises(NotAccepting, match="stopping"):
            await committer.submit(batch("late"))

    told(story)


def test_a_commit_is_measured_from_its_oldest_batch() -> None:
    async def story() -> None:
        sink, clock = RecordingSink(), ManualClock()
        sink.released.clear()
        measured: list[tuple[int, float, float]] = []
        committer = Committer(sink, clock, observe_commit=lambda *figures: measured.append(figures))
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        assert committer.busy_since_s == clock.monotonic_s()
        tasks += await submitted(committer, [batch("a")])
        clock.advance_ms(2_000)
        [part] = committer.health()
        assert (part.state, part.beat_s) == ("ok", 0.0)
        assert part.detail.startswith("1 batches wait; ")
        tasks += await submitted(committer, [batch("b")])
        sink.released.set()
        await asyncio.gather(*tasks)
        assert measured == [(1, 0.0, 2.0), (2, 2.0, 0.0)]
        await committer.close()
        assert committer.busy_since_s is None

    told(story)


def test_a_slow_commit_is_told_of_while_it_lasts_and_for_half_a_minute() -> None:
    async def story() -> None:
        sink, clock = RecordingSink(), ManualClock()
        committer = Committer(sink, clock)
        sink.released.clear()
        tasks = await submitted(committer, [batch("first")])
        await sink.taken(1)
        clock.advance_ms(2_001)
        [part] = committer.health()
        assert (part.state, part.hint) == ("warning", "docs/runbooks/slow-writes.md")
        assert part.detail == "0 batches wait; the slowest commit of the last 30 s took 2001 ms"
        tasks += await submitted(committer, [batch("second")])
        clock.advance_ms(700)
        sink.released.set()
        await asyncio.gather(*tasks)
        clock.advance_ms(29_000)
        [part] = committer.health()
        assert (part.state, part.is_stuck, part.last_error) == ("warning", False, "")
        assert (part.facts["commit_ms_max"], part.facts["queue_ms_max"]) == (2_701.0, 700.0)
        clock.advance_ms(1_000)
        [part] = committer.health()
        assert (part.state, part.hint) == ("ok", "")
        assert (part.facts["commit_ms_max"], part.facts["queue_ms_max"]) == (0.0, 0.0)

    told(story)


def test_a_commit_that_hangs_is_an_error() -> None:
    async def story() -> None:
        sink, clock = RecordingSink(), ManualClock()
        committer = Committer(sink, clock)
        [idle] = committer.health()
        assert (idle.state, idle.is_stuck) == ("ok", False)
        sink.released.clear()
        [task] = await submitted(committer, [batch("first")])
        await sink.taken(1)
        clock.advance_ms(8_001)
        [part] = committer.health()
        assert (part.state, part.is_stuck, part.needed_to_accept) == ("error", True, True)
        assert part.last_error == "a commit has been under way for 8 s"
        assert part.hint == "docs/runbooks/part-stuck.md"
        sink.released.set()
        await task
        [part] = committer.health()
        assert (part.state, part.is_stuck, part.last_error) == ("warning", False, "")
        await committer.close()

    told(story)
