"""What happens to shards when their node dies, stops or comes back.

The evidence is the work itself: runs of one task are triggered at a fixed rate on one DAG of each
shard, answered or not, through the node that stays. A failover ends with the first attempt that the
next leader of the shard assigns: its time is that of the step whose commit records it, on the clock
of the machine on which everything runs. What is assigned before the store saw the next epoch was
assigned by the last leader and does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from controlplane.coordination.rendezvous import preferred
from controlplane.store.records import ShardItem
from loadtest import shapes
from loadtest.logbook import last
from loadtest.measures import Api
from loadtest.parts import NODES, SHARDS, Node, Parts, cluster, until

PAUSE_S = 0.05
BEFORE_S, AFTER_S = 0.3, 0.3
# Runs that were triggered so long after the next leader had begun are not looked at.
LOOKED_AT_S = 0.5
NAMES_MOST = 200
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Failover:
    """One shard: seconds from the signal to the new epoch, and to the first assignment in it."""

    taken_over_s: float
    assigned_s: float


@dataclass(frozen=True, slots=True)
class Joining:
    """One start of a node: seconds until it served, and until it led its part."""

    serving_s: float
    spread_s: float


@dataclass(slots=True)
class Samples:
    """What was measured so far."""

    failovers: list[Failover] = field(default_factory=list)
    joinings: list[Joining] = field(default_factory=list)


def first_assigned(moments: Iterable[float], taken_over: float) -> float:
    """The first moment of an assignment that the leader since `taken_over` made."""
    return min(moment for moment in moments if moment >= taken_over)


class Traffic:
    """Runs, triggered at a fixed rate on one DAG of each shard."""

    def __init__(self, dags: dict[int, str]) -> None:
        self._dags = dags
        self._triggered: dict[int, list[tuple[float, str]]] = {shard: [] for shard in dags}
        self._calls: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def flowing(self, api: Api) -> AsyncIterator[None]:
        """Triggers through this node while the block runs."""
        driver = asyncio.create_task(self._drive(api))
        try:
            yield
        finally:
            driver.cancel()
            await asyncio.gather(driver, *self._calls, return_exceptions=True)

    def runs(self, shard: int, since: float, until_: float) -> list[str]:
        """Names of the runs that were triggered between two moments."""
        return [run for at, run in self._triggered[shard] if since <= at <= until_]

    async def _drive(self, api: Api) -> None:
        begun = time.perf_counter()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, begun + number * PAUSE_S - time.perf_counter()))
            for shard, dag in self._dags.items():
                call = asyncio.create_task(self._trigger(api, shard, dag))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _trigger(self, api: Api, shard: int, dag: str) -> None:
        at = time.time()
        with contextlib.suppress(grpc.aio.AioRpcError):
            run = await api.trigger(dag)
            self._triggered[shard].append((at, run))


async def dag_of_each_shard(api: Api) -> dict[int, str]:
    """One DAG for each shard, of one task that does nothing."""
    found: dict[int, str] = {}
    for number in range(NAMES_MOST):
        name = f"no-op-{number}"
        shard = await api.apply(shapes.chain(name, 1))
        found.setdefault(shard, name)
        if len(found) == SHARDS:
            return found
    raise RuntimeError(f"no DAG for some of {SHARDS} shards among {NAMES_MOST} names")


async def fail(
    parts: Parts, node: Node, how: signal.Signals, dags: dict[int, str]
) -> list[Failover]:
    """Ends a node under traffic; its shards, as the other one took them over."""
    await parts.settled()
    stays = next(name for name in parts.nodes if name != node.name)
    before = [each for each in await parts.shards() if each.node == node.name]
    traffic = Traffic(dags)
    async with traffic.flowing(parts.api(stays)):
        await asyncio.sleep(BEFORE_S)
        signalled = node.signal(how)
        after = await _next_leaders(parts, before)
        await asyncio.sleep(AFTER_S)
    await node.child.wait()
    await parts.forget_api(node.name)
    api = parts.api(stays)
    return [await _failover(api, traffic, signalled, each) for each in after]


async def _next_leaders(parts: Parts, before: list[ShardItem]) -> list[ShardItem]:
    """The rows of these shards once each is in another epoch."""
    epochs = {each.shard: each.epoch for each in before}

    async def changed() -> bool:
        return all(each.epoch > epochs.get(each.shard, 0) for each in await parts.shards())

    await until(changed, DEADLINE_S)
    return [each for each in await parts.shards() if each.shard in epochs]


async def _failover(api: Api, traffic: Traffic, signalled: float, after: ShardItem) -> Failover:
    taken_over = after.taken_over_us / 1e6
    runs = traffic.runs(after.shard, signalled - BEFORE_S, taken_over + LOOKED_AT_S)
    moments: list[float] = []
    for run in runs:
        await api.wait(run)
        moments += [each.assign_time.ToNanoseconds() / 1e9 for each in await api.attempts(run)]
    assigned = first_assigned(moments, taken_over)
    return Failover(taken_over - signalled, assigned - signalled)


async def join(parts: Parts, node: Node) -> Joining:
    """Starts a node and waits until it leads all that it is the preferred owner of."""
    mine = {shard for shard in range(SHARDS) if preferred(shard, set(parts.nodes)) == node.name}
    begun = node.start()
    await parts.settled()
    taken_us = [each.taken_over_us for each in await parts.shards() if each.shard in mine]
    served = last(node.entries(), "serving")
    return Joining(served.at - begun, max(taken_us) / 1e6 - begun)


async def measure(kills: int, stops: int) -> tuple[Samples, Samples]:
    """Nodes killed in turn, each started again; then the same with clean stops."""
    killed, stopped = Samples(), Samples()
    async with cluster(*NODES) as parts:
        parts.agent("agent-1").start()
        await parts.connected("agent-1")
        dags = await dag_of_each_shard(parts.api(NODES[0]))
        turns = itertools.cycle(parts.nodes.values())
        for samples, how, count in (
            (killed, signal.SIGKILL, kills),
            (stopped, signal.SIGTERM, stops),
        ):
            for node in itertools.islice(turns, count):
                samples.failovers += await fail(parts, node, how, dags)
                samples.joinings.append(await join(parts, node))
    return killed, stopped
