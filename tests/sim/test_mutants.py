"""Rules of survival taken out one by one: an invariant sees it, in a story of a few seconds.

Each story holds as long as the rule does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from agent.core import adoption
from agent.core.actions import ExtendLeases, Record
from agent.core.attempts import Attempt as AgentAttempt
from agent.core.attempts import Origin
from agent.core.entries import Result
from agent.core.grants import Grants
from agent.core.records import AcceptedRecord, JournalState
from agent.core.session import Link as AgentLink
from agent.core.session import Sessions
from agent.core.steps import Steps
from agent.core.turn import Turn
from agent.core.work import Work
from agent.supervisor.attempts import Attempt as Deadlines
from controlplane.core.effects import Writes
from controlplane.core.shard.leases import Leases
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import BUCKETS, DagKey, bucket_of
from controlplane.leader.committer import Committer
from controlplane.store.records import Fence
from tests.sim.cluster import Cluster
from tests.sim.hosts import SimHost
from tests.sim.invariants import ViolationError
from tests.sim.memory_store import MemoryStore, Transaction
from tests.sim.memory_store import plan as plan_batch
from tests.sim.processes import Plan
from tests.sim.stories import DAG, LEASE_S, Story, tell
from tests.sim.supervisors import SimSupervisor
from tests.sim.virtual import pass_time

Patch = pytest.MonkeyPatch
Script = Callable[[Story], Awaitable[None]]
NEVER, SHORT = Plan(1_000.0), Plan(0.1)
SEEDS = range(1, 7)


class Rule(NamedTuple):
    """A rule, told by its absence: what sees it is missed in a story of so many processes."""

    forget: Callable[[Patch], None]
    script: Script
    seen_by: str
    nodes: int = 2
    agents: int = 1
    shards: int = 1


class UnfencedStore(MemoryStore):
    """Writes whatever epoch it is asked for."""

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        transaction = Transaction(self.database, fence.shard)
        plan_batch(transaction, fence, writes)
        self.database.apply(None, transaction.changes)
        return True


# Stories


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
        story.keys.remove(0, story.loop.time())
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
        story.keys.remove(1 - shard_of_story(), story.loop.time())
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
    story.keys.remove(0, story.loop.time())
    for name in story.nodes:
        if name != leader.name:
            story.network.part(host.host, name)
    await story.until(lambda: story.leader is not leader)
    await pass_time(20.0)
    story.people.cancel(*story.people.runs[0])


# Rules


def claims_are_checked(patch: Patch) -> None:
    patch.setattr(SimSupervisor, "_may_claim", lambda *_: True)
    welcome = SimSupervisor.welcome

    def say_nothing(self: SimSupervisor, connection: object, feed: Any) -> None:
        self._known = {}
        welcome(self, connection, feed)

    patch.setattr(SimSupervisor, "welcome", say_nothing)


def epochs_are_checked_and_ids_remembered(patch: Patch) -> None:
    """Either rule alone covers for the other."""
    patch.setattr(Sessions, "may_speak", lambda *_: True)
    patch.setattr(Work, "_answer_known", lambda *_: False)
    patch.setattr(Grants, "admits", lambda *_: True)


def leases_count_from_the_beat(patch: Patch) -> None:
    patch.setattr(
        AgentLink, "lease_until_ms", lambda self, _: self.heard_ms + self.attempt_lease_ms
    )


def deadlines_are_kept(patch: Patch) -> None:
    patch.setattr(Deadlines, "due", lambda *_: 0)


def leases_are_of_one_shard(patch: Patch) -> None:
    extend = Work.extend

    def extend_all(self: Work, link: Any, extension: Any, turn: Turn) -> None:
        extend(self, link, extension, turn)
        until_ms = link.lease_until_ms(extension.beat)
        for shard in range(2):
            self._steps.leases.extend(shard, until_ms)
            turn.act(ExtendLeases(shard, until_ms))

    patch.setattr(Work, "extend", extend_all)


def a_new_leader_waits(patch: Patch) -> None:
    """Lost is what the new leader does not hear of at once."""
    recover = Leases.recover

    def at_once(self: Leases) -> None:
        recover(self)
        self._floor_ms = 0
        self._times = LeaseTimes(1, 1, 1, 1)

    patch.setattr(Leases, "recover", at_once)


def what_is_accepted_is_synced(patch: Patch) -> None:
    accept = Steps.accept

    def not_synced(self: Steps, attempt: AgentAttempt, turn: Turn) -> None:
        mine = Turn(turn.now)
        accept(self, attempt, mine)
        for action in mine.actions():
            if isinstance(action, Record) and isinstance(action.record, AcceptedRecord):
                turn.act(dataclasses.replace(action, synced=False))
            else:
                turn.act(action)

    patch.setattr(Steps, "accept", not_synced)


def the_store_fences(patch: Patch) -> None:
    patch.setattr(Cluster, "store_class", UnfencedStore)


def ends_are_synced(patch: Patch) -> None:
    over = Steps.over

    def not_synced(self: Steps, attempt: AgentAttempt, result: Result, turn: Turn) -> None:
        mine = Turn(turn.now)
        over(self, attempt, result, mine)
        for action in mine.actions():
            record = isinstance(action, Record)
            turn.act(dataclasses.replace(action, synced=False) if record else action)

    patch.setattr(Steps, "over", not_synced)


def boots_are_told_apart(patch: Patch) -> None:
    restore = adoption.restore

    def of_this_boot(journal: JournalState) -> Iterator[AgentAttempt]:
        for attempt in restore(journal):
            attempt.origin = Origin.EARLIER_START
            yield attempt

    patch.setattr(adoption, "restore", of_this_boot)


def the_kill_is_waited_for(patch: Patch) -> None:
    patch.setattr(LeaseTimes, "lost_after_ms", lambda self, _: self.lease_ms)


def authority_ends(patch: Patch) -> None:
    patch.setattr(Committer, "may_speak", property(lambda _: True))
    patch.setattr(Committer, "fence_due_ms", property(lambda _: 1 << 60))


RULES = [
    Rule(claims_are_checked, restart_after_spawn, "I4"),
    Rule(epochs_are_checked_and_ids_remembered, old_assign_after_the_end, "I4"),
    Rule(leases_count_from_the_beat, frozen_agent, "I3", nodes=1, agents=2),
    Rule(deadlines_are_kept, dead_agent, "I3", agents=2),
    Rule(leases_are_of_one_shard, leader_out_of_sight, "I3", agents=2, shards=2),
    Rule(a_new_leader_waits, failover, "I3", agents=2),
    Rule(what_is_accepted_is_synced, reboot_after_spawn, "I4"),
    Rule(the_store_fences, stopped_leader, "I2"),
    Rule(ends_are_synced, restart_after_spawn, "I18"),
    Rule(boots_are_told_apart, reboot_after_spawn, "I4"),
    Rule(the_kill_is_waited_for, dead_agent_of_a_stubborn_task, "I3", agents=2),
    Rule(authority_ends, leader_without_store, "I3", agents=2),
]


def named(rule: Rule) -> str:
    return rule.forget.__name__


def told(rule: Rule, seed: int) -> None:
    tell(rule.script, nodes=rule.nodes, agents=rule.agents, shards=rule.shards, seed=seed)


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_its_story_holds_with_the_rule(rule: Rule):
    for seed in SEEDS:
        told(rule, seed)


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_its_absence_is_seen(rule: Rule, monkeypatch: pytest.MonkeyPatch):
    rule.forget(monkeypatch)
    found = []
    for seed in SEEDS:
        try:
            told(rule, seed)
        except ViolationError as error:
            found.append(str(error))
    assert any(rule.seen_by in violation for violation in found)
