"""OS processes a second through the whole path, and what each part spends on one of them.

DAGs of 100 tasks, each of which is `/bin/true` with its own folder, claim and output files: node,
agent, supervisor and PostgreSQL on one machine with the driver.
"""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass, field

import psutil
from mainspring.v1 import run_pb2

from loadtest import shapes
from loadtest.measures import Api
from loadtest.parts import Agent, Node, Parts, cluster, processor_s

DEPTH, WIDTH = 10, 10
WARM, RUNS = 5, 40
AT_ONCE = 8
ONE = "south"
DAG = "hundred"


@dataclass(slots=True)
class NoOps:
    """Tasks a second, and by part of the system the microseconds of processor time for a task."""

    rates: list[float] = field(default_factory=list)
    spent_us: dict[str, list[float]] = field(default_factory=dict)


def per_task(before: dict[str, float], after: dict[str, float], tasks: int) -> dict[str, float]:
    """Seconds before and after, by name, as microseconds for one task."""
    return {name: (after[name] - spent) / tasks * 1e6 for name, spent in before.items()}


async def drive(api: Api, runs: int) -> None:
    """Keeps AT_ONCE runs in flight until so many have succeeded."""
    left = iter(range(runs))

    async def one_after_the_other() -> None:
        for _ in left:
            run = await api.wait(await api.trigger(DAG))
            if run.state != run_pb2.RUN_STATE_SUCCEEDED:
                raise RuntimeError(f"{run.name}: {run_pb2.RunState.Name(run.state)}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())


def spent(parts: Parts, node: Node, agent: Agent) -> dict[str, float]:
    """Processor seconds so far; tasks apart from the supervisor that reaps them."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    supervisor = agent.supervisor.cpu_times()
    postmaster = psutil.Process(parts.postgres_pid)
    return {
        "node": processor_s(psutil.Process(node.child.pid)),
        "agent": processor_s(psutil.Process(agent.child.pid)),
        "supervisor": supervisor.user + supervisor.system,
        "the processes themselves": supervisor.children_user + supervisor.children_system,
        "PostgreSQL": sum(map(processor_s, (postmaster, *postmaster.children()))),
        "driver": own.ru_utime + own.ru_stime,
    }


async def measure(rounds: int) -> NoOps:
    """So many rounds on one cluster, behind a short one that warms it up."""
    found = NoOps()
    async with cluster(ONE) as parts:
        node, agent, api = parts.nodes[ONE], parts.agent("agent-1"), parts.api(ONE)
        agent.start()
        await parts.connected(agent.name)
        await api.apply(shapes.layers(DAG, DEPTH, WIDTH, ("/bin/true",)))
        await drive(api, WARM)
        for _ in range(rounds):
            before, begun = spent(parts, node, agent), time.perf_counter()
            await drive(api, RUNS)
            tasks = RUNS * DEPTH * WIDTH
            found.rates.append(tasks / (time.perf_counter() - begun))
            for name, us in per_task(before, spent(parts, node, agent), tasks).items():
                found.spent_us.setdefault(name, []).append(us)
    return found
