"""The first of several coroutines decides; nobody goes on behind its back."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.embedded.race import first_end


class Runner:
    """Waits until it is told how to end; notes whether it was cancelled."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.cancelled = False

    async def run(self, result: int = 0, error: Exception | None = None) -> int:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if error is not None:
            raise error
        return result


async def test_the_first_result_counts_and_the_others_are_cancelled():
    slow, quick = Runner(), Runner()
    quick.go.set()
    assert await first_end([slow.run(1), quick.run(2)]) == 2
    assert slow.cancelled


async def test_the_first_error_is_raised_as_it_is():
    slow, quick = Runner(), Runner()
    quick.go.set()
    with pytest.raises(ValueError, match="broken"):
        await first_end([slow.run(), quick.run(error=ValueError("broken"))])
    assert slow.cancelled


async def test_of_two_that_end_together_the_first_counts():
    one, two = Runner(), Runner()
    one.go.set()
    two.go.set()
    assert await first_end([one.run(1), two.run(error=ValueError("late"))]) == 1
    assert await first_end([one.run(1), two.run(2)]) == 1


async def test_cancelling_the_wait_cancels_all():
    one = Runner()
    waiting = asyncio.ensure_future(first_end([one.run()]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert one.cancelled
