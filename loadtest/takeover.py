"""How long a full shard is without a leader once another node may lead it.

1,000 live runs: in each 20 attempts have ended and 10 run, at a simulated agent that stays. Of two
nodes the one that leads them is killed and the other takes over; the killed one is started again,
and gets its shard back before it is killed once more. Then the production code is timed on the same
rows, part by part, in this process.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from dataclasses import dataclass, field

from mainspring.v1 import dag_pb2

from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.shard import Shard
from controlplane.core.time.leases import LeaseTimes
from controlplane.leader.recovery import compiled_rows
from controlplane.telemetry.clock import SystemClock
from loadtest import shapes
from loadtest.holder import NAME, Holder
from loadtest.logbook import last
from loadtest.measures import Api
from loadtest.parts import NODES, Node, Parts, cluster, until

RUNS = 1_000
ENDED, LIVE = 20, 10
CORES = 10_000
AT_ONCE = 50
SHARD = 0
FILLED_S = 180.0
# In the names of tasks that never end; and the DAG that is asked for while nobody leads.
HELD = "held"
NEXT = "next"
# Those of a node.
GC_THRESHOLDS = (50_000, 50, 50)


@dataclass(frozen=True, slots=True)
class Takeover:
    """Seconds from the won key until: the epoch is taken; the core is recovered; a session heard
    the Welcome; the next attempt was assigned (the agent's inventory of all attempts was read
    before).
    """

    taken_s: float
    recovered_s: float
    welcomed_s: float
    assigned_s: float


@dataclass(slots=True)
class Split:
    """Seconds in the production code, alone in a process: rows read, versions compiled, memory
    recovered.
    """

    read_s: list[float] = field(default_factory=list)
    compile_s: list[float] = field(default_factory=list)
    recover_s: list[float] = field(default_factory=list)


def full_dag() -> dag_pb2.DagSpec:
    """ENDED tasks, then LIVE ones behind all of them."""
    parents = [f"ended-{number}" for number in range(ENDED)]
    tasks = [shapes.no_op(parent, []) for parent in parents]
    tasks += [shapes.no_op(f"{HELD}-{number}", parents) for number in range(LIVE)]
    return dag_pb2.DagSpec(dag="full", tasks=tasks)


async def fill(api: Api, holder: Holder) -> None:
    """Triggers all runs and waits until all that shall run runs."""
    await api.apply(full_dag())
    await api.apply(dag_pb2.DagSpec(dag=NEXT, tasks=[shapes.no_op(NEXT, [])]))
    left = iter(range(RUNS))

    async def trigger() -> None:
        for _ in left:
            await api.trigger("full")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(trigger())

    async def full() -> bool:
        return len(holder.held) == RUNS * LIVE

    await until(full, FILLED_S)


async def strike(parts: Parts, holder: Holder) -> Takeover:
    """Kills the leader, asks for a run meanwhile, and reads what the takeover took."""
    await parts.settled()
    before = (await parts.shards())[SHARD]
    dead = parts.nodes[before.node]
    node = next(each for each in parts.nodes.values() if each is not dead)
    dead.signal(signal.SIGKILL)
    await dead.child.wait()
    api = parts.api(node.name)
    await api.wait(await api.trigger(NEXT))
    after = (await parts.shards())[SHARD]
    assert after.node == node.name, "nobody else was there to take over"
    await parts.forget_api(dead.name)
    dead.start()
    return taken_over(node, holder, after.epoch)


def taken_over(node: Node, holder: Holder, epoch: int) -> Takeover:
    """What the last takeover of a node took, as it and its agent say."""
    entries = node.entries()
    won, taken, recovered = (
        last(entries, event) for event in ("leader_key_won", "taken_over", "recovered")
    )
    assert recovered.fields["runs"] >= RUNS, recovered
    return Takeover(
        taken.at - won.at,
        recovered.at - won.at,
        holder.welcomed[SHARD, epoch] - won.at,
        holder.assigned[NEXT] - won.at,
    )


async def split(parts: Parts, times: int) -> Split:
    """The parts of a recovery, timed in this process."""
    found = Split()
    gc.set_threshold(*GC_THRESHOLDS)
    for _ in range(times):
        began = time.perf_counter()
        rows = await parts.store.shards.recover(SHARD)
        read = time.perf_counter()
        stored = await compiled_rows(rows)
        compiled = time.perf_counter()
        now = SystemClock().now()
        Shard(SHARD, Fleet(), now, LeaseTimes()).recover(stored, now)
        found.read_s.append(read - began)
        found.compile_s.append(compiled - read)
        found.recover_s.append(time.perf_counter() - compiled)
    parts.store.shards.release(SHARD)
    return found


async def measure(runs: int) -> tuple[list[Takeover], Split]:
    """So many leaders killed, one after the other."""
    async with cluster(*NODES, shards=1) as parts:
        addresses = [node.address for node in parts.nodes.values()]
        async with Holder(addresses, parts.token, CORES, lambda task: HELD in task) as holder:
            await parts.connected(NAME)
            await fill(parts.api(NODES[0]), holder)
            takeovers = [await strike(parts, holder) for _ in range(runs)]
        return takeovers, await split(parts, runs)
