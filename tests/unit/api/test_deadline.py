"""A deadline that is set again and again, on one timer."""

from __future__ import annotations

import asyncio

import pytest

from flowtally.api.deadline import Deadline


def made() -> Deadline:
    task = asyncio.current_task()
    assert task is not None
    return Deadline(task)


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_what_ends_in_time_is_left_alone() -> None:
    async def story() -> None:
        deadline = made()
        for _ in range(3):
            with deadline.within(60):
                await asyncio.sleep(0)
        deadline.close()

    asyncio.run(story())


@pytest.mark.parametrize("before_s", [None, 60.0, 0.001])
def test_what_takes_too_long_is_ended(before_s: float | None) -> None:
    """Whatever deadline was set before, and however often."""

    async def story() -> None:
        deadline = made()
        if before_s is not None:
            with deadline.within(before_s):
                await asyncio.sleep(0)
        for _ in range(2):
            with pytest.raises(TimeoutError), deadline.within(0.01):
                await for_ever()
        await asyncio.sleep(0.02)
        deadline.close()

    asyncio.run(story())


def test_an_error_of_the_block_is_not_hidden() -> None:
    async def story() -> None:
        deadline = made()
        with pytest.raises(ValueError, match="why"), deadline.within(60):
            raise ValueError("why")
        deadline.close()

    asyncio.run(story())


def test_a_cancellation_by_somebody_else_is_one() -> None:
    async def waits() -> None:
        deadline = made()
        try:
            with deadline.within(60):
                await for_ever()
        finally:
            deadline.close()

    async def story() -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
