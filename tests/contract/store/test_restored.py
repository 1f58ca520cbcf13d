"""A store that went back in time: what proves it, what a mark does, who is deposed."""

from __future__ import annotations

import pytest

from controlplane.core.effects import HoldRow, Writes
from controlplane.core.states import AttemptState
from controlplane.store.errors import Deposed, RowsLostError, TakeoverRefused, WentBack
from controlplane.store.ports import EPOCH_LEAP
from controlplane.store.records import Fence, ShardWord
from controlplane.store.restored import mark_restored
from tests.contract.store.rows import DIGEST, attempt_id, done_row, first_hop

ME, OTHER, THIRD = b"m" * 16, b"o" * 16, b"t" * 16
WHY = "restored from a backup"


async def take_over(store, epoch, holder=ME, shard=0):
    return await store.take_over(shard, epoch, holder, "node-1", "node-1:7000")


async def commits(store, epoch, last, shard=0):
    for batch in range(1, last + 1):
        await store.commit(Fence(shard, epoch, batch), Writes())


async def restored_of(store, shard=0):
    return (await store.recover(shard)).restored


async def test_words_that_were_committed_are_not_contradicted(harness):
    store = harness.store
    await take_over(store, 0)
    await commits(store, 1, 3)
    await take_over(store, 1, OTHER)
    await commits(store, 2, 1)
    words = [
        ShardWord(0, 1, ME, 3),
        ShardWord(0, 1, b"", 2),
        ShardWord(0, 2, OTHER, 1),
        ShardWord(9, 1, ME, 1),
    ]
    assert await store.contradicted(words) == []
    assert await store.contradicted([]) == []


@pytest.mark.parametrize(
    "word",
    [
        ShardWord(0, 3, THIRD, 0),
        ShardWord(0, 2, OTHER, 2),
        ShardWord(0, 2, THIRD, 0),
        ShardWord(0, 1, ME, 4),
        ShardWord(0, 1, THIRD, 1),
    ],
    ids=["later epoch", "later batch", "other holder", "later batch of before", "other before"],
)
async def test_a_word_that_the_store_does_not_know_contradicts_it(harness, word):
    store = harness.store
    await take_over(store, 0)
    await commits(store, 1, 3)
    await take_over(store, 1, OTHER)
    await commits(store, 2, 1)
    assert await store.contradicted([word, ShardWord(0, 1, ME, 1)]) == [word]


async def test_a_mark_deposes_all_leaders_and_leaps_over_every_word(harness):
    store = harness.store
    await take_over(store, 0)
    await take_over(store, 0, OTHER, shard=1)
    epochs = await store.mark_restored(WHY, [ShardWord(0, 7, THIRD, 2), ShardWord(0, 5, ME, 9)])
    assert epochs[0] == 7 + EPOCH_LEAP
    assert epochs[1] == 1 + EPOCH_LEAP
    for shard in (0, 1):
        with pytest.raises(Deposed):
            await store.commit(Fence(shard, 1, 1), Writes())
        found = await restored_of(store, shard)
        assert (found.epoch, found.hold, found.reason) == (epochs[shard], 2, WHY)
        assert found.us > 0
    assert await take_over(store, epochs[0], THIRD) == epochs[0] + 1


async def test_a_proof_marks_once(harness):
    store = harness.store
    await take_over(store, 0)
    word = ShardWord(0, 4, OTHER, 1)
    first = await store.mark_restored(WHY, [word])
    assert await harness.other_store().mark_restored(WHY, [word]) == {}
    assert await store.contradicted([word]) == []
    assert (await store.read_shard(0)).epoch == first[0]


async def test_a_mark_by_hand_needs_no_proof_and_counts_each_time(harness):
    store = harness.store
    first = await store.mark_restored(WHY)
    again = await store.mark_restored(WHY)
    assert again[0] == first[0] + EPOCH_LEAP


async def test_a_takeover_that_the_mark_came_before_is_refused(harness):
    store = harness.store
    await take_over(store, 0)
    await store.mark_restored(WHY)
    with pytest.raises(TakeoverRefused):
        await take_over(store, 1, OTHER)


async def test_words_of_before_a_mark_are_known_and_later_ones_are_judged(harness):
    store = harness.store
    await take_over(store, 0)
    await commits(store, 1, 2)
    marked = (await store.mark_restored(WHY))[0]
    assert await store.contradicted([ShardWord(0, 1, OTHER, 9)]) == []
    epoch = await take_over(store, marked)
    assert await store.contradicted([ShardWord(0, epoch, ME, 0)]) == []
    late = ShardWord(0, epoch, ME, 1)
    assert await store.contradicted([late]) == [late]


async def test_another_server_marks_the_shard_in_its_takeover(harness):
    store = harness.store
    await take_over(store, 0)
    assert (await restored_of(store)).hold == 0
    await harness.promote()
    assert await take_over(store, 1, OTHER) == 1 + EPOCH_LEAP
    found = await restored_of(store)
    assert (found.epoch, found.hold) == (1 + EPOCH_LEAP, 2)
    assert "the server is" in found.reason
    assert await take_over(store, 1 + EPOCH_LEAP) == 2 + EPOCH_LEAP
    assert (await restored_of(store)).epoch == 1 + EPOCH_LEAP


async def test_a_leader_that_goes_on_on_another_server_has_lost_nothing(harness):
    store = harness.store
    await take_over(store, 0)
    await commits(store, 1, 2)
    await harness.promote()
    store.release(0)
    await store.commit(Fence(0, 1, 3), Writes())
    assert await take_over(store, 1, OTHER) == 2
    assert (await restored_of(store)).hold == 0


async def test_the_hold_changes_only_behind_the_fence(harness):
    store = harness.store
    marked = (await store.mark_restored(WHY))[0]
    epoch = await take_over(store, marked)
    assert (await restored_of(store)).hold == 2
    await store.commit(Fence(0, epoch, 1), Writes(holds=[HoldRow(1, 77)]))
    assert (await restored_of(store)).hold == 1
    await take_over(store, epoch, OTHER)
    with pytest.raises(Deposed):
        await store.commit(Fence(0, epoch, 2), Writes(holds=[HoldRow(0, 0)]))
    assert (await restored_of(store)).hold == 1


@pytest.mark.parametrize("left", [(3, 1), (2, 9)])
async def test_a_leader_sees_at_its_next_fence_that_its_commits_are_gone(harness, left):
    store = harness.store
    for epoch, holder in ((0, ME), (1, OTHER), (2, THIRD)):
        await take_over(store, epoch, holder)
    await commits(store, 3, 2)
    await harness.forget(0, *left)
    with pytest.raises(WentBack):
        await store.commit(Fence(0, 3, 3), Writes())


async def test_a_gap_in_the_other_direction_is_our_bug(harness):
    store = harness.store
    await take_over(store, 0)
    await commits(store, 1, 3)
    with pytest.raises(RowsLostError):
        await store.commit(Fence(0, 1, 2), Writes())


async def test_a_restored_store_goes_on_above_what_agents_remember(harness):
    """Two takeovers and their batches are lost; one agent remembers them."""
    store = harness.store
    await take_over(store, 0)
    await take_over(store, 1, OTHER)
    await take_over(store, 2, THIRD)
    await harness.forget(0, 1, 0)
    words = [ShardWord(0, 3, THIRD, 5)]
    assert await store.contradicted(words) == words
    marked = (await store.mark_restored(WHY, words))[0]
    assert await take_over(store, marked, ME) > 3
    assert await store.contradicted(words) == []


async def test_a_leader_that_holds_back_reads_which_attempts_ended_without_a_word(harness):
    store = harness.store
    await harness.put_spec(DIGEST, b"spec")
    await take_over(store, 0)
    await store.commit(Fence(0, 1, 1), first_hop())
    await store.commit(Fence(0, 1, 2), Writes(done=[done_row(1, 0, 1, state=AttemptState.LOST)]))
    found = await store.recover(0)
    assert found.unsaid == ()
    assert [row.epoch for row in found.ended] == [1]
    marked = (await store.mark_restored(WHY))[0]
    await take_over(store, marked)
    assert (await store.recover(0)).unsaid == (attempt_id(1),)


async def test_a_mark_of_some_shards_leaves_the_others(postgres_harness):
    store, admin = postgres_harness.store, postgres_harness.admin
    assert set(await mark_restored(admin, WHY, (), [2])) == {2}
    assert (await restored_of(store, 2)).hold == 2
    assert (await restored_of(store, 1)).hold == 0
