"""An asyncio event loop on virtual time: it never waits, it moves its clock to the next timer.

Promises: the same coroutines give the same order of steps; nothing waits in real time. A loop
with nothing ready and no timer would sleep for ever: that is a deadlock of what is simulated, and
raises. All that a simulated process has asked of the loop belongs to it, by its context: while the
process is stopped none of it is done, and what became due is done when the process goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heappop, heappush
from typing import Any, TypeVar

Result = TypeVar("Result")

# An instant far from the epoch, so that a confusion of the two clocks shows.
START_WALL_US = 1_790_000_000_000_000
START_MONO_S = 1_000.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set."""


class Stoppable:
    """A process that can be stopped and goes on where it was, as by SIGSTOP and SIGCONT."""

    def __init__(self) -> None:
        self.stopped = False
        self._due: list[asyncio.Handle] = []

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function as a part of this process."""
        context = Context()
        context.run(_OWNER.set, self)
        return context.run(function, *args)

    def hold(self, handle: asyncio.Handle) -> None:
        """A call that is due has to wait until the process goes on."""
        self._due.append(handle)

    def stop(self) -> None:
        """Nothing of it goes on."""
        self.stopped = True

    def go_on(self) -> None:
        """What became due meanwhile is done now, in its order."""
        self.stopped = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        due, self._due = self._due, []
        for handle in due:
            loop.do_soon(handle, self)


_OWNER: ContextVar[Stoppable] = ContextVar("owner")


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of a simulation. Timers of one moment fire in the order in which they were set."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = START_MONO_S
        self._soon: deque[tuple[asyncio.Handle, Stoppable | None]] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Stoppable | None]] = []
        self._set = 0
        self._outside = Context()

    def time(self) -> float:
        """Virtual monotonic time, in seconds."""
        return self._now_s

    @property
    def wall_us(self) -> int:
        """Virtual wall time, in microseconds since the epoch."""
        return START_WALL_US + round((self._now_s - START_MONO_S) * 1e6)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._set += 1
        heappush(self._timers, (when, self._set, timer, _owner(context)))
        return timer

    def call_soon(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append((handle, _owner(context)))
        return handle

    def call_outside(
        self, delay_s: float, callback: Callable[..., Any], *args: Any
    ) -> asyncio.TimerHandle:
        """As call_later, for what belongs to no process that can be stopped."""
        return self.call_at(self._now_s + delay_s, callback, *args, context=self._outside)

    def do_soon(self, handle: asyncio.Handle, owner: Stoppable) -> None:
        """A call that a process has held back is due again."""
        self._soon.append((handle, owner))

    def run_in_executor(self, _executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
        """There are no threads here: it is done at once."""
        done = self.create_future()
        done.set_result(function(*args))
        return done

    def _run_once(self) -> None:
        """One turn, of the calls that were due at its beginning; without any, time passes first."""
        soon, timers = self._soon, self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if not soon:
            if not timers:
                raise DeadlockError("nothing is ready and no timer is set")
            self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            _, _, timer, owner = heappop(timers)
            soon.append((timer, owner))
        for _ in range(len(soon)):
            handle, owner = soon.popleft()
            if handle.cancelled():
                continue
            if owner is not None and owner.stopped:
                owner.hold(handle)
            else:
                handle._run()

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when it is due."""


def _owner(context: Context | None) -> Stoppable | None:
    return _OWNER.get(None) if context is None else context.get(_OWNER)


async def pass_time(seconds: float) -> None:
    """Lets virtual time pass; on a loop of real time it would be a sleep, and is refused."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError("time passes by itself here: wait for a signal")
    passed = loop.create_future()
    timer = loop.call_later(seconds, lambda: passed.done() or passed.set_result(None))
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
