"""What it costs an agent to die and come back, and what agent and supervisor cost at rest.

One agent with so many running tasks, each a process that sleeps, is killed and started again. It is
back when its inventory has told the node of all of them: it opens no session before it has its
journal, the word of its supervisor, and has adopted what runs.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field

import psutil

from loadtest import shapes
from loadtest.door import Door, door
from loadtest.parts import Agent, Parts, cluster, processor_s, resident_mb, until

TASKS = 500
ONE = "south"
QUIET_S = 3.0
LOOK_S = 10.0
DEADLINE_S = 60.0


@dataclass(slots=True)
class AtRest:
    """Megabytes, and percent of one core over LOOK_S; one list per figure, one value per run."""

    agent_mb: list[float] = field(default_factory=list)
    agent_percent: list[float] = field(default_factory=list)
    supervisor_mb: list[float] = field(default_factory=list)
    supervisor_percent: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Restarts:
    """Seconds until all was told, from the start of the new agent and from the kill."""

    from_start_s: list[float] = field(default_factory=list)
    from_kill_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Costs:
    """All of this measurement. `busy`: with TASKS running."""

    idle: AtRest = field(default_factory=AtRest)
    busy: AtRest = field(default_factory=AtRest)
    restarts: Restarts = field(default_factory=Restarts)


async def look(agent: Agent, into: AtRest) -> None:
    """Memory and processor time of an agent and its supervisor."""
    await asyncio.sleep(QUIET_S)
    parts = psutil.Process(agent.child.pid), agent.supervisor
    before = [processor_s(process) for process in parts]
    await asyncio.sleep(LOOK_S)
    percents = [(processor_s(p) - b) / LOOK_S * 100 for p, b in zip(parts, before, strict=True)]
    sizes = [resident_mb(process) for process in parts]
    into.agent_percent.append(percents[0])
    into.supervisor_percent.append(percents[1])
    into.agent_mb.append(sizes[0])
    into.supervisor_mb.append(sizes[1])


async def restart(agent: Agent, watched: Door, into: Restarts) -> None:
    """Kills the agent and starts it again, with all its tasks running."""
    killed = agent.signal(signal.SIGKILL)
    await agent.child.wait()
    started = agent.start()
    async with asyncio.timeout(DEADLINE_S):
        told = await watched.told(TASKS, started)
    into.from_start_s.append(told - started)
    into.from_kill_s.append(told - killed)


async def run_tasks(parts: Parts) -> str:
    """Starts TASKS processes; returns their run when all of them run."""
    api = parts.api(ONE)
    await api.apply(shapes.fan("sleepers", TASKS, ("sleep", "3600")))
    run = await api.trigger("sleepers")

    async def started() -> bool:
        attempts = await api.attempts(run)
        return len(attempts) == TASKS and all(each.start_time.seconds for each in attempts)

    await until(started, DEADLINE_S)
    return run


async def measure(runs: int) -> Costs:
    """Rest, then so many restarts under load, then rest under load."""
    costs = Costs()
    async with door() as watched, cluster(shards=1) as parts:
        node = parts.node(ONE, advertise=watched.address)
        watched.upstream = node.address
        node.start()
        await parts.settled()
        agent = parts.agent("agent-1", watched.address)
        agent.start()
        await parts.connected(agent.name)
        for _ in range(runs):
            await look(agent, costs.idle)
        await run_tasks(parts)
        for _ in range(runs):
            await restart(agent, watched, costs.restarts)
            await look(agent, costs.busy)
    return costs
