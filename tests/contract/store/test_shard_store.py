"""What every ShardStore holds: batches, recovery, commands, keys."""

from __future__ import annotations

import pytest

from controlplane.core.effects import (
    CommandOutcome,
    ScheduleGoneRow,
    StartedRow,
    Writes,
)
from controlplane.core.events import LiveRecord, ScheduleRecord, WaitRecord
from controlplane.core.states import AttemptState, RunState
from controlplane.store.errors import BatchRefused, NotInitialised, RowsLostError, WentBack
from controlplane.store.records import CommandRow, Fence, VersionRow
from tests.contract.store.rows import (
    AGENT,
    DAY,
    DIGEST,
    INCARNATION,
    NOW_US,
    applied_row,
    attempt_id,
    change_row,
    dag_of,
    dag_row,
    done_row,
    first_hop,
    instant_row,
    last_hop,
    live_row,
    run_id,
    run_row,
    schedule_row,
    sealed_row,
    second_hop,
    use_row,
    wait_gone_row,
    wait_row,
)

HOLDER = b"h" * 16


@pytest.fixture
async def leader(harness):
    """Commits batches of shard 0 in order, as its leader in epoch 1."""
    await harness.store.take_over(0, 0, HOLDER, "node-1", "node-1:1")
    batches = iter(range(1, 1_000))

    async def commit(writes):
        return await harness.store.commit(Fence(0, 1, next(batches)), writes)

    return commit


async def test_a_shard_that_nobody_has_led_is_in_epoch_0(harness):
    state = await harness.store.read_shard(3)
    assert (state.epoch, state.batch, state.node) == (0, 0, "")


async def test_a_shard_that_was_never_made_is_told(harness):
    with pytest.raises(NotInitialised):
        await harness.store.read_shard(99)


async def test_batches_are_counted_by_the_fence(harness, leader):
    assert await leader(Writes())
    assert await leader(first_hop())
    state = await harness.store.read_shard(0)
    assert (state.epoch, state.batch, state.holder) == (1, 2, HOLDER)


async def test_a_batch_whose_predecessors_are_gone_tells_that_the_store_went_back(harness, leader):
    with pytest.raises(WentBack):
        await harness.store.commit(Fence(0, 1, 5), Writes())


async def test_a_hop_moves_the_parent_to_the_history_and_assigns_the_child(harness, leader):
    await leader(first_hop())
    assert await leader(second_hop())
    rows = await harness.store.recover(0)
    ids = (attempt_id(2), 1, AGENT, INCARNATION)
    assert rows.live == (LiveRecord(1, 1, 0, *ids, NOW_US + 2, None, 1),)
    [ended] = rows.ended
    assert (ended.run, ended.task, ended.number) == (1, 0, 1)
    assert (ended.state, ended.finished_us) == (AttemptState.SUCCEEDED, NOW_US + 20)


async def test_a_final_run_is_not_recovered(harness, leader):
    for writes in (first_hop(), second_hop(), last_hop()):
        await leader(writes)
    rows = await harness.store.recover(0)
    assert rows.runs == rows.live == rows.ended == ()


async def test_a_live_run_is_recovered_as_it_was_last_changed(harness, leader):
    await leader(Writes(runs=[run_row(1), run_row(2, RunState.QUEUED)]))
    await leader(Writes(run_changes=[change_row(1, RunState.CANCELLING, "not needed")]))
    one, two = (await harness.store.recover(0)).runs
    assert (one.state, one.reason, one.started_us) == (4, "not needed", NOW_US + 2)
    assert (one.key, one.digest, one.run_id) == (dag_of(0), DIGEST, run_id(1))
    assert (two.state, two.started_us, two.created_us) == (2, None, NOW_US + 2)


async def test_a_run_may_be_new_and_final_in_one_batch(harness, leader):
    new, change = run_row(1, RunState.CANCELLED), change_row(1, RunState.CANCELLED, "no")
    assert await leader(Writes(runs=[new], run_changes=[change], sealed=[sealed_row(1)]))
    assert (await harness.store.recover(0)).runs == ()


async def test_a_retry_ends_and_assigns_the_same_task_instance(harness, leader):
    await leader(first_hop())
    failed = done_row(1, 0, 1, AttemptState.FAILED)
    assert await leader(Writes(done=[failed], live=[live_row(1, 0, 9, number=2)]))
    rows = await harness.store.recover(0)
    assert [(row.attempt_id, row.number) for row in rows.live] == [(attempt_id(9), 2)]
    assert [(row.number, row.state) for row in rows.ended] == [(1, AttemptState.FAILED)]


@pytest.mark.parametrize(
    "assigned_us", [NOW_US + 2, NOW_US - 5], ids=["later", "by a clock behind"]
)
async def test_the_last_attempt_of_a_number_counts(harness, leader, assigned_us):
    await leader(first_hop())
    refused = done_row(1, 0, 1, AttemptState.REJECTED)
    again = live_row(1, 0, 2)._replace(assigned_us=assigned_us)
    await leader(Writes(done=[refused], live=[again]))
    await leader(Writes(done=[done_row(1, 0, 2, AttemptState.FAILED)]))
    [ended] = (await harness.store.recover(0)).ended
    assert ended.state == AttemptState.FAILED


async def test_a_start_is_noted_and_survives_into_the_history(harness, leader):
    await leader(first_hop())
    await leader(Writes(started=[StartedRow(1, 0, 0, NOW_US + 5)]))
    assert [row.started_us for row in (await harness.store.recover(0)).live] == [NOW_US + 5]


async def test_a_start_and_an_end_in_one_batch(harness, leader):
    await leader(first_hop())
    start = StartedRow(1, 0, 0, NOW_US + 5)
    assert await leader(
        Writes(started=[start], done=[done_row(1, 0, 1)], live=[live_row(1, 0, 2, 2)])
    )
    assert [row.started_us for row in (await harness.store.recover(0)).live] == [None]


@pytest.mark.parametrize("next_tasks", [(), (0,), (1,)], ids=["alone", "again", "next"])
async def test_the_end_of_an_attempt_that_is_not_live_is_our_bug(harness, leader, next_tasks):
    """Another one of its task instance is."""
    await leader(first_hop())
    live = [live_row(1, task, 2) for task in next_tasks]
    with pytest.raises(RowsLostError):
        await leader(Writes(done=[done_row(1, 0, 7)], live=live))
    rows = await harness.store.recover(0)
    assert [row.attempt_id for row in rows.live] == [attempt_id(1)]
    assert rows.ended == ()


async def test_a_change_of_a_run_that_is_not_there_is_our_bug(harness, leader):
    with pytest.raises(RowsLostError):
        await leader(Writes(run_changes=[change_row(1, RunState.RUNNING)]))


async def test_waits_come_and_go(harness, leader):
    await leader(first_hop())
    await leader(Writes(done=[done_row(1, 0, 1, AttemptState.FAILED)], waits=[wait_row(1, 0)]))
    expected = WaitRecord(1, 0, 0, 1, NOW_US + 40, 2, "exit status 1")
    assert (await harness.store.recover(0)).waits == (expected,)
    await leader(Writes(waits_gone=[wait_gone_row(1, 0)], live=[live_row(1, 0, 2, 2)]))
    assert (await harness.store.recover(0)).waits == ()


async def test_a_wait_that_came_and_went_in_one_batch_leaves_nothing(harness, leader):
    await leader(Writes(runs=[run_row(1)]))
    await leader(Writes(waits=[wait_row(1, 0), wait_row(1, 1)], waits_gone=[wait_gone_row(1, 0)]))
    assert [row.task for row in (await harness.store.recover(0)).waits] == [1]


async def test_dags_and_schedules_are_recovered_with_their_specs(harness, leader):
    key, other = dag_of(0), dag_of(1)
    await harness.put_spec(DIGEST, b"spec")
    schedule = schedule_row(key, "daily", NOW_US)
    await leader(Writes(dags=[dag_row(key)], versions=[use_row(key)], schedules=[schedule]))
    await leader(Writes(dags=[dag_row(other)]))
    rows = await harness.store.recover(0)
    assert [(row.key, row.digest, row.revision) for row in rows.dags] == [(key, DIGEST, 1)]
    assert rows.schedules == (ScheduleRecord(key, "daily", "interval 60000", NOW_US),)
    assert rows.versions == (VersionRow(*key, DIGEST, b"spec"),)


async def test_a_dag_without_schedules_or_runs_comes_without_its_spec(harness, leader):
    key = dag_of(0)
    await harness.put_spec(DIGEST, b"spec")
    await leader(Writes(dags=[dag_row(key)]))
    assert (await harness.store.recover(0)).versions == ()
    assert await harness.store.read_versions([(key, DIGEST), (key, b"x" * 32)]) == [
        VersionRow(*key, DIGEST, b"spec")
    ]
    await leader(Writes(runs=[run_row(1)]))
    assert (await harness.store.recover(0)).versions == (VersionRow(*key, DIGEST, b"spec"),)


async def test_the_current_version_comes_along_with_runs_of_an_older_one(harness, leader):
    """It says how many runs the DAG may have at a time, those of other versions included."""
    key, newer = dag_of(0), b"n" * 32
    await harness.put_spec(DIGEST, b"spec")
    await harness.put_spec(newer, b"newer")
    await leader(Writes(dags=[dag_row(key)], runs=[run_row(1)]))
    await leader(Writes(dags=[dag_row(key, newer, revision=2)]))
    assert (await harness.store.recover(0)).versions == (
        VersionRow(*key, DIGEST, b"spec"),
        VersionRow(*key, newer, b"newer"),
    )


async def test_a_dag_is_replaced_and_keeps_its_creation(harness, leader):
    key = dag_of(0)
    await leader(Writes(dags=[dag_row(key)]))
    changed = dag_row(key, revision=2)._replace(paused=True, pause_reason="later", created_us=7)
    await leader(Writes(dags=[changed], versions=[use_row(key), use_row(key, created_us=9)]))
    [dag] = (await harness.store.recover(0)).dags
    assert (dag.paused, dag.pause_reason, dag.revision) == (True, "later", 2)
    assert dag.created_us == NOW_US


async def test_a_schedule_is_replaced_moved_and_dropped(harness, leader):
    key = dag_of(0)
    rows = [schedule_row(key, name, NOW_US) for name in ("one", "two", "three")]
    await leader(Writes(dags=[dag_row(key)], schedules=rows))
    gone = [ScheduleGoneRow(*key, "one"), ScheduleGoneRow(*key, "two")]
    moved = [schedule_row(key, "two", NOW_US + 1), schedule_row(key, "three", None)]
    await leader(Writes(schedules_gone=gone, schedules=moved))
    found = {row.schedule: row.next_us for row in (await harness.store.recover(0)).schedules}
    assert found == {"two": NOW_US + 1, "three": None}


async def test_an_instant_fires_once(harness, leader):
    key = dag_of(0)
    instant = instant_row(key, "daily", NOW_US)
    await leader(Writes(instants=[instant, instant_row(key, "daily", NOW_US - 10**15)]))
    with pytest.raises(BatchRefused):
        await leader(Writes(instants=[instant], runs=[run_row(5)]))
    assert (await harness.store.recover(0)).runs == ()


async def test_commands_are_read_in_order_until_they_are_answered(harness, leader):
    for command in (5, 3, 4):
        await harness.append(command, 0, b"body %d" % command)
    await harness.append(6, 1, b"of another shard")
    rows = await harness.store.read_commands(0, 10, frozenset())
    assert rows[0] == CommandRow(3, "acme", b"body 3")
    assert [row.command for row in rows] == [3, 4, 5]
    assert [row.command for row in await harness.store.read_commands(0, 1, frozenset({3}))] == [4]
    await leader(Writes(applied=[applied_row(3), applied_row(5, CommandOutcome.CONFLICT)]))
    assert [row.command for row in await harness.store.read_commands(0, 9, frozenset())] == [4]


async def test_a_command_is_answered_once(harness, leader):
    await harness.append(1, 0, b"")
    await leader(Writes(applied=[applied_row(1)]))
    with pytest.raises(RowsLostError):
        await leader(Writes(applied=[applied_row(1)], runs=[run_row(1)]))
    assert (await harness.store.recover(0)).runs == ()


async def test_a_command_that_was_quarantined_is_not_read_again(harness, leader):
    await harness.append(1, 0, b"\xff")
    await leader(Writes())
    assert await harness.store.quarantine(Fence(0, 1, 2), 1, "cannot be \0 parsed")
    assert await harness.store.read_commands(0, 10, frozenset()) == []
    assert await harness.store.quarantine(Fence(0, 1, 3), "result of x", "a NUL")
    assert not await harness.store.quarantine(Fence(0, 1, 3), "result of x", "a NUL")


BAD_WRITES = {
    "NUL in a text": Writes(run_changes=[change_row(1, RunState.RUNNING, "a\0b")]),
    "lone surrogate": Writes(run_changes=[change_row(1, RunState.RUNNING, "\ud800")]),
    "second live attempt": Writes(live=[live_row(1, 0, 8)]),
    "run twice": Writes(runs=[run_row(1)]),
    "final run without an end": Writes(
        run_changes=[change_row(1, RunState.FAILED)._replace(finished_us=None)]
    ),
}


@pytest.mark.parametrize("bad", BAD_WRITES.values(), ids=BAD_WRITES)
async def test_a_batch_with_bad_rows_is_refused_as_a_whole(harness, leader, bad):
    await leader(first_hop())
    before = await harness.store.recover(0)
    good = Writes(dags=[dag_row(dag_of(0))])
    for kind in ("runs", "run_changes", "live"):
        setattr(good, kind, getattr(bad, kind))
    with pytest.raises(BatchRefused):
        await leader(good)
    assert await harness.store.recover(0) == before
    assert (await harness.store.read_shard(0)).batch == 1


async def test_after_a_refused_batch_its_number_is_free(harness, leader):
    await leader(first_hop())
    with pytest.raises(BatchRefused):
        await harness.store.commit(Fence(0, 1, 2), Writes(runs=[run_row(1)]))
    assert await harness.store.commit(Fence(0, 1, 2), second_hop())


async def test_shards_do_not_see_each_other(harness, leader):
    await harness.store.take_over(1, 0, HOLDER, "node-1", "node-1:1")
    await leader(first_hop())
    await harness.store.commit(Fence(1, 1, 1), Writes(runs=[run_row(9, shard=1)]))
    assert [row.run for row in (await harness.store.recover(1)).runs] == [9]
    assert (await harness.store.recover(1)).live == ()
    assert [(row.day, row.run) for row in (await harness.store.recover(0)).runs] == [(DAY, 1)]


async def test_keys_of_runs_are_never_given_twice(harness):
    one = await harness.store.reserve_run_keys(3)
    two = await harness.other_store().reserve_run_keys(65_536)
    assert len(one) == 3
    assert len(two) == 65_536
    assert not set(one) & set(two)
    with pytest.raises(ValueError, match="at most"):
        await harness.store.reserve_run_keys(65_537)
