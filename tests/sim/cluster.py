"""A simulated cluster: nodes, hosts with agents, one store, one election, and the people around.

Tells the invariants what really happens, and keeps a history. Does nothing by itself: worlds of
random faults and scripted stories are made of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from random import Random

from agent.core.entries import Assign, Result
from agent.core.types import Amount
from tests.sim.election import Keys
from tests.sim.hosts import SimHost
from tests.sim.invariants import Invariants
from tests.sim.memory_store import ConnectionLost, Faults, MemoryDatabase, MemoryStore, Point
from tests.sim.network import Network
from tests.sim.nodes import TIMES, SimNode
from tests.sim.people import People
from tests.sim.processes import Plan
from tests.sim.virtual import VirtualLoop, pass_time

LEASES = TIMES.leases
LOST_S = (LEASES.lease_ms + LEASES.grace_ms + LEASES.drift_ms + LEASES.authority_ms) / 1_000
# Healed, a cluster in which nothing moves for so long is stuck: the longest time after which agents
# are given up, with the longest overtime of a task, and half a minute.
QUIET_S = LOST_S + 8.0 + 30.0
CORES = 4_000


class NodeFaults(Faults):
    """The connections of one node to the store; a dead node has none."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node

    async def at(self, point: Point, shard: int) -> None:
        cluster = self._cluster
        node = cluster.nodes.get(self._node)
        if cluster.database_down or (node is not None and not node.alive):
            raise ConnectionLost
        await pass_time(cluster.random.uniform(0.0001, 0.001))
        await cluster.store_fault(point, shard, self._node)


class Cluster:
    """See the module. `nodes`: how many there shall be."""

    store_class = MemoryStore

    def __init__(self, seed: int, *, nodes: int, shards: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.random = Random(seed)
        self._history = hashlib.blake2b(digest_size=12)
        self.lines: list[str] = []
        self.database = MemoryDatabase(shards, lambda: loop.wall_us)
        self.database_down = False
        self.keys = Keys(shards)
        self.network = Network(self.random)
        self.people = People(self.random, self.database, lambda: loop.wall_us)
        self.invariants = Invariants(self.database, self.people.versions)
        self.nodes: dict[str, SimNode] = {}
        self.hosts: dict[str, SimHost] = {}
        self._names = [f"node-{number}" for number in range(nodes)]
        self._failure: BaseException | None = None
        loop.set_exception_handler(self._failed)

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Something raised where nobody waits for it: the first such error ends it all."""
        error = context.get("exception")
        if not isinstance(error, BaseException):
            error = RuntimeError(str(context["message"]))
        self._failure = self._failure or error

    @property
    def digest(self) -> str:
        """Of the whole history."""
        return self._history.hexdigest()

    def start_nodes(self) -> None:
        """The first start of all nodes."""
        for name in self._names:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """A start of a node, the first or a later one."""
        store = self.store_class(self.database, NodeFaults(self, name))
        self.nodes[name] = SimNode(name, store, self.keys, self.random, self._names)

    def start_host(self, name: str, host: str = "") -> SimHost:
        """A machine with an agent."""
        capacity = Amount(CORES, 1 << 33)
        made = SimHost(name, capacity, self.nodes, self.network, self.random, self, host)
        self.hosts[made.host] = made
        return made

    def check(self) -> None:
        """Raises what went wrong so far."""
        if self._failure is not None:
            raise self._failure
        self.invariants.check_store()

    async def settled(self, apart: str = "") -> None:
        """Until nothing is open any more (apart from one DAG), or nothing happens for too long."""
        seen, quiet_s = 0, 0.0
        tables = self.database.tables
        while quiet_s < QUIET_S:
            await pass_time(1.0)
            self.people.decide_some(1.0)
            self.check()
            open_commands = any(row["outcome"] is None for row in tables["inbox"].values())
            live = any(
                row["finished_us"] is None and row["dag"] != apart for row in tables["run"].values()
            )
            if not open_commands and not live:
                return
            quiet_s = quiet_s + 1.0 if len(self.lines) == seen else 0.0
            seen = len(self.lines)

    def check_end(self) -> None:
        """What holds when all is over."""
        self.check()
        for _, run_id in self.people.runs:
            self.invariants.triggered(run_id)
        self.invariants.check_end()

    # What may be broken

    async def store_fault(self, point: Point, shard: int, node: str) -> None:
        """A node is at some point in its talk with the store."""

    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None:
        """A host is at some point in what it does."""

    # What the witnesses say

    def plan(self, assign: Assign) -> Plan:
        """What the process of an attempt will do."""
        return Plan(1.0)

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

    def note(self, *words: object) -> None:
        """A line of the history."""
        line = f"{self.loop.time():10.3f} {' '.join(map(str, words))}"
        self._history.update(line.encode())
        self.lines.append(line)
