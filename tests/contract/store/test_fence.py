"""The fence and takeovers, with every race that decides who may write."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.core.effects import Writes
from controlplane.store.errors import (
    CommitUnknown,
    Deposed,
    TakeoverRefused,
)
from controlplane.store.records import Fence
from tests.contract.store.rows import attempt_id, first_hop, second_hop

ME, OTHER = b"m" * 16, b"o" * 16
# By which the harness knows the message: a batch with rows ends by one, an empty one is one.
BATCHES = pytest.mark.parametrize(
    ("writes", "mark"),
    [(first_hop(), b"COMMIT"), (Writes(), b"EXECUTE fence")],
    ids=["rows", "empty"],
)


async def take_over(store, epoch, holder=ME):
    return await store.take_over(0, epoch, holder, "node-1", "node-1:7000")


async def live_attempts(store):
    return [row.attempt_id for row in (await store.recover(0)).live]


async def test_each_takeover_is_the_next_epoch(harness):
    assert await take_over(harness.store, 0) == 1
    await harness.store.commit(Fence(0, 1, 1), Writes())
    assert await take_over(harness.store, 1, OTHER) == 2
    state = await harness.store.read_shard(0)
    assert (state.epoch, state.batch, state.holder) == (2, 0, OTHER)
    assert (state.node, state.address) == ("node-1", "node-1:7000")
    assert state.taken_over_us > 0


async def test_a_takeover_from_another_epoch_is_refused(harness):
    await take_over(harness.store, 0)
    with pytest.raises(TakeoverRefused) as refused:
        await take_over(harness.store, 0, OTHER)
    assert refused.value.epoch == 1


async def test_a_takeover_that_was_ours_already_succeeds(harness):
    await take_over(harness.store, 0)
    assert await take_over(harness.store, 0) == 1


async def test_a_deposed_leader_writes_nothing(harness):
    old = harness.other_store()
    await take_over(old, 0)
    await take_over(harness.store, 1, OTHER)
    with pytest.raises(Deposed) as deposed:
        await old.commit(Fence(0, 1, 1), first_hop())
    assert deposed.value.epoch == 2
    with pytest.raises(Deposed):
        await old.commit(Fence(0, 1, 1), Writes())
    assert await live_attempts(harness.store) == []


async def test_the_same_batch_again_writes_nothing(harness):
    await take_over(harness.store, 0)
    assert await harness.store.commit(Fence(0, 1, 1), first_hop())
    assert not await harness.store.commit(Fence(0, 1, 1), first_hop())
    assert not await harness.store.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert await live_attempts(harness.store) == [attempt_id(1)]


@pytest.mark.parametrize("writes", [first_hop(), Writes()], ids=["rows", "empty"])
async def test_a_batch_behind_an_open_takeover_that_commits_is_deposed(harness, writes):
    """The race that a check without the lock on the row would lose."""
    await take_over(harness.store, 0)
    takeover = await harness.open_takeover(0, 1, OTHER)
    batch = asyncio.create_task(harness.store.commit(Fence(0, 1, 1), writes))
    await harness.someone_waits()
    await takeover.commit()
    with pytest.raises(Deposed):
        await batch
    assert (await harness.other_store().recover(0)).runs == ()
    state = await harness.store.read_shard(0)
    assert (state.epoch, state.batch) == (2, 0)


async def test_a_batch_behind_an_open_takeover_that_fails_is_written(harness):
    await take_over(harness.store, 0)
    takeover = await harness.open_takeover(0, 1, OTHER)
    batch = asyncio.create_task(harness.store.commit(Fence(0, 1, 1), first_hop()))
    await harness.someone_waits()
    await takeover.rollback()
    assert await batch
    assert await live_attempts(harness.store) == [attempt_id(1)]


async def test_of_two_takeovers_one_wins(harness):
    outcomes = await asyncio.gather(
        take_over(harness.store, 0, ME),
        take_over(harness.other_store(), 0, OTHER),
        return_exceptions=True,
    )
    state = await harness.store.read_shard(0)
    assert state.epoch == 1
    won = [outcome for outcome in outcomes if outcome == 1]
    assert len(won) == 1
    assert state.holder == (ME if outcomes[0] == 1 else OTHER)


async def stalled_batch(harness):
    """The first batch of epoch 1, sent and not answered."""
    await take_over(harness.store, 0)
    await harness.stall_commits()
    batch = asyncio.create_task(harness.store.commit(Fence(0, 1, 1), first_hop()))
    await harness.commit_stalled()
    return batch


async def test_a_commit_that_landed_unseen_is_found_by_the_same_batch(harness):
    batch = await stalled_batch(harness)
    await harness.cut()
    with pytest.raises(CommitUnknown):
        await batch
    await harness.let_land()
    assert not await harness.store.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert await live_attempts(harness.store) == [attempt_id(1)]
    assert await harness.store.commit(Fence(0, 1, 2), second_hop())


async def test_a_commit_that_hangs_is_ended_and_written_again(harness):
    batch = await stalled_batch(harness)
    await harness.cut()
    with pytest.raises(CommitUnknown):
        await batch
    other = harness.other_store()
    settled = asyncio.create_task(other.commit(Fence(0, 1, 1), Writes(), settle=True))
    assert await settled
    await harness.let_land()
    state = await harness.store.read_shard(0)
    assert (state.epoch, state.batch) == (1, 1)
    assert await live_attempts(harness.store) == []


async def test_a_takeover_ends_the_commit_that_is_in_its_way(harness):
    batch = await stalled_batch(harness)
    assert await take_over(harness.other_store(), 1, OTHER) == 2
    await harness.let_land()
    with pytest.raises(CommitUnknown):
        await batch
    with pytest.raises(Deposed):
        await harness.store.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert await live_attempts(harness.store) == []


async def test_a_takeover_after_an_unseen_commit_keeps_its_rows(harness):
    batch = await stalled_batch(harness)
    await harness.cut()
    with pytest.raises(CommitUnknown):
        await batch
    await harness.let_land()
    assert await take_over(harness.store, 1, OTHER) == 2
    assert await live_attempts(harness.store) == [attempt_id(1)]


async def test_takeover_committed_but_its_answer_lost(harness):
    """Its own holder found is success: nobody else chose those bytes."""
    harness.lose_answer(ME)
    assert await take_over(harness.store, 0) == 1
    state = await harness.other_store().read_shard(0)
    assert (state.epoch, state.batch, state.holder) == (1, 0, ME)
    assert await harness.store.commit(Fence(0, 1, 1), first_hop())


async def test_takeover_lost_on_its_way_is_sent_again(harness):
    harness.lose_request(ME)
    assert await take_over(harness.store, 0) == 1
    state = await harness.other_store().read_shard(0)
    assert (state.epoch, state.holder) == (1, ME)


@BATCHES
async def test_commit_outcome_unknown_and_it_had_committed(harness, writes, mark):
    await take_over(harness.store, 0)
    harness.lose_answer(mark)
    with pytest.raises(CommitUnknown):
        await harness.store.commit(Fence(0, 1, 1), writes)
    assert not await harness.store.commit(Fence(0, 1, 1), writes, settle=True)
    assert (await harness.store.read_shard(0)).batch == 1
    assert await live_attempts(harness.store) == ([attempt_id(1)] if writes else [])


@BATCHES
async def test_commit_outcome_unknown_and_it_had_not_committed(harness, writes, mark):
    """The transaction of the lost client still holds the row: it is ended, and all is written."""
    await take_over(harness.store, 0)
    harness.lose_request(mark)
    with pytest.raises(CommitUnknown):
        await harness.store.commit(Fence(0, 1, 1), writes)
    assert await harness.store.commit(Fence(0, 1, 1), writes, settle=True)
    assert (await harness.store.read_shard(0)).batch == 1
    assert await live_attempts(harness.store) == ([attempt_id(1)] if writes else [])


async def test_commit_outcome_unknown_and_its_answer_lost_again(harness):
    await take_over(harness.store, 0)
    harness.lose_request(b"COMMIT")
    with pytest.raises(CommitUnknown):
        await harness.store.commit(Fence(0, 1, 1), first_hop())
    harness.lose_answer(b"COMMIT")
    with pytest.raises(CommitUnknown):
        await harness.store.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert not await harness.store.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert await live_attempts(harness.store) == [attempt_id(1)]


async def test_commit_outcome_unknown_and_deposed_meanwhile(harness):
    await take_over(harness.store, 0)
    harness.lose_request(b"COMMIT")
    with pytest.raises(CommitUnknown):
        await harness.store.commit(Fence(0, 1, 1), first_hop())
    assert await take_over(harness.other_store(), 1, OTHER) == 2
    with pytest.raises(Deposed):
        await harness.store.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert await live_attempts(harness.store) == []
