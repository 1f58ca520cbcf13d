"""What services read, and the commands they append."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.core.effects import CommandOutcome, StartedRow, Writes
from controlplane.core.events import WaitRecord
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import bucket_of
from controlplane.store.api import RunPosition, VersionKey
from controlplane.store.errors import NotInitialised, RequestConflict
from controlplane.store.records import (
    AgentRow,
    AttemptKey,
    Fence,
    PendingRun,
    RequestKey,
    RunItem,
)
from tests.contract.store.rows import (
    AGENT,
    DAY,
    DIGEST,
    INCARNATION,
    NOW_US,
    TENANT,
    applied_row,
    attempt_id,
    change_row,
    dag_of,
    dag_row,
    done_row,
    first_hop,
    last_hop,
    live_row,
    run_id,
    run_row,
    schedule_row,
    second_hop,
    use_row,
    wait_row,
)

KEY = dag_of(0)
ALL = list(RunState)


@pytest.fixture
async def commit(api):
    """Commits batches of shard 0 in order."""
    await api.shards.take_over(0, 0, b"h" * 16, "node-1", "node-1:1")
    batches = iter(range(1, 1_000))

    async def write(*several):
        for writes in several:
            await api.shards.commit(Fence(0, 1, next(batches)), writes)

    return write


def request_key(body: bytes = b"b" * 32, window_ms: int = 60_000) -> RequestKey:
    return RequestKey(b"k" * 32, body, window_ms)


async def append(api, **options):
    return await api.api.append_command(TENANT, bucket_of(KEY), b"body", **options)


async def test_a_command_reaches_the_shard_of_its_bucket(api):
    one = await append(api)
    two = await append(api)
    assert (one.shard, one.repeated) == (0, False)
    rows = await api.shards.read_commands(0, 10, frozenset())
    assert [row.command for row in rows] == [one.command, two.command]
    assert (await api.api.read_command(one.command)).outcome is None


async def test_the_outcome_of_a_command_can_be_read(api, commit):
    command = (await append(api)).command
    await commit(Writes(applied=[applied_row(command, CommandOutcome.CONFLICT)]))
    state = await api.api.read_command(command)
    assert (state.outcome, state.applied_us) == (CommandOutcome.CONFLICT, NOW_US + 50)
    assert await api.api.read_command(command + 1) is None


async def test_a_command_of_a_bucket_that_was_never_made_is_told(api):
    for request in (None, request_key()):
        with pytest.raises(NotInitialised):
            await api.api.append_command(TENANT, 4096, b"", request=request)


async def test_a_definition_is_stored_with_its_command_once(api):
    for _ in range(2):
        await append(api, version=(DIGEST, b"spec"))
    assert await api.api.read_spec(DIGEST) == b"spec"
    assert await api.api.read_spec(b"x" * 32) is None


async def test_the_same_request_again_gets_the_same_answer(api):
    first = await append(api, run_id=run_id(1), request=request_key())
    again = await append(api, run_id=run_id(2), request=request_key())
    assert again == first._replace(repeated=True)
    assert len(await api.shards.read_commands(0, 10, frozenset())) == 1


async def test_the_same_request_at_once_has_one_effect(api):
    answers = await asyncio.gather(*(append(api, request=request_key()) for _ in range(6)))
    assert len({answer.command for answer in answers}) == 1
    assert [answer.repeated for answer in answers].count(False) == 1


async def test_another_request_under_the_same_key_is_a_conflict(api):
    await append(api, request=request_key())
    with pytest.raises(RequestConflict):
        await append(api, request=request_key(b"c" * 32))


async def test_a_key_is_free_again_when_its_window_is_over(api):
    first = await append(api, request=request_key(window_ms=0))
    second = await append(api, request=request_key(b"c" * 32))
    assert second.command != first.command
    await api.forget_expired(0)
    assert (await append(api, request=request_key(b"c" * 32))).repeated
    await api.forget_expired(2**62)
    assert not (await append(api, request=request_key(b"c" * 32))).repeated


async def test_a_run_is_pending_until_its_command_is_applied(api, commit):
    command = (await append(api, run_id=run_id(1))).command
    pending = await api.api.find_run(TENANT, run_id(1))
    assert isinstance(pending, PendingRun)
    assert (pending.command, pending.body, pending.outcome) == (command, b"body", None)
    assert await api.api.find_run("other", run_id(1)) is None
    assert await api.api.find_run(TENANT, run_id(2)) is None
    await commit(Writes(runs=[run_row(1)], applied=[applied_row(command)]))
    run = await api.api.find_run(TENANT, run_id(1))
    assert isinstance(run, RunItem)
    assert (run.day, run.run, run.shard, run.state) == (DAY, 1, 0, RunState.RUNNING)
    assert await api.api.find_run("other", run_id(1)) is None


async def test_a_run_that_was_refused_says_so(api, commit):
    command = (await append(api, run_id=run_id(1))).command
    await commit(Writes(applied=[applied_row(command, CommandOutcome.NOT_FOUND)]))
    refused = await api.api.find_run(TENANT, run_id(1))
    assert isinstance(refused, PendingRun)
    assert refused.outcome == CommandOutcome.NOT_FOUND


async def test_a_dag_is_read_with_its_next_instant(api, commit):
    assert await api.api.read_dag(*KEY) is None
    schedules = [schedule_row(KEY, "b", NOW_US + 9), schedule_row(KEY, "a", NOW_US + 5)]
    await commit(Writes(dags=[dag_row(KEY)], schedules=schedules))
    dag = await api.api.read_dag(*KEY)
    assert (dag.shard, dag.digest, dag.task_count, dag.paused) == (0, DIGEST, 2, False)
    assert dag.next_us == NOW_US + 5
    assert [row.schedule for row in await api.api.list_schedules(*KEY)] == ["a", "b"]


async def test_dags_are_listed_in_pages(api, commit):
    keys = sorted(KEY._replace(dag=f"d{number}") for number in range(5))
    rows = [dag_row(key) for key in keys]
    await commit(Writes(dags=[*rows, rows[0]._replace(tenant="other")]))
    first = await api.api.list_dags(TENANT, "", 3)
    rest = await api.api.list_dags(TENANT, first[-1].dag, 3)
    assert [item.dag for item in (*first, *rest)] == [key.dag for key in keys]


async def test_versions_are_listed_the_newest_first(api, commit):
    digests = [bytes([number]) * 32 for number in range(4)]
    rows = [use_row(KEY, digest, NOW_US + number // 2) for number, digest in enumerate(digests)]
    await commit(Writes(versions=rows))
    first = await api.api.list_versions(*KEY, VersionKey(), 3)
    rest = await api.api.list_versions(*KEY, VersionKey(first[-1].created_us, first[-1].digest), 3)
    assert [item.digest for item in (*first, *rest)] == digests[::-1]


async def test_runs_are_listed_the_newest_first(api, commit):
    other = run_row(9)._replace(dag="another")
    await commit(Writes(runs=[*(run_row(number) for number in range(1, 6)), other]))
    first = await api.api.list_runs(*KEY, ALL, RunPosition(), 3)
    position = RunPosition(first[-1].created_us, first[-1].run)
    rest = await api.api.list_runs(*KEY, ALL, position, 3)
    assert [item.run for item in (*first, *rest)] == [5, 4, 3, 2, 1]
    every = await api.api.list_runs(TENANT, None, ALL, RunPosition(), 2)
    assert [item.run for item in every] == [9, 5]
    assert await api.api.list_runs("other", None, ALL, RunPosition(), 2) == []


async def test_runs_are_listed_by_state(api, commit):
    await commit(Writes(runs=[run_row(1), run_row(2), run_row(3, RunState.QUEUED)]))
    await commit(Writes(run_changes=[change_row(1, RunState.CANCELLING)]))
    states = [RunState.QUEUED, RunState.CANCELLING]
    found = await api.api.list_runs(*KEY, states, RunPosition(), 10)
    assert [item.run for item in found] == [3, 1]


async def test_the_rows_of_a_run_are_read_together(api, commit):
    failed = done_row(1, 0, 1, AttemptState.FAILED)._replace(exit_code=3, message="exit status 3")
    await commit(first_hop(), Writes(done=[failed], waits=[wait_row(1, 0)]))
    await commit(Writes(live=[live_row(1, 1, 2)]), Writes(started=[StartedRow(1, 1, 0, 7)]))
    rows = await api.api.run_task_rows(DAY, 1)
    [live], [ended] = rows.live, rows.ended
    assert (live.task, live.state, live.started_us, live.finished_us) == (1, 2, 7, None)
    assert (live.attempt_id, live.agent, live.batch) == (attempt_id(2), AGENT, 3)
    assert (ended.task, ended.state, ended.exit_code) == (0, AttemptState.FAILED, 3)
    assert (ended.message, ended.batch, ended.ended_batch) == ("exit status 3", 1, 2)
    assert rows.waits == (WaitRecord(1, 0, 0, 1, NOW_US + 40, 2, "exit status 1"),)
    assert (rows.run.run_id, rows.states) == (run_id(1), None)
    assert await api.api.run_task_rows(DAY, 2) is None


async def test_of_a_number_the_attempt_that_ended_last_is_read(api, commit):
    again = live_row(1, 0, 2)._replace(assigned_us=NOW_US - 5)
    lost = done_row(1, 0, 1, AttemptState.LOST)
    await commit(first_hop(), Writes(done=[lost], live=[again]), Writes(done=[done_row(1, 0, 2)]))
    [ended] = (await api.api.run_task_rows(DAY, 1)).ended
    assert (ended.attempt_id, ended.state) == (attempt_id(2), AttemptState.SUCCEEDED)


async def test_a_final_run_is_read_with_its_sealed_states(api, commit):
    await commit(first_hop(), second_hop(), last_hop())
    rows = await api.api.run_task_rows(DAY, 1)
    assert (rows.live, rows.states) == ((), b"\x06\x06")
    assert [item.task for item in rows.ended] == [0, 1]
    assert rows.run.finished_us == NOW_US + 30


async def test_attempts_are_listed_in_order_live_ones_included(api, commit):
    await commit(first_hop())
    refused = done_row(1, 0, 1, AttemptState.REJECTED)
    await commit(Writes(done=[refused], live=[live_row(1, 0, 2)]))
    failed = done_row(1, 0, 2, AttemptState.FAILED)
    await commit(Writes(done=[failed], live=[live_row(1, 0, 3, 2), live_row(1, 1, 4)]))
    run = await api.api.find_run(TENANT, run_id(1))
    first = await api.api.list_attempts(run, None, AttemptKey(), 3)
    last = first[-1]
    after = AttemptKey(last.task, last.expansion, last.number, last.assigned_us, last.attempt_id)
    rest = await api.api.list_attempts(run, None, after, 3)
    found = [(item.task, item.number, item.state) for item in (*first, *rest)]
    assert found == [(0, 1, 7), (0, 1, 4), (0, 2, 1), (1, 1, 1)]
    assert len(await api.api.list_attempts(run, 1, AttemptKey(), 9)) == 1


async def test_shards_are_listed_with_what_is_live(api, commit):
    await commit(Writes(runs=[run_row(1), run_row(2)], live=[live_row(1, 0, 1)]))
    await api.shards.quarantine(Fence(0, 1, 2), "a result", "broken")
    first, *rest = await api.api.list_shards()
    assert (first.epoch, first.batch, first.node) == (1, 2, "node-1")
    assert (first.live_runs, first.live_attempts, first.quarantined) == (2, 1, 1)
    assert [(item.shard, item.live_runs) for item in rest] == [(1, 0), (2, 0), (3, 0)]


async def test_agents_are_listed_with_their_latest_session(api, commit):
    row = AgentRow(AGENT, INCARNATION, "boot", "0.1", 4_000, 2**30, 10)
    await api.api.put_agent(row)
    await api.api.put_agent(row._replace(cpu_millis=8_000, connected_us=20))
    await api.api.put_agent(row._replace(cpu_millis=1, connected_us=5))
    await api.api.put_agent(row._replace(agent="agent-2"))
    await commit(first_hop())
    one, two = await api.api.list_agents("", 10)
    assert (one.agent, one.cpu_millis, one.live_attempts) == (AGENT, 8_000, 1)
    assert (two.agent, two.live_attempts) == ("agent-2", 0)
    assert await api.api.list_agents(AGENT, 1) == [two]


async def test_tokens_are_kept_by_hash_and_replaced_by_name(api):
    await api.api.put_token(b"1" * 32, TENANT, "admin", "root")
    await api.api.put_token(b"2" * 32, TENANT, "viewer", "root")
    assert await api.api.read_token(b"1" * 32) is None
    token = await api.api.read_token(b"2" * 32)
    assert (token.tenant, token.role, token.name) == (TENANT, "viewer", "root")
    assert await api.api.list_tokens(TENANT) == [token]
    await api.api.drop_token(TENANT, "root")
    assert await api.api.read_token(b"2" * 32) is None


async def test_a_snapshot_does_not_move_under_a_read(api, commit):
    """An attempt that moves to the history meanwhile is seen once: live or ended."""
    await commit(first_hop())
    counts = set()
    for number in range(2, 30):
        failed = done_row(1, 0, number - 1, AttemptState.FAILED)
        turn = Writes(done=[failed], live=[live_row(1, 0, number, number)])
        rows, _ = await asyncio.gather(api.api.run_task_rows(DAY, 1), commit(turn))
        counts.add(len(rows.live))
    assert counts == {1}
