from __future__ import annotations

import asyncio
import time

import pytest

from tests.sim.virtual import START_WALL_US, DeadlockError, VirtualLoop, pass_time, run_virtual


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
