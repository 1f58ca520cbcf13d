"""A simulated cluster: nodes, hosts with agents, one store, one election, and the people around.

Tells the invariants what really happens, and keeps a history. Every part has dice of its own. Does
nothing by itself: worlds of random faults and scripted stories are made of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agent.core import entries
from agent.core.entries import Assign, Result
from agent.core.types import Amount
from controlplane.core.effects import CommandOutcome
from controlplane.core.states import AttemptState, RunState
from controlplane.leader.times import LeaderTimes
from controlplane.store.records import ShardState
from tests.sim.election import Keys
from tests.sim.history import History
from tests.sim.hosts import Clock, SimHost
from tests.sim.invariants import Invariants, ViolationError
from tests.sim.memory_store import (
    Changes,
    ConnectionLost,
    Faults,
    Key,
    MemoryDatabase,
    MemoryStore,
    Point,
    Row,
)
from tests.sim.network import NETS, Net, Network
from tests.sim.nodes import TIMES, SimNode
from tests.sim.people import People
from tests.sim.processes import Plan
from tests.sim.protocol import Protocol
from tests.sim.swarm import stream
from tests.sim.virtual import VirtualLoop, pass_time

# Healed, a cluster in which nothing moves for so long is stuck, beside the longest time after which
# agents are given up: the longest overtime of a task, and half a minute.
QUIET_S = 8.0 + 30.0
CORES = 4_000
# What agents tell of attempts.
TELLING = (entries.Inventory, entries.Rejected, entries.Result)
ROWS_TOLD = 6


Backup = tuple[Any, Any]


class NodeFaults(Faults):
    """The connections of one node to the store; a dead node has none."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self._random = stream(cluster.seed, f"store/{node}")

    async def at(self, point: Point, shard: int) -> None:
        cluster = self._cluster
        node = cluster.nodes.get(self._node)
        if cluster.database_down or (node is not None and not node.alive):
            raise ConnectionLost
        await pass_time(self._random.uniform(0.0001, 0.001))
        await cluster.store_fault(point, shard, self._node)


class Cluster:
    """See the module. `nodes`: how many there shall be."""

    store_class = MemoryStore

    def __init__(
        self,
        seed: int,
        *,
        nodes: int,
        shards: int,
        net: Net = NETS["lan"],
        skew_ms: int = 400,
        drift: float = 0.008,
        times: LeaderTimes = TIMES,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.seed = seed
        self.history = History()
        self.database = MemoryDatabase(shards, lambda: loop.wall_us)
        self.database_down = False
        self.database.watchers.append(self._commits)
        self.keys = Keys(shards)
        self.network = Network(stream(seed, "network"), net)
        self.people = People(stream(seed, "people"), self.database, lambda: loop.wall_us, self.note)
        self.invariants = Invariants(self.database, self.people.versions, self.people.asked)
        self.invariants.rows.instants.skew_us = skew_ms * 1_000
        self.nodes: dict[str, SimNode] = {}
        self.hosts: dict[str, SimHost] = {}
        self._skew_ms, self._drift, self._times = skew_ms, drift, times
        leases = times.leases
        # After so long an agent that is silent is given up, also by a new leader.
        lost_ms = leases.lease_ms + leases.grace_ms + leases.drift_ms + leases.authority_ms
        self.lost_s = lost_ms / 1_000
        self._names = [f"node-{number}" for number in range(nodes)]
        self._starts = 0
        self._failure: BaseException | None = None
        protocol = Protocol(self.hosts, self.database.tables, self._is_wrong)
        self.network.taps.append(protocol.tap)
        loop.set_exception_handler(self._failed)

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Something raised where nobody waits for it."""
        error = context.get("exception")
        if not isinstance(error, BaseException):
            error = RuntimeError(str(context["message"]))
        self._is_wrong(error)

    def _is_wrong(self, error: BaseException) -> None:
        """The first error ends it all."""
        if self._failure is None:
            self.note("V", type(error).__name__, error)
            self._failure = error

    @property
    def lines(self) -> list[str]:
        """The history so far."""
        return self.history.lines

    def start_nodes(self) -> None:
        """The first start of all nodes."""
        for name in self._names:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """A start of a node, the first or a later one."""
        store = self.store_class(self.database, NodeFaults(self, name))
        self._starts += 1
        random = stream(self.seed, f"{name}/{self._starts}")
        rate, skew_us = self._clock(name)
        self.nodes[name] = SimNode(
            name,
            store,
            self.keys,
            random,
            self._names,
            rate=rate,
            skew_us=skew_us,
            times=self._times,
        )

    def start_host(self, name: str, host: str = "") -> SimHost:
        """A machine with an agent."""
        capacity = Amount(CORES, 1 << 33)
        random, clock = stream(self.seed, f"host/{host or name}"), self._clock(host or name)
        made = SimHost(name, capacity, self.nodes, self.network, random, self, host, clock=clock)
        self.hosts[made.host] = made
        return made

    def _clock(self, machine: str) -> Clock:
        random, most_us = stream(self.seed, f"clock/{machine}"), self._skew_ms * 1_000
        rate = 1.0 + random.uniform(-self._drift, self._drift)
        return Clock(rate, random.randint(-most_us, most_us))

    def check(self) -> None:
        """Raises what went wrong so far."""
        if self._failure is not None:
            raise self._failure

    async def settled(self, apart: str = "") -> None:
        """Until nothing is open any more (apart from one DAG), or nothing happens for too long."""
        seen, quiet_s = 0, 0.0
        tables = self.database.tables
        while quiet_s < self.lost_s + QUIET_S:
            await pass_time(1.0)
            self.people.decide_some(1.0)
            self.check()
            open_commands = any(row["outcome"] is None for row in tables["inbox"].values())
            live = any(
                row["finished_us"] is None and row["dag"] != apart for row in tables["run"].values()
            )
            if not open_commands and not live:
                return
            quiet_s = quiet_s + 1.0 if self.history.moves == seen else 0.0
            seen = self.history.moves

    def check_end(self) -> None:
        """What holds when all is over."""
        self.check()
        for _, run_id in self.people.runs:
            self.invariants.triggered(run_id)
        self.invariants.check_end()
        for host in self.hosts.values():
            if host.agent is not None:
                host.agent.recount()

    # A store that goes back

    def backup(self) -> Backup:
        """The store as it is, and what the witnesses have seen of it."""
        return self.database.backup(), self.invariants.rows.backup()

    def put_back(self, backup: Backup) -> None:
        """The store is as it was then; nobody misses runs that it does not know. Where the leader
        of a shard is not there to see it, people say so by hand.
        """
        database, rows = backup
        self.note("f", "the store goes back")
        led = [row for row in self.database.shards.values() if row.epoch]
        seen = all(self.nodes[row.node].leads(row.shard, row.epoch, row.holder) for row in led)
        self.database.put_back(database)
        self.invariants.rows.put_back(rows)
        tables = self.database.tables
        known = {row["run_id"] for name in ("run", "inbox") for row in tables[name].values()}
        self.people.runs[:] = [run for run in self.people.runs if run[1] in known]
        if not seen:
            self.note("C", "recover")
            self.database.mark_restored("by hand", ())

    # What may be broken

    async def store_fault(self, point: Point, shard: int, node: str) -> None:
        """A node is at some point in its talk with the store."""

    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None:
        """A host is at some point in what it does."""

    # What the witnesses say

    def plan(self, assign: Assign) -> Plan:
        """What the process of an attempt will do."""
        return Plan(1.0)

    def _commits(self, state: ShardState | None, changes: Changes) -> None:
        """A transaction commits. What is wrong with it must not come back to who sent it."""
        if state is not None and state.epoch != self.database.shards[state.shard].epoch:
            self.note("T", "shard", state.shard, "epoch", state.epoch, "by", state.node)
        if changes and state is not None:
            told = [text for key, row in changes.items() if (text := _told(*key, row))]
            more = [f"and {len(told) - ROWS_TOLD} more"] if len(told) > ROWS_TOLD else []
            name = f"{state.shard}/{state.epoch}/{state.batch}"
            self.note("B", name, "; ".join([*told[:ROWS_TOLD], *more]))
        try:
            self.invariants.rows.commit(state, changes)
        except ViolationError as error:
            self._is_wrong(error)

    def assigned(self, agent: str, assign: Assign) -> None:
        name = f"{assign.shard}/{assign.epoch}/{assign.batch}"
        self.note(">", agent, "assign", _short(assign.attempt_id), "of", name)
        self.invariants.assigned(agent, assign)

    def sent(self, agent: str, node: str, entries: Sequence[object]) -> None:
        for entry in entries:
            if isinstance(entry, TELLING) and (text := _entry(entry)):
                self.note("<", agent, node, text)

    def spawned(self, agent: str, assign: Assign, capacity: Amount) -> None:
        task = f"{assign.dag}/{assign.run[-6:]}/{assign.task} no. {assign.number}"
        self.note("S", agent, _short(assign.attempt_id), task)
        self.invariants.spawned(agent, assign, capacity)

    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None:
        self.note("E", _short(attempt_id), exit_code, signal)
        self.invariants.ended(attempt_id, exit_code, signal)

    def journalled(self, result: Result) -> None:
        self.invariants.journalled(result)

    def granted(self, agent: str, amount: Amount, capacity: Amount) -> None:
        self.invariants.granted(agent, amount, capacity)

    def note(self, sign: str, *words: object) -> None:
        """A line of the history."""
        self.history.note(self.loop.time(), sign, *words)


def _short(attempt_id: bytes) -> str:
    return attempt_id.hex()[:8]


def _entry(entry: object) -> str:
    """What an agent tells; an inventory of nothing is not worth a word."""
    if isinstance(entry, entries.Result):
        return f"{entry.outcome.name.lower()} {_short(entry.attempt_id)}"
    if isinstance(entry, entries.Rejected):
        return f"rejects {_short(entry.attempt_id)}"
    assert isinstance(entry, entries.Inventory)
    live = [_short(attempt.attempt_id) for attempt in entry.live]
    ended = [_short(result.attempt_id) for result in entry.finished]
    if not live and not ended:
        return ""
    return f"inventory of shard {entry.shard}: live {' '.join(live)}, ended {' '.join(ended)}"


def _told(table: str, key: Key, row: Row | None) -> str:
    """A row of a batch, in a few words."""
    if row is None or table not in _TELLERS:
        return ""
    return _TELLERS[table](key, row)


_TELLERS = {
    "run": lambda _, row: f"run {row['run_id'].hex()[-6:]} {RunState(row['state']).name}",
    "attempt_live": lambda _, row: f"live {_short(row['attempt_id'])} at {row['agent']}",
    "attempt": lambda _, row: (
        f"{AttemptState(row['state']).name.lower()} {_short(row['attempt_id'])}"
    ),
    "attempt_late": lambda _, row: (
        f"late {AttemptState(row['state']).name.lower()} {_short(row['attempt_id'])}"
    ),
    "task_wait": lambda key, row: f"task {key[2]} waits: {row['reason']}",
    "schedule_instant": lambda key, row: f"{key[1]}/{key[2]} {row['outcome'].name.lower()}",
    "inbox": lambda key, row: f"command {key[0]} {CommandOutcome(row['outcome']).name.lower()}",
}
