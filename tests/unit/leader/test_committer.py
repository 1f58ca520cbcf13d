import asyncio

import pytest

from controlplane.leader.patience import GivenUp
from controlplane.store.errors import BatchRefused, CommitUnknown, Deposed, StoreUnavailable
from tests.sim.virtual import pass_time
from tests.unit.leader.harness import CLAIM, LoopClock, Shell, some_writes, virtual


@virtual
async def test_batches_are_numbered_without_gaps():
    shell = Shell()
    first, second = some_writes(), some_writes()
    await shell.committer.commit(first)
    await shell.committer.fence()
    await shell.committer.quarantine(5, "why")
    await shell.committer.commit(second)
    fences = [fence for fence, _, _ in shell.store.batches]
    assert fences == [(CLAIM.shard, CLAIM.epoch, number) for number in (1, 2, 3, 4)]
    assert shell.committer.batch == 4


@virtual
async def test_an_unknown_outcome_is_settled_by_the_same_batch():
    shell = Shell()
    shell.store.outcomes += [CommitUnknown("x"), CommitUnknown("x"), True]
    writes = some_writes()
    await shell.committer.commit(writes)
    assert [(fence.batch, settle) for fence, _, settle in shell.store.batches] == [
        (1, False),
        (1, True),
        (1, True),
    ]
    assert all(sent is writes for _, sent, _ in shell.store.batches)
    assert shell.stats.counters()["commits_retried"] == 2


@virtual
async def test_a_batch_that_is_not_there_is_sent_again_with_the_same_number():
    shell = Shell()
    shell.store.outcomes += [StoreUnavailable("x"), True]
    await shell.committer.commit(some_writes())
    assert [(fence.batch, settle) for fence, _, settle in shell.store.batches] == [
        (1, False),
        (1, False),
    ]


@virtual
async def test_found_there_already_the_first_sending_counts():
    shell = Shell()
    sent_ms = LoopClock().now().mono_ms
    shell.store.outcomes += [CommitUnknown("x"), False]
    await shell.committer.commit(some_writes())
    assert shell.committer.sent_ms == sent_ms
    assert shell.committer.batch == 1


@virtual
async def test_written_by_a_later_call_that_call_counts():
    shell = Shell()
    sent_ms = LoopClock().now().mono_ms
    shell.store.outcomes += [CommitUnknown("x"), True]
    await shell.committer.commit(some_writes())
    assert shell.committer.sent_ms > sent_ms


@virtual
async def test_the_allowance_to_speak_counts_from_the_sending():
    shell = Shell()
    answer = asyncio.get_running_loop().create_future()
    shell.store.outcomes.append(answer)
    asyncio.get_running_loop().call_later(3, answer.set_result, True)
    await shell.committer.commit(some_writes())
    assert shell.committer.may_speak
    await pass_time(1)
    assert shell.committer.may_speak
    await pass_time(0.01)
    assert not shell.committer.may_speak


@pytest.mark.parametrize("error", [Deposed(0, 9), BatchRefused("x", "22000")])
def test_what_is_known_is_raised(error):
    @virtual
    async def scenario():
        shell = Shell()
        shell.store.outcomes.append(error)
        with pytest.raises(type(error)):
            await shell.committer.commit(some_writes())
        assert shell.committer.batch == 0

    scenario()


@virtual
async def test_a_shard_that_is_given_up_is_not_held_by_its_store():
    shell = Shell()
    shell.store.outcomes += [StoreUnavailable("x")] * 100
    asyncio.get_running_loop().call_later(2, shell.patience.give_up)
    with pytest.raises(GivenUp):
        await shell.committer.commit(some_writes())
    assert shell.committer.batch == 0
