"""A whole cluster from a seed: random work, random faults at random moments.

Three phases: work with faults, healing (nothing breaks any more, schedules are paused), and the
judgement. The same seed and options give the same history, in every process; `digest` of a report
says so. The faults are planned before anything happens, so that one can be left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from mainspring.v1 import dag_pb2 as pb

from agent.core.entries import Assign
from controlplane.core.states import AttemptState, RunState
from tests.sim.breakage import Breakage
from tests.sim.cluster import Cluster
from tests.sim.etcd_breakage import EtcdBreakage
from tests.sim.history import History
from tests.sim.host_breakage import HostBreakage
from tests.sim.hosts import SimHost
from tests.sim.invariants import ViolationError
from tests.sim.memory_store import Point
from tests.sim.network import NETS
from tests.sim.nodes import TIMES, USUAL_TIMES
from tests.sim.processes import Plan, random_plan
from tests.sim.swarm import Fault, Options, planned, stream
from tests.sim.traps import Traps
from tests.sim.virtual import START_MONO_S, pass_time, run_virtual
from tests.sim.workload import random_dag

GIANT = "giant"
LONGEST_S = 3_600.0
Told = TypeVar("Told")


@dataclass
class Report:
    """What happened. `faults`: how many of each kind struck."""

    seed: int
    virtual_s: float = 0.0
    runs: int = 0
    attempts: int = 0
    assignments: int = 0
    takeovers: int = 0
    instants: int = 0
    lost: int = 0
    unknown: int = 0
    late: int = 0
    adopted: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    digest: str = ""


class SeedFailedError(ViolationError):
    """A violation in the world of a seed. `at_s`: after how many virtual seconds."""

    def __init__(
        self, seed: int, options: Options, cause: BaseException, history: History, at_s: float
    ) -> None:
        super().__init__(history.told(f"seed {seed}: {options}"))
        self.violation = f"{type(cause).__name__}: {cause}"
        self.kind = kind_of(cause)
        self.at_s = at_s


def kind_of(cause: BaseException) -> str:
    """What two failures have in common: the invariant, or the type of the error."""
    if isinstance(cause, ViolationError):
        return str(cause).partition(":")[0]
    return type(cause).__name__


class World(Cluster):
    """One simulated cluster, its faults and its people."""

    def __init__(self, seed: int, options: Options) -> None:
        super().__init__(
            seed,
            nodes=options.nodes,
            shards=options.shards,
            net=NETS[options.net],
            skew_ms=options.skew_ms,
            drift=options.drift,
            times=USUAL_TIMES if options.usual_times else TIMES,
        )
        self._options = options
        self.report = Report(seed)
        self._plans = stream(seed, "plans")
        self._wishes = stream(seed, "wishes")
        self.people.mix, self.people.poison = options.mix, options.poison
        breakage, host_breakage = Breakage(self), HostBreakage(self)
        etcd_breakage = EtcdBreakage(self)
        self._traps = Traps(self, host_breakage)
        self._kinds = {**breakage.kinds, **etcd_breakage.kinds, **host_breakage.kinds}
        self._healers = (
            *(breakage.heal, etcd_breakage.heal),
            *(host_breakage.heal, self._traps.heal),
        )
        # Whether anything was broken so far; afterwards nothing is promised of lateness.
        self._hurt = bool(options.poison)
        self.invariants.rows.instants.healthy_since_us = self._healthy_since_us

    def _healthy_since_us(self) -> int | None:
        return None if self._hurt else self._ready_us

    async def run(self) -> Report:
        """Lives through all phases; raises SeedFailedError."""
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._live()
        except Exception as error:
            self._is_wrong(error)
            raise SeedFailedError(
                self.seed, self._options, error, self.history, self._passed_s
            ) from error
        self.note("V", "no violation")
        return self._finished()

    @property
    def _passed_s(self) -> float:
        return self.loop.time() - START_MONO_S

    async def _live(self) -> None:
        options, people = self._options, self.people
        self.start_nodes()
        for number in range(options.agents):
            self.start_host(f"agent-{number}")
        random = stream(self.seed, "dags")
        for number in range(options.dags):
            people.apply(random_dag(random, f"dag-{number}", options.mix))
        giant = self._ask_for_a_giant()
        # By then every shard has a leader and every agent its sessions.
        self._ready_us = self.loop.wall_us + round(self.lost_s * 1e6)
        await self._work()
        self._heal()
        await self.settled(apart=GIANT)
        people.cancel(GIANT, giant)
        await self.settled()
        self.check_end()

    async def _work(self) -> None:
        """Wishes and faults, each at its time."""
        options, plan = self._options, planned(self.seed, self._options)
        faults, wish_s = iter(plan), 0.0
        fault = next(faults, None)
        while True:
            fault_s = fault.at_s if fault else options.seconds
            next_s = min(wish_s, fault_s, options.seconds)
            await pass_time(max(0.0, next_s - self._passed_s))
            self.check()
            if next_s >= options.seconds:
                return
            if fault is not None and fault_s <= wish_s:
                self._strike(fault)
                fault = next(faults, None)
            else:
                self.people.decide_some(0.05)
                self.people.act()
                wish_s = self._passed_s + self._wishes.expovariate(1.0 / options.wish_s)

    def _strike(self, fault: Fault) -> None:
        self._hurt = True
        self.report.faults[fault.kind] += 1
        self.note("F", f"#{fault.index}", fault.kind)
        if fault.kind == "at-host":
            self._traps.set_at_host(fault.index, fault.random)
        elif fault.kind == "at-store":
            self._traps.set_at_store(fault.index, fault.random)
        else:
            self._kinds[fault.kind](fault.random)

    def _ask_for_a_giant(self) -> bytes:
        """A run that fits no agent is there all the time: it must not be in anybody's way."""
        spec = pb.DagSpec(dag=GIANT)
        spec.tasks.add(task="giant", process=pb.ProcessSpec(argv=["work"])).resources.cpu = 99.0
        self.people.apply(spec)
        self.people.dags.remove(GIANT)
        return self.people.trigger(GIANT)

    def _heal(self) -> None:
        self.note(".", "all is healed, schedules are paused")
        for heal in self._healers:
            heal()
        for dag in self.people.dags:
            self.people.pause(dag, paused=True)
        self._take_back()

    def _take_back(self) -> None:
        """Of the runs that wait for their DAG's limit, only the last of each DAG is still wanted.

        It begins only when the line before it moves; and no seed takes minutes to work off a line.
        """
        rows = self.database.tables["run"].values()
        queued = [row for row in rows if row["state"] == RunState.QUEUED]
        last = {
            row["dag"]: row["run_id"] for row in sorted(queued, key=lambda row: row["created_us"])
        }
        for row in queued:
            if row["run_id"] != last[row["dag"]]:
                self.people.cancel(row["dag"], row["run_id"])

    def plan(self, assign: Assign) -> Plan:
        return random_plan(self._plans)

    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None:
        self._traps.at_host(point, host)

    async def store_fault(self, point: Point, shard: int, node: str) -> None:
        await self._traps.at_store(point, shard, node)

    def _finished(self) -> Report:
        report, tables = self.report, self.database.tables
        ends = Counter(AttemptState(row["state"]) for row in tables["attempt"].values())
        report.virtual_s = self._passed_s
        report.runs = len(tables["run"])
        report.attempts = self.invariants.spawns
        report.assignments = self.invariants.assignments
        report.takeovers = len(self.database.takeovers)
        report.instants = self.invariants.rows.instants.judged
        report.lost = ends[AttemptState.LOST]
        report.unknown = ends[AttemptState.UNKNOWN]
        report.late = len(tables["attempt_late"])
        report.adopted = sum(row["adopted"] for row in tables["attempt_late"].values())
        report.digest = self.history.digest
        return report


def simulate(seed: int, options: Options | None = None, world_class: type[World] = World) -> Report:
    """Runs one world; raises SeedFailedError with its history."""
    return told(seed, options, world_class)[0]


def told(
    seed: int, options: Options | None = None, world_class: type[World] = World
) -> tuple[Report, History]:
    """Runs one world; its report and its history."""

    async def main() -> tuple[Report, History]:
        world = world_class(seed, options or Options())
        return await world.run(), world.history

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
