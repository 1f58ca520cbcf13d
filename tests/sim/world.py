"""A whole cluster from a seed: random work, random faults at random moments.

Three phases: work with faults, healing (nothing breaks any more, schedules are paused), and the
judgement. The same seed gives the same history; `digest` of a report says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from mainspring.v1 import dag_pb2 as pb

from agent.core.entries import Assign
from controlplane.core.states import AttemptState
from tests.sim.breakage import Breakage
from tests.sim.cluster import Cluster
from tests.sim.host_breakage import HostBreakage
from tests.sim.hosts import SimHost
from tests.sim.invariants import ViolationError
from tests.sim.memory_store import ConnectionLost, Point
from tests.sim.processes import Plan, random_plan
from tests.sim.virtual import pass_time, run_virtual
from tests.sim.workload import random_dag

GIANT = "giant"
LONGEST_S = 3_600.0
Told = TypeVar("Told")


@dataclass(frozen=True)
class Options:
    """The size of a world, and how long its first phase lasts (virtual seconds)."""

    nodes: int = 3
    shards: int = 4
    agents: int = 4
    dags: int = 6
    seconds: float = 60.0


@dataclass
class Report:
    """What happened."""

    seed: int
    virtual_s: float = 0.0
    runs: int = 0
    attempts: int = 0
    assignments: int = 0
    takeovers: int = 0
    faults: int = 0
    lost: int = 0
    unknown: int = 0
    late: int = 0
    adopted: int = 0
    digest: str = ""


class World(Cluster):
    """One simulated cluster, its faults and its people."""

    def __init__(self, seed: int, options: Options) -> None:
        super().__init__(seed, nodes=options.nodes, shards=options.shards)
        self._options = options
        self.report = Report(seed)
        self._breaking = True
        self._store_fault_share = self.random.choice((0.0, 0.002, 0.01))
        # How often a process dies at the very moment in which it does something.
        self._trip_share = self.random.choice((0.0, 0.001, 0.004))
        self._fault_share = self.random.choice((0.1, 0.28, 0.28, 0.5))
        self._breakage = Breakage(self)
        self._host_breakage = HostBreakage(self)

    async def run(self) -> Report:
        """Lives through all phases; raises ViolationError."""
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._live()
        except Exception as error:
            tail = "\n".join(self.lines[-40:])
            raise ViolationError(f"seed {self.report.seed}: {error!r}\n{tail}") from error
        return self._finished()

    async def _live(self) -> None:
        options, people = self._options, self.people
        self.start_nodes()
        for number in range(options.agents):
            self.start_host(f"agent-{number}")
        for number in range(options.dags):
            people.apply(random_dag(self.random, f"dag-{number}"))
        giant = self._ask_for_a_giant()
        end_s = self.loop.time() + options.seconds
        while self.loop.time() < end_s:
            await pass_time(self.random.uniform(0.05, 0.6))
            self._act()
            self.check()
        self._heal()
        await self.settled(apart=GIANT)
        people.cancel(GIANT, giant)
        await self.settled()
        self.check_end()

    def _act(self) -> None:
        """One random thing happens."""
        self.people.decide_some(0.05)
        if self.random.random() >= self._fault_share:
            self.people.act()
            return
        self.report.faults += 1
        if self.random.random() < 0.5:
            self._breakage.strike()
        else:
            self._host_breakage.strike()

    def _ask_for_a_giant(self) -> bytes:
        """A run that fits no agent is there all the time: it must not be in anybody's way."""
        spec = pb.DagSpec(dag=GIANT)
        spec.tasks.add(task="giant", process=pb.ProcessSpec(argv=["work"])).resources.cpu = 99.0
        self.people.apply(spec)
        self.people.dags.remove(GIANT)
        return self.people.trigger(GIANT)

    def _heal(self) -> None:
        self.note("heal")
        self._breaking = False
        self._breakage.heal()
        self._host_breakage.heal()
        for dag in self.people.dags:
            self.people.pause(dag, paused=True)

    def plan(self, assign: Assign) -> Plan:
        return random_plan(self.random)

    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None:
        if self._breaking and self.random.random() < self._trip_share:
            self._host_breakage.strike_at(host, point)

    async def store_fault(self, point: Point, shard: int, node: str) -> None:
        """A stall, or a lost connection, after which the backend may commit all the same."""
        if not self._breaking or self.random.random() > self._store_fault_share:
            return
        self.note("store", point.name, shard)
        if point is Point.COMMIT and self.random.random() < 0.5:
            delay_s = self.random.uniform(0.0, 0.5)
            self.loop.call_outside(delay_s, self.database.land, shard)
        if self.random.random() < 0.3:
            await pass_time(self.random.uniform(0.1, 3.0))
        else:
            raise ConnectionLost

    def _finished(self) -> Report:
        report, tables = self.report, self.database.tables
        ends = [AttemptState(row["state"]) for row in tables["attempt"].values()]
        report.virtual_s = self.loop.time()
        report.runs = len(self.people.runs)
        report.attempts = self.invariants.spawns
        report.assignments = self.invariants.assignments
        report.takeovers = len(self.database.takeovers)
        report.lost = ends.count(AttemptState.LOST)
        report.unknown = ends.count(AttemptState.UNKNOWN)
        report.late = len(tables["attempt_late"])
        report.adopted = sum(row["adopted"] for row in tables["attempt_late"].values())
        report.digest = self.digest
        return report


def simulate(seed: int, options: Options | None = None, world_class: type[World] = World) -> Report:
    """Runs one world; raises ViolationError with the last lines of its history."""

    async def main() -> Report:
        return await world_class(seed, options or Options()).run()

    return in_silence(main)


def in_silence(main: Callable[[], Coroutine[Any, Any, Told]]) -> Told:
    """Runs a coroutine function on virtual time; the logs of the production code go nowhere."""
    structlog.configure(processors=[_drop])
    try:
        return run_virtual(main())
    finally:
        structlog.reset_defaults()


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent
