"""Pauses between two tries of what failed for want of the store.

Promises that a shard that is given up is not held by a store that does not answer. Does not know
what is tried.
"""

from __future__ import annotations

import asyncio

from controlplane.leader.times import LeaderTimes
from controlplane.telemetry.pauses import Pauses


class GivenUp(Exception):  # noqa: N818  (the name says what is so; it is used as a state)
    """The shard is not led here any more: whatever was being tried is left as it is."""


class Patience:
    """Pauses that grow, drawn from a seed; `give_up` ends them all."""

    def __init__(self, times: LeaderTimes, seed: bytes) -> None:
        self._stopping = asyncio.Event()
        self._pauses = Pauses(seed, times.retry_min_ms, times.retry_max_ms)

    @property
    def over(self) -> bool:
        """Whether the shard was given up."""
        return self._stopping.is_set()

    def give_up(self) -> None:
        """No pause is waited for any more."""
        self._stopping.set()

    def reset(self) -> None:
        """Something worked: the next pause is a short one again."""
        self._pauses.reset()

    async def pause(self) -> None:
        """Waits before the next try; raises GivenUp when there shall be none."""
        try:
            async with asyncio.timeout(self._pauses.next_s()):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise GivenUp
