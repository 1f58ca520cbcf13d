"""Bugs of masters, leaders and schedulers: two of them, an old one, or none at all."""

from __future__ import annotations

import dataclasses
from typing import Any

from agent.core import work
from agent.core.entries import Inventory
from controlplane.core.effects import Writes
from controlplane.core.shard.leases import Leases
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.leases import LeaseTimes
from controlplane.leader.committer import Committer
from controlplane.leader.leaderships import Leaderships
from controlplane.store.records import Fence, RecoveredRows
from tests.museum.exhibits import Exhibit, Patch, applies, chain
from tests.sim.cluster import Cluster
from tests.sim.memory_store import MemoryStore, Point, Transaction, plan
from tests.sim.network import Link
from tests.sim.processes import Plan
from tests.sim.stories import DAG, LEASE_S, Story
from tests.sim.violation import hold
from tests.sim.virtual import pass_time

SHORT, LONG = Plan(0.5), Plan(4.0)


async def succeeds_once(story: Story) -> None:
    """One attempt, one process, success."""
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the run does not succeed")
    hold(len(story.ids) == 1, "museum", f"the task ran {len(story.ids)} times")
    hold(story.states == [AttemptState.SUCCEEDED], "museum", story.states)


# What happened there


async def an_old_master_works_on(story: Story) -> None:
    """A master lost its session in the registry and kept its workflow; the one that took it over
    knew the same workflow. When the running task ended, both started the one behind it.
    """
    applies(story, chain(DAG, "t", "u"), t=Plan(2.0), u=SHORT)
    await story.until(lambda: all(host.agent.core.sessions.welcomed() for host in story.up()))
    story.people.trigger(DAG)
    await story.runs()
    old = story.leader
    [new] = [name for name in story.nodes if name != old.name]
    # The agent reaches only the old master, and tells it the end of the task while it stands still.
    story.network.part(story.host.host, new)
    old.hand_over(0)
    await pass_time(0.05)
    old.stop()
    await story.until(lambda: story.leader is not old)
    await story.until(lambda: story.count("results", story.host.host))
    old.go_on()
    await pass_time(0.1)
    story.joins(story.host)
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the run does not succeed")
    hold(len(story.spawns["u"]) == 1, "museum", "both masters started the next task")


async def the_result_comes_as_the_master_is_killed(story: Story) -> None:
    """The master was killed at the very moment in which a worker told it a result. The worker did
    not tell it again: after the restart the workflow ran for ever, and could not be stopped.
    """

    def killed(link: Link, _: Any) -> float:
        story.loop.call_outside(0.05, story.kill_node, story.nodes[link.node])
        story.nodes[link.node].stop()
        return 0.0

    story.on("results", killed)
    await story.starts(SHORT)
    await succeeds_once(story)
    hold(story.epoch == 2, "museum", "no other master was needed")


async def the_new_master_dies_in_the_middle_of_the_failover(story: Story) -> None:
    """A failover began by taking the dead master's name off its workflows. When the new master died
    before it was through, nobody's name was on them, and no later failover found them.
    """
    await story.starts(LONG)
    await story.runs()
    dying: list[str] = []

    def while_it_reads(point: Point, node: str) -> bool:
        if point is Point.READ and story.epoch == 2 and not dying:
            dying.append(node)
            story.loop.call_outside(0.0, story.kill_node, story.nodes[node])
        return False

    story.in_store(while_it_reads)
    story.kill_node(story.leader)
    await succeeds_once(story)
    hold(dying, "museum", "the second master did not die")
    hold(story.epoch == 3, "museum", f"epoch {story.epoch}")


async def the_scheduler_dies_before_it_notes_what_it_sent(story: Story) -> None:
    """A scheduler put a task on the queue and died before it had noted that. The next one found the
    task unassigned and put it on the queue again, while it ran.
    """
    story.at("Spawn", lambda _: story.kill_node(story.leader))
    await story.starts(LONG)
    await succeeds_once(story)
    hold(story.epoch == 2, "museum", "the scheduler did not die")


async def the_engine_is_away_for_a_while(story: Story) -> None:
    """The engine was stopped for a minute and started again, while its worker went on with a step.
    The step was given out anew, and ran twice at the same time.
    """
    await story.starts(Plan(2 * LEASE_S), SHORT)
    await story.runs()
    for node in list(story.nodes.values()):
        story.kill_node(node)
    await pass_time(1.0)
    story.start_nodes()
    await succeeds_once(story)


async def the_partition_heals(story: Story) -> None:
    """A partition cut the cluster in half, and was healed. Hardly a job ran after that, whether it
    was due before, meanwhile or later.
    """
    spec = chain(DAG, "t")
    spec.schedules.add(schedule="often").interval.FromMilliseconds(2_000)
    applies(story, spec, t=SHORT)
    await story.runs()
    away: set[str] = set()
    story.in_store(lambda _, node: node in away)
    for _ in range(3):
        await in_two_halves(story, away)
        before = len(story.ids)
        await story.until(lambda before=before: len(story.ids) > before + 2)
    story.people.pause(DAG, paused=True)


async def in_two_halves(story: Story, away: set[str]) -> None:
    """The leader's half has neither etcd nor PostgreSQL, and the agent reaches nobody: for long
    enough that another node leads and the agent's tasks are over.
    """
    leader = story.leader
    leader.election.sees_etcd = False
    away.add(leader.name)
    story.cuts_off(story.host)
    await story.until(lambda: story.leader is not leader)
    await pass_time(2 * LEASE_S)
    away.clear()
    leader.election.sees_etcd = True
    story.joins(story.host)


async def the_identity_is_lost_at_the_failover(story: Story) -> None:
    """After a failover the new leader registered without the id of the old one: as somebody new,
    who had no tasks. Those that ran were orphaned.
    """
    await story.starts(LONG)
    await story.runs()
    story.kill_node(story.leader)
    await succeeds_once(story)
    hold(story.epoch == 2, "museum", "there was no failover")
    hold(not story.count("cancels"), "museum", "the new leader did not know the task")


# The same bugs, here


class UnfencedStore(MemoryStore):
    """Writes whatever epoch it is asked for."""

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        transaction = Transaction(self.database, fence.shard)
        plan(transaction, fence, writes)
        self.database.apply(None, transaction.changes)
        return True


class OnceReadStore(MemoryStore):
    """What one leader has begun to recover is nobody's any more."""

    async def recover(self, shard: int) -> RecoveredRows:
        rows = await super().recover(shard)
        if self.database.shards[shard].epoch > 2:
            return rows._replace(runs=(), live=(), ended=(), waits=())
        return rows


class NewcomerStore(MemoryStore):
    """What the leader before had started is not told to the next one."""

    async def recover(self, shard: int) -> RecoveredRows:
        self.database.tables["attempt_live"].clear()
        return await super().recover(shard)


def nothing_is_fenced(patch: Patch) -> None:
    patch.setattr(Cluster, "store_class", UnfencedStore)


def results_are_told_once(patch: Patch) -> None:
    def without_ends(*entries: Any) -> Inventory:
        return dataclasses.replace(Inventory(*entries), finished=())

    patch.setattr(work, "Inventory", without_ends)
    patch.setattr(work.Work, "_answer_known", lambda *_: True)


def a_failover_takes_what_it_reads(patch: Patch) -> None:
    patch.setattr(Cluster, "store_class", OnceReadStore)


def it_speaks_before_it_commits(patch: Patch) -> None:
    commit = Committer.commit

    async def commit_later(self: Committer, writes: Writes) -> None:
        if not writes.live:
            await commit(self, writes)

    patch.setattr(Committer, "commit", commit_later)


def what_ran_before_is_lost_at_once(patch: Patch) -> None:
    recover = Leases.recover

    def at_once(self: Leases) -> None:
        recover(self)
        self._floor_ms = 0
        self._times = LeaseTimes(1, 1, 1, 1)

    patch.setattr(Leases, "recover", at_once)


def who_has_led_does_not_lead_again(patch: Patch) -> None:
    begin = Leaderships._begin
    led: set[int] = set()

    def begin_once(self: Leaderships, shard: int, key: Any) -> None:
        if id(self) not in led:
            led.add(id(self))
            begin(self, shard, key)

    patch.setattr(Leaderships, "_begin", begin_once)


def a_new_leader_is_somebody_new(patch: Patch) -> None:
    patch.setattr(Cluster, "store_class", NewcomerStore)


EXHIBITS = [
    Exhibit("DolphinScheduler #16759", an_old_master_works_on, nothing_is_fenced, "I2"),
    Exhibit(
        "DolphinScheduler #3616",
        the_result_comes_as_the_master_is_killed,
        results_are_told_once,
        "it does not come to pass",
    ),
    Exhibit(
        "DolphinScheduler #13355",
        the_new_master_dies_in_the_middle_of_the_failover,
        a_failover_takes_what_it_reads,
        "it does not come to pass",
        nodes=3,
    ),
    Exhibit(
        "Airflow #58570",
        the_scheduler_dies_before_it_notes_what_it_sent,
        it_speaks_before_it_commits,
        "I5",
    ),
    Exhibit(
        "Hatchet #552",
        the_engine_is_away_for_a_while,
        what_ran_before_is_lost_at_once,
        "I3",
        agents=2,
    ),
    Exhibit(
        "Chronos #511",
        the_partition_heals,
        who_has_led_does_not_lead_again,
        "it does not come to pass",
    ),
    Exhibit(
        "Chronos #520",
        the_identity_is_lost_at_the_failover,
        a_new_leader_is_somebody_new,
        "I3",
    ),
]
