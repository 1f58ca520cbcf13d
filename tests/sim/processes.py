"""Simulated task processes: each does what its plan says, and dies of what kills it.

The witness is told of every start and end at the moment itself, whoever learns of it later.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from agent.core.entries import Assign

KILL_S = 0.002


class Plan(NamedTuple):
    """What a process does: it ends by itself after `lasts_s` with `code`; so long after SIGTERM, if
    at all, with `term_code` (-1: of the signal). `starts` False: there is no such program.
    """

    lasts_s: float
    code: int = 0
    term_s: float | None = 0.003
    term_code: int = -1
    starts: bool = True


def random_plan(random: Random) -> Plan:
    """Mostly short and successful; some outlive every lease, some ignore a gentle end."""
    lasts_s = random.choice((0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 8.0, 15.0)) * random.uniform(0.5, 1.5)
    if random.random() < 0.5:
        lasts_s = min(lasts_s, 0.5)
    code = 0 if random.random() < 0.9 else random.randint(1, 3)
    term_s = None if random.random() < 0.2 else random.choice((0.001, 0.05, 0.4))
    term_code = random.choice((-1, -1, -1, 0, 1))
    return Plan(lasts_s, code, term_s, term_code, starts=random.random() >= 0.01)


class SimProcess:
    """One process; `ended` is called once, with its exit code (-1: none) and signal."""

    def __init__(self, assign: Assign, plan: Plan, ended: Callable[[SimProcess], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.assign = assign
        self.code, self.signal = -1, 0
        self.alive = True
        self._plan = plan
        self._ended = ended
        self._timers = [self._loop.call_later(plan.lasts_s, self._end, plan.code, 0)]

    def terminate(self) -> None:
        """SIGTERM."""
        plan = self._plan
        if plan.term_s is not None:
            number = signal.SIGTERM if plan.term_code < 0 else 0
            timer = self._loop.call_later(plan.term_s, self._end, plan.term_code, int(number))
            self._timers.append(timer)

    def kill(self, delay_s: float = KILL_S) -> None:
        """SIGKILL, to its whole group."""
        kill = self._loop.call_later(delay_s, self._end, -1, int(signal.SIGKILL))
        self._timers.append(kill)

    def _end(self, code: int, number: int) -> None:
        for timer in self._timers:
            timer.cancel()
        if self.alive:
            self.alive = False
            self.code, self.signal = code, number
            self._ended(self)
