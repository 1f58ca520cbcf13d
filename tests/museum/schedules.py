"""Bugs of schedules: instants that were fired twice, or never, because the leader changed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mainspring.v1 import dag_pb2 as pb

from controlplane.codec import commands
from controlplane.codec.dag import canonical
from controlplane.core.effects import InstantOutcome, Writes
from controlplane.core.events import ScheduleRecord
from controlplane.core.shard.book import SetAside
from controlplane.core.shard.recovery import Recovery
from controlplane.core.shard.schedules import parse_definition
from controlplane.core.time.timetable import next_instant
from controlplane.core.types import DagKey, bucket_of
from controlplane.leader.claim import Claim
from controlplane.leader.leadership import Leadership
from controlplane.leader.loop import LeaderLoop, LoopParts
from controlplane.store.records import Fence
from tests.museum.exhibits import Exhibit, Patch, applies, chain
from tests.sim.cluster import Cluster
from tests.sim.memory_store import MemoryStore, Point
from tests.sim.nodes import SimNode
from tests.sim.people import TENANT
from tests.sim.processes import Plan
from tests.sim.stories import DAG, Story
from tests.sim.violation import hold
from tests.sim.virtual import pass_time

EVERY_MS = 4_000
EVERY_US = EVERY_MS * 1_000


def every_4s() -> pb.DagSpec:
    """A short task every four seconds."""
    spec = chain(DAG, "t")
    spec.schedules.add(schedule="often").interval.FromMilliseconds(EVERY_MS)
    return spec


def instants(story: Story) -> list[int]:
    """What the ledger has, in order."""
    return sorted(row["instant_us"] for row in story.database.tables["schedule_instant"].values())


def fired(story: Story) -> list[int]:
    """The instants of the runs that there are, in order."""
    return sorted(row["logical_us"] for row in story.database.tables["run"].values())


async def has_fired(story: Story, times: int) -> None:
    """Until there are so many runs more."""
    wanted = len(fired(story)) + times
    await story.until(lambda: len(fired(story)) >= wanted)


def none_is_missing(story: Story) -> None:
    """The ledger has every instant from its first to its last, and every run one of its own."""
    found = instants(story)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    hold(set(gaps) <= {EVERY_US}, "museum", f"instants were passed over: {gaps}")
    runs = fired(story)
    hold(len(set(runs)) == len(runs), "museum", f"an instant was fired twice: {runs}")
    ledger = story.database.tables["schedule_instant"].values()
    of_runs = [row["instant_us"] for row in ledger if row["outcome"] == InstantOutcome.RUN]
    hold(sorted(of_runs) == runs, "museum", f"{of_runs} instead of {runs}")


# What happened there


async def two_nodes_fire_one_trigger(story: Story) -> None:
    """Two nodes of a cluster took the same trigger, each before it knew of the other; or the
    leadership changed at that moment. The job was fired by both.
    """
    applies(story, every_4s(), t=Plan(0.2))
    await has_fired(story, 1)
    stopped: list[SimNode] = []

    def stop_as_it_fires(point: Point, node: str) -> bool:
        if point is Point.ANSWER and not stopped and len(fired(story)) == 2:
            stopped.append(story.nodes[node])
            stopped[0].stop()
        return False

    # It has fired, does not know it yet, and stands still; it goes on when another one leads.
    story.in_store(stop_as_it_fires)
    await story.until(lambda: story.epoch == 2)
    await has_fired(story, 1)
    stopped[0].go_on()
    await has_fired(story, 1)
    story.people.pause(DAG, paused=True)
    await pass_time(EVERY_MS / 1_000)
    none_is_missing(story)


async def an_instant_is_due_during_the_election(story: Story) -> None:
    """The new leader took all jobs out of its clock and put them in anew, with times counted from
    its own election. What had become due meanwhile was not run.
    """
    applies(story, every_4s(), t=Plan(0.2))
    for _ in range(2):
        await has_fired(story, 1)
        await pass_time(EVERY_MS / 1_000 - 0.5)
        node = story.leader.name
        story.kill_node(story.leader)
        await pass_time(1.0)
        story.start_node(node)
    await has_fired(story, 2)
    story.people.pause(DAG, paused=True)
    await pass_time(EVERY_MS / 1_000)
    none_is_missing(story)


async def one_malformed_job_stops_the_start(story: Story) -> None:
    """A job was stored whose schedule had no period. Each start of the scheduler, and of every one
    that stood by, divided by zero as it loaded its jobs, and ended.
    """
    malformed = every_4s()
    malformed.schedules[0].interval.FromMilliseconds(0)
    stored, digest = canonical(malformed)
    applies(story, every_4s(), t=Plan(0.2))
    await has_fired(story, 1)
    # The API would refuse it; here it is in the store already.
    bucket, body = bucket_of(DagKey(TENANT, DAG)), commands.apply_dag(DAG, digest, "")
    story.database.append_command(TENANT, bucket, body, version=(digest, stored))
    await story.until(lambda: story.database.tables["quarantine"], within_s=5.0)
    for _ in range(2):
        node = story.leader.name
        story.kill_node(story.leader)
        await has_fired(story, 2)
        story.start_node(node)
    [aside] = story.database.tables["quarantine"].values()
    hold("every_ms: 0" in aside["reason"], "museum", aside)
    story.people.pause(DAG, paused=True)
    await pass_time(EVERY_MS / 1_000)
    none_is_missing(story)


# The same bugs, here


class ForgetfulStore(MemoryStore):
    """Firing and noting that it was done are two transactions; a leader dies between them."""

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        runs = self.database.tables["run"]
        if writes.instants and len(runs) == 1:
            writes.instants.clear()
            writes.schedules.clear()
        return await super().commit(fence, writes, settle=settle)


def firing_is_noted_later(patch: Patch) -> None:
    patch.setattr(Cluster, "store_class", ForgetfulStore)


def the_next_instant_counts_from_the_election(patch: Patch) -> None:
    restore = Recovery._schedule

    def from_now(self: Recovery, record: ScheduleRecord, unreadable: Any) -> list[SetAside]:
        timetable = parse_definition(record.definition, 0)
        next_us = next_instant(timetable, self._book.now.wall_us)
        return restore(self, record._replace(next_us=next_us), unreadable)

    patch.setattr(Recovery, "_schedule", from_now)


def nothing_is_set_aside(patch: Patch) -> None:
    loop_after = Leadership._loop_after

    def careless(self: Leadership, _: object, claim: Claim, parts: LoopParts) -> LeaderLoop:
        return loop_after(self, None, claim, parts)

    patch.setattr(Leadership, "_loop_after", careless)


EXHIBITS = [
    Exhibit(
        "Chronos #614",
        one_malformed_job_stops_the_start,
        nothing_is_set_aside,
        "it does not come to pass",
    ),
    Exhibit(
        "Quartz #29, #106; Dkron #541",
        two_nodes_fire_one_trigger,
        firing_is_noted_later,
        "I7",
    ),
    Exhibit(
        "Dkron #1210",
        an_instant_is_due_during_the_election,
        the_next_instant_counts_from_the_election,
        "I7",
    ),
]
