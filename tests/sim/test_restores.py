"""A store that goes back in time under a running cluster, and the rules that survive it.

Each rule is also taken out: its story sees that it is missed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from controlplane.core.shard.restored import Aftermath
from controlplane.core.shard.shard import Shard
from controlplane.core.states import AttemptState, RunState
from controlplane.leader.sessions.memories import Memories
from controlplane.store.ports import EPOCH_LEAP
from tests.sim import memory_store
from tests.sim.cluster import Backup
from tests.sim.memory_store import MemoryDatabase
from tests.sim.nodes import TIMES
from tests.sim.processes import Plan
from tests.sim.stories import DAG, Story, tell
from tests.sim.virtual import pass_time
from tests.sim.world import Options, simulate

SUCCEEDED, THE_LOST = AttemptState.SUCCEEDED, AttemptState.LOST
LEASES = TIMES.leases
HOLD_S = (LEASES.lease_ms + LEASES.grace_ms + LEASES.drift_ms + LEASES.authority_ms) / 1_000
SHORT, LONG, NEVER = Plan(0.5), Plan(8.0), Plan(1_000.0)
Patch = pytest.MonkeyPatch
Script = Callable[[Story], Awaitable[None]]
SEEDS = range(1, 5)


async def before_the_run(story: Story, *plans: Plan, **fields: object) -> Backup:
    """A backup that has the wish for a run and nothing of the run itself, which begins."""
    await story.starts(SHORT)
    await story.ends()
    story.has("t", *plans, **fields)
    story.people.trigger(DAG)
    backup = story.backup()
    await story.runs(2)
    await pass_time(1.0)
    return backup


def hold(story: Story) -> int:
    return story.database.restored[0].hold


async def runs_on(story: Story) -> None:
    """Nothing but the store is disturbed."""
    backup = await before_the_run(story, LONG)
    story.put_back(backup)
    await story.until(lambda: hold(story) == 2, within_s=2.0)
    assert story.epoch > EPOCH_LEAP
    assert await story.ends() is RunState.SUCCEEDED
    assert len(story.ids) == 2
    assert story.states == [SUCCEEDED, SUCCEEDED]
    await story.until(lambda: hold(story) == 0)


async def cut_off_with_it(story: Story) -> None:
    """Its agent is cut off as the store goes back: another may have it only when it has ended."""
    backup = await before_the_run(story, NEVER, SHORT)
    story.cuts_off(story.hosts[story.places[1]])
    story.put_back(backup)
    back_s = story.loop.time()
    await story.runs(3)
    assert story.loop.time() - back_s > HOLD_S
    assert await story.ends() is RunState.SUCCEEDED


async def leaders_were_other_ones(story: Story) -> None:
    """Agents remember an epoch that the store has forgotten."""
    await story.starts(SHORT)
    await story.ends()
    backup = story.backup()
    story.kill_node(story.leader)
    await story.until(lambda: story.epoch == 2)
    story.people.trigger(DAG)
    await story.runs(2)
    story.put_back(backup)
    story.people.trigger(DAG)
    assert await story.ends(within_s=4 * HOLD_S) is RunState.SUCCEEDED


async def nobody_else_remembers(story: Story) -> None:
    """The leader dies as the store goes back; the next one leads before an agent can tell."""
    backup = await before_the_run(story, LONG)
    story.cuts_off(story.host)
    story.put_back(backup)
    story.kill_node(story.leader)
    await pass_time(2.0)
    story.joins(story.host)
    await story.until(lambda: hold(story) == 2)
    assert await story.ends() is RunState.SUCCEEDED
    assert len(story.ids) == 2


async def beside_a_known_one(story: Story) -> None:
    """One lease is for both: the forgotten attempt must not run on beside its next one."""
    story.has("k", Plan(60.0), dag="known")
    await story.until(lambda: all(host.agent.core.sessions.welcomed() for host in story.up()))
    story.people.trigger("known")
    await story.until(lambda: story.spawns.get("k"))
    backup = await before_the_run(story, Plan(40.0))
    story.put_back(backup)
    assert await story.ends(within_s=120.0) is RunState.SUCCEEDED
    assert len(story.spawns["k"]) == 1
    assert len(story.ids) == 2


async def ended_before_it_was_put_back(story: Story) -> None:
    """What succeeded and was acknowledged is forgotten: it is done again, under another id."""
    backup = await before_the_run(story, SHORT)
    await story.ends()
    story.put_back(backup)
    assert await story.ends(within_s=2 * HOLD_S) is RunState.SUCCEEDED
    assert len(set(story.ids)) == len(story.ids) == 3


async def not_to_be_done_twice(story: Story) -> None:
    backup = await before_the_run(story, SHORT, idempotent=False)
    await story.ends()
    story.put_back(backup)
    await story.until(story.people.waits)
    await pass_time(2 * HOLD_S)
    assert len(story.ids) == 2
    [wait] = story.people.waits()
    assert "went back" in wait["reason"]
    story.people.decide(wait, approved=True)
    assert await story.ends() is RunState.SUCCEEDED
    assert len(story.ids) == 3


async def before_it_was_acknowledged(story: Story) -> Backup:
    """A backup that has the live row of an attempt which its agent has forgotten since."""
    await story.starts(SHORT)
    await story.runs()
    backup = story.backup()
    await story.ends()
    # What the agent has forgotten is on its disk with what comes next.
    story.has("k", SHORT, dag="next")
    story.people.trigger("next")
    await story.ends()
    return backup


async def is_done_again(story: Story) -> None:
    """What was acknowledged and forgotten is given up first, and then done under another id."""
    assert await story.ends(within_s=3 * HOLD_S) is RunState.SUCCEEDED
    assert story.states == [THE_LOST, SUCCEEDED]
    assert len(set(story.ids)) == len(story.ids) == 2


async def known_and_acknowledged(story: Story) -> None:
    """The store has its live row still, its agent has forgotten it and starts anew meanwhile."""
    story.put_back(await before_it_was_acknowledged(story))
    story.host.crash_agent()
    story.host.start_agent()
    await is_done_again(story)


async def known_and_acknowledged_to_another(story: Story) -> None:
    """As before, but somebody leads already when the agent comes to tell."""
    backup = await before_it_was_acknowledged(story)
    story.host.crash_agent()
    story.put_back(backup)
    story.kill_node(story.leader)
    await story.until(lambda: story.epoch == 2)
    story.host.start_agent()
    await is_done_again(story)


class Rule(NamedTuple):
    """A rule, told by its absence; `seen_by`: what the story then says."""

    forget: Callable[[Patch], None]
    script: Script
    seen_by: str
    nodes: int = 2
    agents: int = 1


def nothing_is_assigned_for_a_period(patch: Patch) -> None:
    recover = Aftermath.recover

    def at_once(self: Aftermath, record: object, ended: frozenset[bytes]) -> None:
        recover(self, record, ended)
        self._usual_ms = 0

    patch.setattr(Aftermath, "recover", at_once)


def epochs_are_above_those_of_agents(patch: Patch) -> None:
    mark = MemoryDatabase.mark_restored

    def mark_only(self: MemoryDatabase, reason: str, words: object) -> dict[int, int]:
        before = dict(self.shards)
        marked = mark(self, reason, words)
        for shard in marked:
            self.shards[shard] = before[shard]
            self.restored[shard] = self.restored[shard]._replace(epoch=before[shard].epoch)
        return marked

    patch.setattr(memory_store, "EPOCH_LEAP", 1)
    patch.setattr(MemoryDatabase, "mark_restored", mark_only)


def unknown_attempts_are_not_stopped(patch: Patch) -> None:
    patch.setattr(Aftermath, "holding", property(lambda _: False))


def old_attempts_are_not_sent_again(patch: Patch) -> None:
    recover = Shard.recover

    def forget(self: Shard, stored: object, now: object) -> None:
        recover(self, stored, now)
        for attempt in self._book.attempts.values():
            attempt.restored = False

    patch.setattr(Shard, "recover", forget)


def harmful_tasks_are_asked_for(patch: Patch) -> None:
    patch.setattr(Aftermath, "_is_doubtful", lambda *_: False)


def agents_are_believed(patch: Patch) -> None:
    patch.setattr(Memories, "hear", lambda *_: None)


def who_was_deposed_hears_nothing(patch: Patch) -> None:
    patch.setattr(Memories, "_leads", lambda *_: True)


RULES = [
    Rule(nothing_is_assigned_for_a_period, cut_off_with_it, "I3", agents=2),
    Rule(epochs_are_above_those_of_agents, leaders_were_other_ones, "it does not come to pass"),
    Rule(unknown_attempts_are_not_stopped, runs_on, "assert"),
    Rule(old_attempts_are_not_sent_again, known_and_acknowledged, "assert"),
    Rule(harmful_tasks_are_asked_for, not_to_be_done_twice, "assert"),
    Rule(who_was_deposed_hears_nothing, known_and_acknowledged_to_another, "I4"),
    Rule(agents_are_believed, nobody_else_remembers, "I3"),
]
STORIES = [
    *(Rule(lambda _: None, script, "") for script in (beside_a_known_one,)),
    Rule(lambda _: None, ended_before_it_was_put_back, ""),
]


def told(rule: Rule, seed: int) -> None:
    tell(rule.script, nodes=rule.nodes, agents=rule.agents, seed=seed)


@pytest.mark.parametrize("rule", [*RULES, *STORIES], ids=lambda rule: rule.script.__name__)
def test_its_story_holds(rule: Rule):
    for seed in SEEDS:
        told(rule, seed)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.forget.__name__)
def test_its_absence_is_seen(rule: Rule, monkeypatch: Patch):
    rule.forget(monkeypatch)
    found = []
    for seed in SEEDS:
        try:
            told(rule, seed)
        except AssertionError as error:
            found.append(f"assert {error}")
    assert any(rule.seen_by in text for text in found), found


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_random_restores_double_nothing(seed: int):
    """Backups of lost histories are put back as well, one after the other."""
    size = Options(nodes=2, shards=2, agents=4, dags=4, seconds=15.0, faults=("restore",))
    report = simulate(seed, size)
    assert report.faults["restore"]
