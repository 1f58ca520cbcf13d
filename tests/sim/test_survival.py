"""Stories in which one rule of survival decides; each holds, whatever the delays.

Without the rule an invariant is broken in its story: the patches of tests/mutants take the rules
out, and tests/sim/test_mutants.py does so with those that doubles keep here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from controlplane.core.types import BUCKETS, DagKey, bucket_of
from tests.sim.hosts import SimHost
from tests.sim.processes import Plan
from tests.sim.stories import DAG, LEASE_S, Story, tell
from tests.sim.virtual import pass_time

Script = Callable[[Story], Awaitable[None]]
NEVER, SHORT = Plan(1_000.0), Plan(0.1)
SEEDS = range(1, 7)


class Scene(NamedTuple):
    """A story in a cluster of so many processes."""

    script: Script
    nodes: int = 2
    agents: int = 1
    shards: int = 1

    def told(self, seed: int) -> None:
        """Raises ViolationError, or what the script expects in vain."""
        nodes, agents, shards = self.nodes, self.agents, self.shards
        tell(self.script, nodes=nodes, agents=agents, shards=shards, seed=seed)


async def restart_after_spawn(story: Story) -> None:
    """The agent dies as a process is there, and starts again."""

    def crash(host: SimHost) -> None:
        host.crash_agent()
        host.loop.call_outside(0.2, host.start_agent)

    story.at("spawned", crash)
    await story.starts(Plan(1.0))
    await story.ends()


async def old_assign_after_the_end(story: Story) -> None:
    """An assignment arrives late, when the next leader had it done and its result has been told."""

    def delay(link: Any, _: Any) -> float:
        story.nodes[link.node].election.sees_etcd = False
        story.keys.remove(0)
        return 2.8

    story.on("assigns", delay)
    await story.starts(SHORT)
    await story.ends()
    await pass_time(3.0)


async def frozen_agent(story: Story) -> None:
    """An assignment waits in the socket of an agent that stands still until it is given up."""

    def freeze(link: Any, _: Any) -> float:
        agent = story.hosts[link.agent].agent
        agent.stop()
        story.loop.call_outside(2 * LEASE_S, agent.go_on)
        return 0.0

    story.on("assigns", freeze)
    await story.starts(NEVER)
    await pass_time(3 * LEASE_S)
    story.people.cancel(*story.people.runs[0])


async def dead_agent(story: Story) -> None:
    """An agent dies for good while its task would run on."""
    await story.starts(NEVER, Plan(8.0))
    await story.runs()
    host = story.hosts[story.places[0]]
    host.crash_agent()
    await story.ends()
    host.start_agent()


async def dead_agent_of_a_stubborn_task(story: Story) -> None:
    """As before, and the task takes no notice of a gentle end."""
    await story.starts(Plan(1_000.0, term_s=None), Plan(8.0))
    await story.runs()
    await pass_time(5.0)
    host = story.hosts[story.places[0]]
    host.crash_agent()
    await story.ends()
    host.start_agent()


async def leader_out_of_sight(story: Story) -> None:
    """An agent reaches the leader of another shard, but not that of its task."""
    other = "other"
    while bucket_of(DagKey("default", other)) * 2 // BUCKETS == shard_of_story():
        other += "."
    await story.starts(NEVER, Plan(8.0))
    await story.runs()
    host, leader = story.hosts[story.places[0]], story.database.shards[shard_of_story()].node
    if story.database.shards[1 - shard_of_story()].node == leader:
        story.nodes[leader].election.sees_etcd = False
        story.keys.remove(1 - shard_of_story())
    await story.until(lambda: len({row.node for row in story.database.shards.values()}) == 2)
    story.hide_etcd(hidden=False)
    story.network.part(host.host, leader)
    story.has("u", NEVER, dag=other)
    story.people.trigger(other)
    await story.runs(2)
    await story.until(lambda: "u" in story.spawns)
    await pass_time(1.0)
    story.people.cancel(*story.people.runs[0])
    story.people.cancel(*story.people.runs[1])


def shard_of_story() -> int:
    return bucket_of(DagKey("default", DAG)) * 2 // BUCKETS


async def failover(story: Story) -> None:
    """The leader dies while tasks run; the agent comes to the next one a little late."""
    await story.starts(NEVER, Plan(8.0))
    await story.runs()
    leader = story.leader
    others = [name for name in story.nodes if name != leader.name]
    host = story.hosts[story.places[0]]
    story.network.part(host.host, others[0])
    story.kill_node(leader)
    await pass_time(5.0)
    story.joins(host)
    await pass_time(5.0)
    story.people.cancel(*story.people.runs[0])


async def stopped_leader(story: Story) -> None:
    """A leader stands still until agents seem silent to it, and goes on when another one leads."""
    await story.starts(Plan(20.0))
    await story.runs()
    leader = story.leader
    leader.stop()
    await pass_time(2 * LEASE_S)
    story.check()
    leader.go_on()
    await story.ends()


async def reboot_after_spawn(story: Story) -> None:
    """The host goes down as a process is there, and boots again at once."""

    def reboot(host: SimHost) -> None:
        host.go_down()
        host.loop.call_outside(0.5, host.come_up)

    story.at("spawned", reboot)
    await story.starts(Plan(1.0))
    await story.ends()


async def leader_without_store(story: Story) -> None:
    """The leader has lost the store and goes on; the agent reaches no other node."""
    await story.starts(NEVER, Plan(8.0))
    await story.runs()
    leader, host = story.leader, story.hosts[story.places[0]]
    # Its start is recorded: there is nothing to commit.
    await pass_time(3.0)
    story.in_store(lambda _, node: node == leader.name)
    leader.election.sees_etcd = False
    story.keys.remove(0)
    for name in story.nodes:
        if name != leader.name:
            story.network.part(host.host, name)
    await story.until(lambda: story.leader is not leader)
    await pass_time(20.0)
    story.people.cancel(*story.people.runs[0])


async def queued_runs_of_an_older_version(story: Story) -> None:
    """The DAG may have fewer runs at a time than the version of its queued runs said."""
    await story.starts(Plan(2.0), max_active_runs=2)
    for _ in range(4):
        story.people.trigger(DAG)
    await story.runs(2)
    story.has("t", Plan(2.0), max_active_runs=1)
    await pass_time(0.5)
    story.leader.election.sees_etcd = False
    story.keys.remove(0)
    await story.ends()


SCENES = (
    Scene(restart_after_spawn),
    Scene(old_assign_after_the_end),
    Scene(frozen_agent, nodes=1, agents=2),
    Scene(dead_agent, agents=2),
    Scene(dead_agent_of_a_stubborn_task, agents=2),
    Scene(leader_out_of_sight, agents=2, shards=2),
    Scene(failover, agents=2),
    Scene(stopped_leader),
    Scene(reboot_after_spawn),
    Scene(leader_without_store, agents=2),
    Scene(queued_runs_of_an_older_version, agents=2),
)


def named(scene: Scene) -> str:
    return scene.script.__name__


@pytest.mark.parametrize("scene", SCENES, ids=named)
def test_the_story_holds(scene: Scene):
    for seed in SEEDS:
        scene.told(seed)
