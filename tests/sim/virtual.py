"""An asyncio event loop on virtual time: it never waits, it moves its clock to the next timer.

Promises: the same coroutines give the same order of steps; nothing waits in real time. A loop
with nothing ready and no timer would sleep for ever: that is a deadlock of what is simulated, and
raises.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

Result = TypeVar("Result")

# An instant far from the epoch, so that a confusion of the two clocks shows.
START_WALL_US = 1_790_000_000_000_000
START_MONO_S = 1_000.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set."""


class _VirtualSelector(selectors.BaseSelector):
    """Passes time instead of waiting for files; the loop registers descriptors as numbers."""

    def __init__(self) -> None:
        self.now_s = START_MONO_S
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("nothing is ready and no timer is set")
        self.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of a simulation."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual monotonic time, in seconds."""
        return self._virtual.now_s

    @property
    def wall_us(self) -> int:
        """Virtual wall time, in microseconds since the epoch."""
        return START_WALL_US + round((self._virtual.now_s - START_MONO_S) * 1e6)


async def pass_time(seconds: float) -> None:
    """Lets virtual time pass; on a loop of real time it would be a sleep, and is refused."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError("time passes by itself here: wait for a signal")
    passed = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()


def run_virtual(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end on virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        loop.close()
