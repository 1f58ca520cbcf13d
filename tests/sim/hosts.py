"""A simulated host: a disk, a clock since its boot, an agent, and its supervisors.

Starts what a service manager would start again, and tells who is to be told what really happens.
Its clock runs as it is told, a little faster or slower than others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, Protocol

from agent.core import events
from agent.core.entries import Assign, Result
from agent.core.types import Amount, Now
from tests.sim.agents import Connection, SimAgent
from tests.sim.disk import SimDisk
from tests.sim.network import Network
from tests.sim.nodes import SimNode
from tests.sim.processes import Plan, SimProcess
from tests.sim.supervisors import Feed, SimSupervisor
from tests.sim.virtual import VirtualLoop

HELLO_S = 10.0
GONE_S = 0.01


class Clock(NamedTuple):
    """How fast a machine's clock goes, and by how much its time of day is wrong.

    Two rates are apart by 16 parts in 1,000 at most: by less than the drift in a lease.
    """

    rate: float = 1.0
    skew_us: int = 0


class Witness(Protocol):
    """Who is told what hosts really do."""

    def assigned(self, agent: str, assign: Assign) -> None: ...
    def spawned(self, agent: str, assign: Assign, capacity: Amount) -> None: ...
    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None: ...
    def journalled(self, result: Result) -> None: ...
    def granted(self, agent: str, amount: Amount, capacity: Amount) -> None: ...
    def sent(self, agent: str, node: str, entries: Sequence[object]) -> None: ...
    def plan(self, assign: Assign) -> Plan: ...
    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None: ...
    def note(self, sign: str, *words: object) -> None: ...


class SimHost:
    """One machine. `name` of its agent; `host` of itself, where two have an agent of one name."""

    def __init__(
        self,
        name: str,
        capacity: Amount,
        nodes: dict[str, SimNode],
        network: Network,
        random: Random,
        witness: Witness,
        host: str = "",
        *,
        clock: Clock,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.name = name
        self.host = host or name
        self.capacity = capacity
        self.nodes = nodes
        self.network = network
        self.random = random
        self.witness = witness
        self.disk = SimDisk(random)
        self.up = False
        self._scrapped = False
        self.boot = 0
        self.agent: SimAgent | None = None
        self.supervisor: SimSupervisor | None = None
        # Supervisors whose folder was deleted: nobody can reach them any more.
        self.forlorn: list[SimSupervisor] = []
        self._rate, self._skew_us = clock
        # The last reading of the clocks, and when it was read: at one moment they show one time.
        self._read_s, self._reading = -1.0, Now(0, 0)
        self._dialling: asyncio.TimerHandle | None = None
        self._boot()

    # Clocks

    def now(self) -> Now:
        """Both clocks of this host."""
        loop = self.loop
        now_s = loop.time()
        if now_s != self._read_s:
            since_boot_ms = (now_s - self._booted_s) * self._rate * 1_000
            mono_ms = self._first_ms + round(since_boot_ms)
            self._read_s, self._reading = now_s, Now(loop.wall_us + self._skew_us, mono_ms)
        return self._reading

    def later(self, mono_ms: int, function: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls a function when the clock since the boot shows a time."""
        wait_s = (mono_ms - self.now().mono_ms) / 1_000 / self._rate
        return self.loop.call_outside(max(0.0, wait_s), function)

    def drifts(self, rate: float) -> None:
        """Its clock since the boot goes at another rate from now on."""
        self._first_ms = self.now().mono_ms
        self._booted_s = self.loop.time()
        self._rate = rate
        self._read_s = -1.0
        if self.agent is not None:
            self.agent.clock_changed()

    @property
    def boot_id(self) -> str:
        """Of this boot."""
        return f"{self.host}/{self.boot}"

    # Lives

    def _boot(self) -> None:
        self.up = True
        self.boot += 1
        self._booted_s = self.loop.time()
        self._first_ms = self.random.randint(5_000, 60_000)
        self._read_s = -1.0
        self.start_agent()

    def start_agent(self) -> None:
        """What a service manager does when an agent has ended."""
        if self.up and self.agent is None:
            self.witness.note(".", self.host, "agent starts")
            self.agent = SimAgent(self)

    def crash_agent(self) -> None:
        """SIGKILL."""
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.die()
        if self.supervisor is not None:
            self.supervisor.hang_up()

    def crash_supervisor(self) -> None:
        """SIGKILL: the kernel takes all its processes along."""
        supervisor = self.supervisor
        if supervisor is None or not supervisor.alive:
            return
        supervisor.die()
        if self.agent is not None:
            gone = events.SupervisorGone("it closed the connection")
            self.agent.supervisor_gone(gone)

    def go_down(self) -> None:
        """The power is gone."""
        self.up = False
        self.crash_agent()
        for supervisor in (self.supervisor, *self.forlorn):
            if supervisor is not None and supervisor.alive:
                supervisor.die(delay_s=0.0)
        self.supervisor = None
        self.forlorn.clear()
        self.network.break_links(lambda link: link.agent == self.host)
        self.disk.crash()

    def come_up(self) -> None:
        """The host boots again."""
        if not self.up and not self._scrapped:
            self._boot()

    def scrap(self) -> None:
        """The machine goes for good."""
        self._scrapped = True
        self.go_down()

    def wipe(self) -> None:
        """The work folder is deleted; who has files open there does not notice at once."""
        self.disk.wipe()
        if self.supervisor is not None:
            self.forlorn.append(self.supervisor)
            self.supervisor = None

    # The agent and its supervisor

    def dial(self, connection: Connection, feed: Feed, *, waited_s: float = 0.0) -> None:
        """Connects an agent, to a new supervisor where there is none; `feed` hears of it."""
        supervisor = self.supervisor
        pause_s = self.random.uniform(0.001, 0.01)
        if supervisor is not None and supervisor.alive:
            if not supervisor.stopped:
                self._dialling = self.loop.call_outside(pause_s, self._join, connection, feed)
                return
            if waited_s >= HELLO_S:
                self.crash_supervisor()
            pause_s = 0.1
        elif supervisor is not None and supervisor.processes:
            # Its namespace is not empty yet.
            pause_s = GONE_S
            if not any(process.alive for process in supervisor.processes.values()):
                self.supervisor = None
        else:
            pause_s = self.random.uniform(0.02, 0.1)
            self._dialling = self.loop.call_outside(pause_s, self._raise, connection, feed)
            return
        self._dialling = self.loop.call_outside(
            pause_s, lambda: self.dial(connection, feed, waited_s=waited_s + pause_s)
        )

    def hang_up(self) -> None:
        """The agent does not want to be connected any more."""
        if self._dialling is not None:
            self._dialling.cancel()

    def _raise(self, connection: Connection, feed: Feed) -> None:
        self.supervisor = SimSupervisor(self)
        self._join(connection, feed)

    def _join(self, connection: Connection, feed: Feed) -> None:
        supervisor = self.supervisor
        if supervisor is None or not supervisor.alive or supervisor.stopped:
            self.dial(connection, feed)
        else:
            connection.supervisor = supervisor
            supervisor.welcome(connection, feed)

    def end_supervisor(self) -> None:
        """The agent ends, and its tasks with it."""
        if self.supervisor is not None:
            self.supervisor.die()

    # What is told

    def plan(self, assign: Assign) -> Plan:
        return self.witness.plan(assign)

    def trip(self, point: str, attempt_id: bytes = b"") -> None:
        """Something has just been done, or is about to be: whoever wants to may break it here."""
        self.witness.trip(point, self, attempt_id)

    def spawned(self, assign: Assign) -> None:
        self.witness.spawned(self.host, assign, self.capacity)

    def ended(self, process: SimProcess) -> None:
        self.witness.ended(process.assign.attempt_id, process.code, process.signal)
