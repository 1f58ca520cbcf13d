"""Scripted simulated clusters: few processes, one task or two, a fault at an exact moment.

A story is told to its end: afterwards everything is healed, has to come to rest, and all invariants
have to hold. Times are virtual seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mainspring.v1 import dag_pb2 as pb

from agent.core.entries import Assign
from controlplane.core.states import RunState
from tests.sim.hosts import SimHost
from tests.sim.memory_store import ConnectionLost, Point
from tests.sim.network import LOST, Link
from tests.sim.nodes import TIMES, SimNode
from tests.sim.processes import Plan
from tests.sim.virtual import pass_time
from tests.sim.watched import Watched, carries
from tests.sim.world import in_silence

LEASE_S = TIMES.attempt_lease_ms / 1_000
LOOK_S = 0.05
DAG = "story"


class Story(Watched):
    """A cluster in which nothing happens by chance but delays."""

    def __init__(self, nodes: int, agents: int, shards: int, seed: int) -> None:
        super().__init__(seed, nodes=nodes, shards=shards)
        self.plans: dict[str, list[Plan]] = {}
        self._traps: list[Callable[[str, SimHost], None]] = []
        self._store_traps: list[Callable[[Point, str], bool]] = []
        self.network.taps.append(self._tap)
        self._taps: list[Callable[[Link, Any], float]] = []
        self.keys.moves = False
        self.start_nodes()
        for number in range(agents):
            self.start_host(f"agent-{number}")

    # What is done in it

    def has(
        self, task: str, *plans: Plan, dag: str = DAG, max_active_runs: int = 0, **fields: Any
    ) -> None:
        """Applies a DAG of one task; its attempts do as planned, the last plan for all later."""
        spec = pb.DagSpec(dag=dag, max_active_runs=max_active_runs)
        item = spec.tasks.add(task=task, process=pb.ProcessSpec(argv=["work"]))
        item.resources.cpu = 1.0
        if (limit_s := fields.pop("disconnect_limit_s", None)) is not None:
            item.disconnect_limit.FromMilliseconds(round(limit_s * 1_000))
        for name, value in fields.items():
            setattr(item, name, value)
        self.plans[task] = list(plans)
        self.people.apply(spec)

    async def starts(self, *plans: Plan, **fields: Any) -> bytes:
        """One run of one task `t`, on a cluster that has come to life; its id."""
        self.has("t", *plans, **fields)
        await self.until(lambda: all(host.agent.core.sessions.welcomed() for host in self.up()))
        return self.people.trigger(DAG)

    async def until(self, true: Callable[[], object], within_s: float = 30.0) -> None:
        """Waits until something is so; raises AssertionError if that takes too long."""
        end_s = self.loop.time() + within_s
        while not true():
            assert self.loop.time() < end_s, "\n".join(["it does not come to pass", *self.lines])
            await pass_time(LOOK_S)
            self.check()

    async def runs(self, count: int = 1) -> None:
        """Until the task was spawned so often."""
        await self.until(lambda: len(self.spawns.get("t", ())) >= count)

    async def ends(self, within_s: float = 60.0) -> RunState:
        """Until all runs are over; the state of the last one."""
        rows = self.database.tables["run"]
        await self.until(
            lambda: (
                len(rows) == len(self.people.runs)
                and all(RunState(row["state"]).final for row in rows.values())
            ),
            within_s,
        )
        return RunState(list(rows.values())[-1]["state"])

    # What is broken in it

    def at(self, point: str, do: Callable[[SimHost], object], nth: int = 1) -> None:
        """When a host is at a point of its work for the n-th time, once."""
        seen = 0

        def trap(reached: str, host: SimHost) -> None:
            nonlocal seen
            if reached == point:
                seen += 1
                if seen == nth:
                    do(host)

        self._traps.append(trap)

    def on(self, entries: str, do: Callable[[Link, Any], float], nth: int = 1) -> None:
        """When the n-th frame with entries of a kind is sent; `do` says what becomes of it."""
        seen = 0

        def tap(link: Link, frame: Any) -> float:
            nonlocal seen
            if not carries(frame, entries):
                return 0.0
            seen += 1
            return do(link, frame) if seen == nth else 0.0

        self._taps.append(tap)

    def loses(self, entries: str, nth: int = 1) -> None:
        """The n-th frame with entries of a kind is lost with its stream."""
        self.on(entries, lambda *_: LOST, nth)

    def in_store(self, trap: Callable[[Point, str], bool]) -> None:
        """`trap` is asked at every point of a talk with the store whether the connection breaks."""
        self._store_traps.append(trap)

    def cuts_off(self, host: SimHost) -> None:
        """An agent reaches no node, and no node reaches it; nobody is told."""
        for name in self.nodes:
            self.network.part(host.host, name)

    def joins(self, host: SimHost) -> None:
        """The agent is reached again."""
        for name in self.nodes:
            self.network.rejoin(host.host, name)

    def kill_node(self, node: SimNode) -> None:
        """SIGKILL; its streams end."""
        node.crash()
        self.network.break_links(lambda link: link.node == node.name)

    def hide_etcd(self, *, hidden: bool) -> None:
        """From all nodes."""
        for node in self.nodes.values():
            node.election.sees_etcd = not hidden

    def committing_attempt(self) -> bool:
        """Whether a transaction is open that has a new live attempt."""
        open_ones = self.database.locks.values()
        return any(
            table == "attempt_live" and row is not None
            for transaction in open_ones
            for (table, _), row in transaction.changes.items()
        )

    # The hooks of the cluster

    def plan(self, assign: Assign) -> Plan:
        plans = self.plans[assign.task]
        return plans.pop(0) if len(plans) > 1 else plans[0]

    def trip(self, point: str, host: SimHost, attempt_id: bytes) -> None:
        for trap in self._traps:
            trap(point, host)

    async def store_fault(self, point: Point, shard: int, node: str) -> None:
        if any(trap(point, node) for trap in self._store_traps):
            raise ConnectionLost

    def _tap(self, link: Link, frame: Any) -> float:
        self.saw(link, frame)
        verdicts = [tap(link, frame) for tap in self._taps]
        return LOST if LOST in verdicts else sum(verdicts)

    async def tell(self, script: Callable[[Story], Awaitable[None]]) -> None:
        """Lives through a script, and then to the end of all that it left."""
        async with asyncio.timeout(3_600.0):
            await script(self)
            for node in self.nodes.values():
                node.election.sees_etcd = True
                node.go_on()
            for host in self.hosts.values():
                self.joins(host)
                host.come_up()
                host.start_agent()
            await self.settled()
            # Processes that nobody waits for end with their leases.
            await self.until(lambda: not self.alive, within_s=60.0)
            self.check_end()


def tell(
    script: Callable[[Story], Awaitable[None]],
    *,
    nodes: int = 2,
    agents: int = 1,
    shards: int = 1,
    seed: int = 1,
) -> None:
    """Tells a story; raises AssertionError if it goes otherwise."""

    async def main() -> None:
        await Story(nodes, agents, shards, seed).tell(script)

    in_silence(main)
