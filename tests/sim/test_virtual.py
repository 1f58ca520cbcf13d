from __future__ import annotations

import asyncio
import time

import pytest

from tests.sim.virtual import (
    START_WALL_US,
    DeadlockError,
    Stoppable,
    VirtualLoop,
    pass_time,
    run_virtual,
)


def test_an_hour_passes_at_once():
    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        begun = loop.time()
        await pass_time(3_600)
        return loop.time() - begun, loop.wall_us

    before = time.monotonic()
    passed, wall_us = run_virtual(main())
    assert passed == pytest.approx(3_600)
    assert wall_us == pytest.approx(START_WALL_US + 3_600_000_000, abs=10)
    assert time.monotonic() - before < 3_600


def test_timers_fire_in_the_order_of_their_deadlines():
    async def main() -> list[int]:
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        for number in (3, 1, 2):
            loop.call_later(number, seen.append, number)
        await pass_time(4)
        return seen

    assert run_virtual(main()) == [1, 2, 3]


def test_a_deadlock_raises_instead_of_waiting():
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run_virtual(main())


def test_a_stopped_process_does_nothing_until_it_goes_on():
    async def main() -> list[tuple[str, int]]:
        loop = asyncio.get_running_loop()
        begun, seen = loop.time(), []
        process = Stoppable()

        async def work() -> None:
            for _ in range(3):
                await pass_time(1)
                seen.append(("task", round(loop.time() - begun)))

        task = process.run(loop.create_task, work())
        process.run(loop.call_later, 2, lambda: seen.append(("timer", round(loop.time() - begun))))
        await pass_time(1.5)
        process.stop()
        await pass_time(8.5)
        assert seen == [("task", 1)]
        process.go_on()
        await task
        return seen

    told = run_virtual(main())
    assert sorted(told[1:3]) == [("task", 10), ("timer", 10)]
    assert told[3] == ("task", 11)


def test_what_a_process_gave_up_while_it_was_stopped_is_not_done():
    async def main() -> list[str]:
        seen: list[str] = []
        process = Stoppable()
        timer = process.run(asyncio.get_running_loop().call_later, 1, seen.append, "late")
        process.stop()
        await pass_time(2)
        timer.cancel()
        process.go_on()
        await pass_time(1)
        return seen

    assert run_virtual(main()) == []
