"""A whole cluster from a seed: nodes, agents, one store, one election, a workload and faults.

Three phases: work with faults, healing (nothing breaks any more, schedules are paused), and the
judgement. The same seed gives the same history; `digest` of a report says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from random import Random

import structlog
from mainspring.v1 import dag_pb2 as pb

from agent.core.entries import Assign, Result
from agent.core.types import Amount
from controlplane.codec import commands
from controlplane.codec.dag import canonical, compile_version
from controlplane.core.effects import WaitKind
from controlplane.core.states import AttemptState
from controlplane.core.types import DagKey, DagVersion, bucket_of, uuid7
from tests.sim.breakage import Breakage
from tests.sim.election import Keys
from tests.sim.hosts import SimHost
from tests.sim.invariants import Invariants, ViolationError
from tests.sim.memory_store import ConnectionLost, Faults, MemoryDatabase, MemoryStore, Point
from tests.sim.network import Network
from tests.sim.nodes import TIMES, SimNode
from tests.sim.processes import Plan, random_plan
from tests.sim.virtual import VirtualLoop, pass_time, run_virtual
from tests.sim.workload import random_dag

TENANT = "default"
GIANT = "giant"
LEASES = TIMES.leases
LOST_S = (sum((LEASES.lease_ms, LEASES.grace_ms, LEASES.drift_ms, LEASES.authority_ms))) / 1_000
# Healed, a cluster in which nothing moves for so long is stuck: the longest time in which agents
# are given up, with the overtime of tasks, and half a minute.
QUIET_S = LOST_S + 8.0 + 30.0
LONGEST_S = 3_600.0
CORES = 4_000


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


class StoreFaults(Faults):
    """Stalls and broken connections of one node, while they are switched on."""

    def __init__(self, world: World, node: str) -> None:
        self._world = world
        self._node = node

    async def at(self, point: Point, shard: int) -> None:
        world = self._world
        node = world.nodes.get(self._node)
        if world.breakage.database_down or (node is not None and not node.alive):
            # Whether the backend had begun to commit, or not.
            raise ConnectionLost
        await pass_time(world.random.uniform(0.0001, 0.001))
        if not world.breaking or world.random.random() > world.store_fault_share:
            return
        world.note("store", point.name, shard)
        if point is Point.COMMIT and world.random.random() < 0.5:
            # The client is gone; the backend commits a little later, or never.
            delay_s = world.random.uniform(0.0, 0.5)
            world.loop.call_outside(delay_s, world.database.land, shard)
        if world.random.random() < 0.3:
            await pass_time(world.random.uniform(0.1, 3.0))
        else:
            raise ConnectionLost


class World:
    """One simulated cluster."""

    store_class = MemoryStore

    def __init__(self, seed: int, options: Options) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.random = Random(seed)
        self._options = options
        self.report = Report(seed)
        self._history = hashlib.blake2b(digest_size=12)
        self.lines: list[str] = []
        self.breaking = True
        self.store_fault_share = self.random.choice((0.0, 0.002, 0.01))
        self.database = MemoryDatabase(options.shards, lambda: loop.wall_us)
        # How often a process dies at the very moment in which it does something.
        self.trip_share = self.random.choice((0.0, 0.001, 0.004))
        self._keys = Keys(options.shards)
        self.network = Network(self.random)
        self.versions: dict[bytes, DagVersion] = {}
        self.invariants = Invariants(self.database, self.versions)
        self.nodes: dict[str, SimNode] = {}
        self.hosts: dict[str, SimHost] = {}
        self.breakage = Breakage(
            self.random,
            self.network,
            self.nodes,
            self.hosts,
            self.database,
            self.start_node,
            self.note,
        )
        self._failure: BaseException | None = None
        loop.set_exception_handler(self._failed)
        self._dags: list[str] = []
        self._giant = b""
        self._runs: list[tuple[str, bytes]] = []

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Something raised where nobody waits for it: the first such error ends the world."""
        error = context.get("exception")
        if not isinstance(error, BaseException):
            error = RuntimeError(str(context["message"]))
        self._failure = self._failure or error

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.invariants.check_store()

    # What the witnesses say

    def assigned(self, agent: str, assign: Assign) -> None:
        self.invariants.assigned(agent, assign)

    def spawned(self, agent: str, assign: Assign) -> None:
        self.note("spawn", agent, assign.dag, assign.task, assign.number)
        self.invariants.spawned(agent, assign)

    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None:
        self.note("end", attempt_id.hex()[:8], exit_code, signal)
        self.invariants.ended(attempt_id, exit_code, signal)

    def journalled(self, result: Result) -> None:
        self.invariants.journalled(result)

    def granted(self, agent: str, amount: Amount, capacity: Amount) -> None:
        self.invariants.granted(agent, amount, capacity)

    def plan(self, assign: Assign) -> Plan:
        return random_plan(self.random)

    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None:
        if self.breaking and self.random.random() < self.trip_share:
            self.breakage.strike_host(host, point)

    def note(self, *words: object) -> None:
        """A line of the history."""
        line = f"{self.loop.time():10.3f} {' '.join(map(str, words))}"
        self._history.update(line.encode())
        self.lines.append(line)

    # The phases

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
        for number in range(self._options.nodes):
            self.start_node(f"node-{number}")
        for number in range(self._options.agents):
            self.start_host(f"agent-{number}")
        for number in range(self._options.dags):
            self._apply(f"dag-{number}")
        self._ask_for_a_giant()
        end_s = self.loop.time() + self._options.seconds
        while self.loop.time() < end_s:
            await pass_time(self.random.uniform(0.05, 0.6))
            self._act()
            self._check()
        self._heal()
        await self._settled(apart=GIANT)
        self._command(GIANT, commands.cancel_run(GIANT, self._giant, "it fits nowhere"))
        await self._settled()
        self._check()
        self.invariants.check_end()

    async def _settled(self, apart: str = "") -> None:
        """Until nothing is open any more (apart from one DAG), or nothing happens for too long."""
        seen, quiet_s = 0, 0.0
        while quiet_s < QUIET_S:
            await pass_time(1.0)
            self._decide_all()
            self._check()
            tables = self.database.tables
            open_commands = any(row["outcome"] is None for row in tables["inbox"].values())
            live = any(
                row["finished_us"] is None and row["dag"] != apart for row in tables["run"].values()
            )
            if not open_commands and not live:
                return
            quiet_s = quiet_s + 1.0 if len(self.lines) == seen else 0.0
            seen = len(self.lines)

    def start_node(self, name: str) -> None:
        """A start of a node, the first or a later one."""
        store = self.store_class(self.database, StoreFaults(self, name))
        peers = [f"node-{number}" for number in range(self._options.nodes)]
        self.nodes[name] = SimNode(name, store, self._keys, self.random, peers)

    def start_host(self, name: str, host: str = "") -> SimHost:
        """A machine with an agent."""
        capacity = Amount(CORES, 1 << 33)
        made = SimHost(name, capacity, self.nodes, self.network, self.random, self, host)
        self.hosts[made.host] = made
        return made

    # The workload

    def _act(self) -> None:
        """One random thing happens."""
        self._decide_some()
        chance = self.random.random()
        if chance < 0.55:
            self._trigger()
        elif chance < 0.62 and self._runs:
            dag, run_id = self.random.choice(self._runs)
            self._command(dag, commands.cancel_run(dag, run_id, "a change of mind"))
        elif chance < 0.68:
            dag = self.random.choice(self._dags)
            paused = self.random.random() < 0.5
            self._command(dag, commands.pause_dag(dag, "perhaps", paused=paused))
        elif chance < 0.72:
            self._apply(self.random.choice(self._dags))
        else:
            self.breakage.strike()
            self.report.faults += 1

    def _apply(self, dag: str) -> None:
        self._apply_spec(random_dag(self.random, dag))
        if dag not in self._dags:
            self._dags.append(dag)

    def _apply_spec(self, spec: pb.DagSpec) -> None:
        dag = spec.dag
        stored, digest = canonical(spec)
        self.versions[digest] = compile_version(TENANT, stored, digest)
        self._command(dag, commands.apply_dag(dag, digest, ""), version=(digest, stored))

    def _ask_for_a_giant(self) -> None:
        """A run that fits no agent is there all the time: it must not be in anybody's way."""
        spec = pb.DagSpec(dag=GIANT)
        spec.tasks.add(task="giant", process=pb.ProcessSpec(argv=["work"])).resources.cpu = 99.0
        self._apply_spec(spec)
        self._giant = self._trigger_run(GIANT)

    def _trigger(self) -> None:
        dag = self.random.choice(self._dags)
        self._runs.append((dag, self._trigger_run(dag)))

    def _trigger_run(self, dag: str) -> bytes:
        run_id = uuid7(self.loop.wall_us, self.random.randbytes(16))
        self._command(dag, commands.trigger_run(dag, run_id, self.loop.wall_us), run_id=run_id)
        self.invariants.triggered(run_id)
        self.report.runs += 1
        return run_id

    def _command(
        self,
        dag: str,
        body: bytes,
        *,
        run_id: bytes | None = None,
        version: tuple[bytes, bytes] | None = None,
    ) -> None:
        bucket = bucket_of(DagKey(TENANT, dag))
        self.database.append_command(TENANT, bucket, body, run_id=run_id, version=version)

    def waits(self) -> list[dict[str, object]]:
        """The task instances that wait for somebody to decide."""
        rows = self.database.tables["task_wait"].values()
        return [row for row in rows if row["kind"] == WaitKind.APPROVAL]

    def _decide_some(self) -> None:
        for row in self.waits():
            if self.random.random() < 0.05:
                self.decide(row, approved=self.random.random() < 0.6)

    def _decide_all(self) -> None:
        for row in self.waits():
            self.decide(row, approved=self.random.random() < 0.6)

    def decide(self, wait: dict[str, object], *, approved: bool) -> None:
        """A person has an opinion."""
        runs = self.database.tables["run"].values()
        run = next(row for row in runs if row["run"] == wait["run"])
        task = self.versions[run["digest"]].tasks[wait["task"]].task
        body = commands.decide_approval(
            run["dag"], run["run_id"], task, "a look at it", approved=approved
        )
        self._command(run["dag"], body)

    def _heal(self) -> None:
        self.note("heal")
        self.breaking = False
        self.breakage.heal()
        for dag in self._dags:
            self._command(dag, commands.pause_dag(dag, "the end", paused=True))

    def _finished(self) -> Report:
        report = self.report
        report.virtual_s = self.loop.time()
        report.attempts = self.invariants.spawns
        report.assignments = self.invariants.assignments
        report.takeovers = len(self.database.takeovers)
        tables = self.database.tables
        ends = [AttemptState(row["state"]) for row in tables["attempt"].values()]
        report.lost = ends.count(AttemptState.LOST)
        report.unknown = ends.count(AttemptState.UNKNOWN)
        report.late = len(tables["attempt_late"])
        report.adopted = sum(row["adopted"] for row in tables["attempt_late"].values())
        report.digest = self._history.hexdigest()
        return report


def simulate(seed: int, options: Options | None = None, world_class: type[World] = World) -> Report:
    """Runs one world; raises ViolationError with the last lines of its history."""
    structlog.configure(processors=[_drop])

    async def main() -> Report:
        return await world_class(seed, options or Options()).run()

    try:
        return run_virtual(main())
    finally:
        structlog.reset_defaults()


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent
