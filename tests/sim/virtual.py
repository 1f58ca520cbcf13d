"""An asyncio event loop on virtual time: it never waits, it moves its clock to the next timer.

Promises: the same coroutines give the same order of steps; nothing waits in real time. A loop
with nothing ready and no timer would sleep for ever: that is a deadlock of what is simulated, and
raises. All that a simulated process has asked of the loop belongs to it, by its context: while the
process is stopped none of it is done, and what became due is done when the process goes on.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar
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
        self._due: deque[tuple[asyncio.Handle, Callable[[], None]]] = deque()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function as a part of this process."""
        context = Context()
        context.run(_OWNER.set, self)
        return context.run(function, *args)

    def held(self, handle: asyncio.Handle, call: Callable[[], None]) -> bool:
        """Whether a call has to wait until the process goes on."""
        if self.stopped:
            self._due.append((handle, call))
        return self.stopped

    def stop(self) -> None:
        """Nothing of it goes on."""
        self.stopped = True

    def go_on(self) -> None:
        """What became due meanwhile is done now, in its order."""
        self.stopped = False
        loop = asyncio.get_running_loop()
        while self._due:
            handle, call = self._due.popleft()
            if not handle.cancelled():
                loop.call_soon(call, context=Context())


_OWNER: ContextVar[Stoppable] = ContextVar("owner")


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

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        owner = _owner(context)
        if owner is None:
            return super().call_at(when, callback, *args, context=context)
        guard = _Guard(owner, self, callback, args, context)
        guard.handle = timer = super().call_at(when, guard, context=context)
        return timer

    def call_soon(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        owner = _owner(context)
        if owner is None:
            return super().call_soon(callback, *args, context=context)
        guard = _Guard(owner, self, callback, args, context)
        guard.handle = handle = super().call_soon(guard, context=context)
        return handle

    def call_outside(
        self, delay_s: float, callback: Callable[..., Any], *args: Any
    ) -> asyncio.TimerHandle:
        """As call_later, for what belongs to no process that can be stopped."""
        return super().call_at(self.time() + delay_s, callback, *args, context=Context())

    def run_in_executor(self, _executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
        """There are no threads here: it is done at once."""
        done = self.create_future()
        done.set_result(function(*args))
        return done


def _owner(context: Context | None) -> Stoppable | None:
    return _OWNER.get(None) if context is None else context.get(_OWNER)


class _Guard:
    """A call of a process that may be stopped when the call is due."""

    __slots__ = ("_args", "_callback", "_context", "_loop", "_owner", "handle")

    def __init__(
        self,
        owner: Stoppable,
        loop: VirtualLoop,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._owner, self._loop = owner, loop
        self._callback, self._args, self._context = callback, args, context
        self.handle: asyncio.Handle

    def __call__(self) -> None:
        if not self._owner.held(self.handle, self._again):
            self._callback(*self._args)

    def _again(self) -> None:
        if self.handle.cancelled() or self._owner.held(self.handle, self._again):
            return
        context = self._context
        if context is None:
            self._owner.run(self._callback, *self._args)
        else:
            context.run(self._callback, *self._args)


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
