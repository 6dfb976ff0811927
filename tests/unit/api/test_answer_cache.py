"""The cache of answers: bounded in bytes, one maker per answer, never older than asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flowtally.api.answer_cache import Answer, AnswerCache, Key
from flowtally.model import Revision
from flowtally.wire.media import SumsFormat

ENTRY_BYTES = 1_000


def key(hour: int) -> Key:
    return (hour, SumsFormat.JSON, None)


class Maker:
    """Makes answers, and counts them."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def of(self, hour: int, revision: int, size: int = 0) -> Callable[[], Awaitable[Answer]]:
        async def make() -> Answer:
            self.made.append(hour)
            return Answer(Revision(revision, 0), 0, b"x" * size, None)

        return make


def test_a_kept_answer_is_not_made_again_until_the_revision_changes() -> None:
    async def story() -> None:
        cache, maker = AnswerCache(10_000), Maker()
        for revision, made in ((1, 1), (1, 1), (2, 2), (2, 2), (1, 2)):
            answer = await cache.get(key(7), Revision(revision, 0), maker.of(7, revision))
            assert answer.revision.number >= revision
            assert len(maker.made) == made

    asyncio.run(story())


def test_the_least_recently_used_goes_first() -> None:
    async def story() -> None:
        cache, maker = AnswerCache(3 * (ENTRY_BYTES + 10)), Maker()

        async def ask(hour: int) -> None:
            await cache.get(key(hour), Revision(1, 0), maker.of(hour, 1, size=10))

        for hour in (1, 2, 3, 1, 4, 1, 3, 4, 2):
            await ask(hour)
        assert maker.made == [1, 2, 3, 4, 2]

    asyncio.run(story())


def test_empty_answers_are_bounded_too() -> None:
    async def story() -> None:
        cache, maker = AnswerCache(10 * ENTRY_BYTES), Maker()
        for hour in range(1_000):
            await cache.get(key(hour), Revision(0, None), maker.of(hour, 0))
        assert len(cache._answers) == 10

    asyncio.run(story())


def test_an_answer_that_is_larger_than_the_cache_is_not_kept() -> None:
    async def story() -> None:
        cache, maker = AnswerCache(5_000), Maker()
        await cache.get(key(1), Revision(1, 0), maker.of(1, 1))
        await cache.get(key(2), Revision(1, 0), maker.of(2, 1, size=5_000))
        await cache.get(key(2), Revision(1, 0), maker.of(2, 1, size=5_000))
        await cache.get(key(1), Revision(1, 0), maker.of(1, 1))
        assert maker.made == [1, 2, 2]

    asyncio.run(story())


def test_a_maker_that_fails_leaves_the_turn_to_the_next() -> None:
    async def story() -> None:
        cache = AnswerCache(10_000)
        gate = asyncio.Event()
        calls = 0

        async def make() -> Answer:
            nonlocal calls
            calls += 1
            await gate.wait()
            if calls == 1:
                raise ValueError("why")
            return Answer(Revision(1, 0), 0, b"", None)

        callers = [asyncio.create_task(cache.get(key(1), Revision(1, 0), make)) for _ in range(3)]
        while not calls:
            await asyncio.sleep(0)
        gate.set()
        with pytest.raises(ValueError, match="why"):
            await callers[0]
        assert (await callers[1]) is (await callers[2])
        assert calls == 2
        assert not cache._making

    asyncio.run(story())
