"""A real history has no violation, however it is cut into pages, and at every moment of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.core.effects import WaitKind, Writes
from controlplane.core.states import AttemptState, RunState
from controlplane.store.evidence import PageSizes
from controlplane.verify.findings import Invariant
from tests.contract.store.conftest import empty
from tests.contract.verify import stories
from tests.contract.verify.conftest import change, verify
from tests.contract.verify.history import History, Takeover, write
from tests.property.core import stories as random_stories
from tests.property.core.stories import Player, moves, versions

STORIES = settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def told(history: History) -> set[object]:
    """Every kind of end, wait and outcome that a history has rows of."""
    seen: set[object] = set()
    for writes in history.log:
        if isinstance(writes, Writes):
            seen |= {AttemptState(row.state) for row in writes.done}
            seen |= {WaitKind(row.kind) for row in writes.waits}
            seen |= {row.outcome for row in writes.instants}
            seen |= {RunState(row.state) for row in [*writes.runs, *writes.run_changes]}
            seen |= {("late", row.adopted) for row in writes.late}
    return seen


def test_the_story_tells_of_everything():
    history = stories.everything()
    seen = told(history)
    assert seen >= {state for state in AttemptState if state.final} - {AttemptState.TIMED_OUT}
    assert seen >= set(WaitKind) | set(RunState) - {RunState.TIMING_OUT, RunState.CANCELLING}
    assert {("late", True), ("late", False)} <= seen
    assert sum(isinstance(entry, Takeover) for entry in history.log) == 3


@pytest.mark.parametrize(
    "sizes", [PageSizes(), PageSizes(rows=1, runs=1), PageSizes(rows=3, runs=2, spec_bytes=1)]
)
async def test_a_history_of_everything_is_clean(copy, sizes):
    findings = await verify(copy, sizes=sizes)
    assert findings.violations == []
    assert all(findings.judged[each] for each in Invariant)


async def test_it_is_clean_between_its_batches(dsn, story):
    """What is found of a live database is what is found between two batches."""
    commits = 0

    async def watch():
        nonlocal commits
        commits += 1
        if commits % 4 == 0:
            assert (await verify(dsn)).violations == [], commits

    await write(dsn, story, watch)
    assert commits > 50


async def test_a_restored_store_is_clean(dsn):
    """An attempt that it had forgotten is live again, under a number that leaves one out."""
    await write(dsn, stories.restored())
    findings = await verify(dsn)
    assert findings.violations == []
    assert findings.judged[Invariant.I2] > 3
    await change(dsn, "UPDATE shard SET restored_epoch = 0 WHERE shard = 0")
    assert +(await verify(dsn)).found == {Invariant.I11: 1}


@STORIES
@given(versions(), moves, st.sets(st.integers(0, 39), max_size=3))
def test_random_histories_are_clean(shared_dsn, version, story, takeovers):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(random_stories, "ShardBench", History)
        player = Player(version)
    for place, move in enumerate(story):
        player.play(move)
        if place in takeovers:
            player.recover()
    assert isinstance(player.bench, History)
    asyncio.run(judge(shared_dsn, player.bench))


async def judge(dsn, history):
    await empty(dsn)
    await write(dsn, history)
    assert (await verify(dsn)).violations == []
