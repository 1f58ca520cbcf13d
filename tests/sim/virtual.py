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
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

Result = TypeVar("Result")

# An instant far from the epoch, so that a confusion of the two clocks shows.
START_WALL_US = 1_790_000_000_000_000
START_MONO_S = 1_000.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set."""


class Call:
    """A call that is due, now or at some time, until it is done or cancelled.

    What the event loop calls a handle, without what virtual time has no use for. `context` None:
    that of the loop itself; `owner`: the process that has asked for it.
    """

    __slots__ = ("_when", "args", "callback", "context", "dropped", "owner")

    def __init__(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
        owner: Stoppable | None,
    ) -> None:
        self._when = when
        self.callback = callback
        self.args = args
        self.context = context
        self.owner = owner
        self.dropped = False

    def cancel(self) -> None:
        """It is not done any more."""
        self.dropped = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.dropped

    def when(self) -> float:
        """The time at which it is due."""
        return self._when


class Stoppable:
    """A process that can be stopped and goes on where it was, as by SIGSTOP and SIGCONT."""

    def __init__(self) -> None:
        self.stopped = False
        self._due: list[Call] = []
        self._context = Context()
        self._context.run(_OWNER.set, self)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function as a part of this process."""
        return self._context.copy().run(function, *args)

    def hold(self, call: Call) -> None:
        """A call that is due has to wait until the process goes on."""
        self._due.append(call)

    def stop(self) -> None:
        """Nothing of it goes on."""
        self.stopped = True

    def go_on(self) -> None:
        """What became due meanwhile is done now, in its order."""
        self.stopped = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        due, self._due = self._due, []
        for call in due:
            loop.do_soon(call)


_OWNER: ContextVar[Stoppable] = ContextVar("owner")


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of a simulation. Timers of one moment fire in the order in which they were set."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = START_MONO_S
        self._soon: deque[Call] = deque()
        self._timers: list[tuple[float, int, Call]] = []
        self._set = 0

    def time(self) -> float:
        """Virtual monotonic time, in seconds."""
        return self._now_s

    @property
    def wall_us(self) -> int:
        """Virtual wall time, in microseconds since the epoch."""
        return START_WALL_US + round((self._now_s - START_MONO_S) * 1e6)

    # Calls stand for the handles of asyncio, which looks at no more of them than they have.

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        context = context or copy_context()
        call = Call(when, callback, args, context, context.get(_OWNER))
        self._set += 1
        heappush(self._timers, (when, self._set, call))
        return call

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        context = context or copy_context()
        call = Call(self._now_s, callback, args, context, context.get(_OWNER))
        self._soon.append(call)
        return call

    def call_outside(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Call:
        """As call_later, for what belongs to no process that can be stopped."""
        when = self._now_s + delay_s
        call = Call(when, callback, args, None, None)
        self._set += 1
        heappush(self._timers, (when, self._set, call))
        return call

    def do_soon(self, call: Call) -> None:
        """A call that a process has held back is due again."""
        self._soon.append(call)

    def run_in_executor(self, _executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
        """There are no threads here: it is done at once."""
        done = self.create_future()
        done.set_result(function(*args))
        return done

    def _run_once(self) -> None:
        """Turns until the loop is to stop: each of the calls that were due at its beginning;
        without any, time passes first.
        """
        soon, timers = self._soon, self._timers
        while not self._stopping:
            while timers and timers[0][2].dropped:
                heappop(timers)
            if not soon:
                if not timers:
                    raise DeadlockError("nothing is ready and no timer is set")
                self._now_s = max(self._now_s, timers[0][0])
            while timers and timers[0][0] <= self._now_s:
                soon.append(heappop(timers)[2])
            for _ in range(len(soon)):
                call = soon.popleft()
                if not call.dropped:
                    owner = call.owner
                    if owner is not None and owner.stopped:
                        owner.hold(call)
                    else:
                        self._do(call)

    def _do(self, call: Call) -> None:
        try:
            if call.context is None:
                call.callback(*call.args)
            else:
                call.context.run(call.callback, *call.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is told)
            message = f"Exception in {call.callback!r}"
            self.call_exception_handler({"message": message, "exception": error})


def _pass(passed: asyncio.Future[None]) -> None:
    if not passed.done():
        passed.set_result(None)


async def pass_time(seconds: float) -> None:
    """Lets virtual time pass; on a loop of real time it would be a sleep, and is refused."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError("time passes by itself here: wait for a signal")
    passed = loop.create_future()
    timer = loop.call_later(seconds, _pass, passed)
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
