"""Attempts that were given up, what was said of them late, and what waits for a person."""

from __future__ import annotations

import pytest

from controlplane.core.effects import WaitKind, Writes
from controlplane.core.states import AttemptState, RunState
from controlplane.store.errors import BatchRefused
from controlplane.store.records import Fence
from tests.contract.store.rows import (
    NOW_US,
    approval_row,
    attempt_id,
    change_row,
    done_row,
    first_hop,
    late_row,
    live_row,
    mark_row,
    run_row,
    sealed_row,
    wait_gone_row,
    wait_row,
)

LOST, UNKNOWN = AttemptState.LOST, AttemptState.UNKNOWN


@pytest.fixture
async def leader(harness):
    """Commits batches of shard 0 in order, as its leader in epoch 1."""
    await harness.store.take_over(0, 0, b"h" * 16, "node-1", "node-1:1")
    batches = iter(range(1, 1_000))

    async def commit(*several):
        for writes in several:
            assert await harness.store.commit(Fence(0, 1, next(batches)), writes)

    return commit


@pytest.fixture
def ended(harness):
    """The last end of each task instance, as recovery reads it."""

    async def read():
        rows = (await harness.store.recover(0)).ended
        return [(row.attempt_id, row.state, row.finished_us) for row in rows]

    return read


def given_up(state: AttemptState = LOST) -> Writes:
    return Writes(done=[done_row(1, 0, 1, state)])


async def test_an_unknown_outcome_waits_for_an_approval_in_one_batch(harness, leader, ended):
    unknown = Writes(done=[done_row(1, 0, 1, UNKNOWN)], waits=[approval_row(1, 0)])
    await leader(first_hop(), unknown)
    assert await ended() == [(attempt_id(1), UNKNOWN, NOW_US + 20)]
    [wait] = (await harness.store.recover(0)).waits
    assert (wait.kind, wait.number, wait.due_us) == (WaitKind.APPROVAL, 1, NOW_US + 40)
    assert wait.reason == "its outcome is unknown"


async def test_an_approval_starts_another_attempt_under_the_same_number(harness, leader, ended):
    await leader(first_hop(), Writes(done=[done_row(1, 0, 1, UNKNOWN)], waits=[approval_row(1, 0)]))
    gone = wait_gone_row(1, 0, WaitKind.APPROVAL)
    await leader(Writes(waits_gone=[gone], live=[live_row(1, 0, 2)]))
    rows = await harness.store.recover(0)
    assert rows.waits == ()
    assert [(row.attempt_id, row.number) for row in rows.live] == [(attempt_id(2), 1)]
    await leader(Writes(done=[done_row(1, 0, 2, AttemptState.FAILED)]))
    assert await ended() == [(attempt_id(2), AttemptState.FAILED, NOW_US + 20)]


async def test_a_rejection_replaces_the_approval_by_a_mark(harness, leader):
    await leader(first_hop(), Writes(done=[done_row(1, 0, 1, UNKNOWN)], waits=[approval_row(1, 0)]))
    gone = wait_gone_row(1, 0, WaitKind.APPROVAL)
    await leader(Writes(waits_gone=[gone], waits=[mark_row(1, 0)]))
    [wait] = (await harness.store.recover(0)).waits
    assert (wait.kind, wait.reason) == (WaitKind.MARK, "rejected")


async def test_a_late_success_that_was_adopted_counts_as_the_end(leader, ended):
    await leader(first_hop(), given_up(), Writes(late=[late_row(1, 0, 1, adopted=True)]))
    assert await ended() == [(attempt_id(1), AttemptState.SUCCEEDED, NOW_US + 60)]


async def test_a_late_success_may_come_with_the_end_that_gave_it_up(leader, ended):
    both = given_up(UNKNOWN)
    both.late.append(late_row(1, 0, 1, adopted=True))
    await leader(first_hop(), both)
    assert await ended() == [(attempt_id(1), AttemptState.SUCCEEDED, NOW_US + 60)]


@pytest.mark.parametrize("state", [AttemptState.SUCCEEDED, AttemptState.FAILED, LOST])
async def test_a_late_result_that_was_not_adopted_changes_nothing(leader, ended, state):
    await leader(first_hop(), given_up(), Writes(late=[late_row(1, 0, 1, state)]))
    assert await ended() == [(attempt_id(1), LOST, NOW_US + 20)]


async def test_a_late_result_of_an_attempt_that_was_followed_does_not_count(leader, ended):
    followed = Writes(done=[done_row(1, 0, 1, LOST)], live=[live_row(1, 0, 2)])
    late = Writes(late=[late_row(1, 0, 1)], done=[done_row(1, 0, 2, AttemptState.FAILED)])
    await leader(first_hop(), followed, late)
    assert await ended() == [(attempt_id(2), AttemptState.FAILED, NOW_US + 20)]


async def test_only_the_first_late_result_of_an_attempt_is_kept(leader, ended):
    twice = [late_row(1, 0, 1, adopted=True), late_row(1, 0, 1, AttemptState.FAILED)]
    again = [late_row(1, 0, 1, AttemptState.FAILED)]
    await leader(first_hop(), given_up(), Writes(late=twice), Writes(late=again))
    assert await ended() == [(attempt_id(1), AttemptState.SUCCEEDED, NOW_US + 60)]


async def test_only_a_success_can_be_adopted(harness, leader):
    await leader(first_hop(), given_up())
    bad = Writes(late=[late_row(1, 0, 1, AttemptState.FAILED, adopted=True)])
    with pytest.raises(BatchRefused):
        await leader(bad)
    assert (await harness.store.read_shard(0)).batch == 2


async def test_marks_of_a_final_run_stay_and_are_not_recovered(harness, leader):
    waits = [mark_row(1, 0), wait_row(2, 0)]
    await leader(first_hop(), Writes(runs=[run_row(2)], waits=waits))
    final = [change_row(1, RunState.FAILED)]
    ends = [done_row(1, 0, 1, UNKNOWN)]
    await leader(Writes(done=ends, run_changes=final, sealed=[sealed_row(1)]))
    assert [row.run for row in (await harness.store.recover(0)).waits] == [2]
