"""The event loop's lag and the clock's jumps, on a real event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from flowtally import limits
from flowtally.clock import SystemClock
from flowtally.model import PartHealth
from flowtally.observe.watch import Watch


class SetClock(SystemClock):
    """The machine's clock, and what somebody sets it ahead by."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


async def until(watch: Watch, part: int, state: str) -> PartHealth:
    """The part, once it is so."""
    async with asyncio.timeout(60):
        while (found := watch.health()[part]).state != state:
            await asyncio.sleep(0.01)
    return found


def test_a_blocked_event_loop_is_told() -> None:
    async def story() -> None:
        seen: list[float] = []
        watch = Watch(SystemClock(), seen.append)
        watch.start()
        assert [part.name for part in watch.health()] == ["event_loop", "clock"]
        # As somebody's code would who forgot that everybody waits for it.
        threading.Event().wait(limits.EVENT_LOOP_LAG_S_MAX + 1.2)
        part = await until(watch, 0, "warning")
        assert part.hint == "docs/runbooks/slow-writes.md"
        assert max(seen) > limits.EVENT_LOOP_LAG_S_MAX
        await watch.close()

    asyncio.run(story())


def test_a_clock_that_is_set_is_told_until_it_is_set_back() -> None:
    async def story() -> None:
        clock = SetClock()
        watch = Watch(clock)
        watch.start()
        assert watch.health()[1].state == "ok"
        clock.ahead_ms = 3_600_000
        part = await until(watch, 1, "warning")
        assert part.hint == "docs/runbooks/clock-jumped.md"
        assert "set ahead by 3600 s" in part.detail
        clock.ahead_ms = 0
        await until(watch, 1, "ok")
        await watch.close()

    asyncio.run(story())


def test_its_task_is_missed() -> None:
    async def story() -> None:
        watch = Watch(SystemClock())
        assert watch.health() == ()
        watch.start()
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "watch"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert states(watch.health()) == [("event_loop", "error"), ("clock", "error")]
        await watch.close()

    asyncio.run(story())


def states(parts: Sequence[PartHealth]) -> list[tuple[str, str]]:
    return [(part.name, part.state) for part in parts]
