from __future__ import annotations

import uuid
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from mainspring.v1 import admin_pb2, dag_pb2, run_pb2

from controlplane.core.states import AttemptState
from controlplane.store.records import AgentRow
from controlplane.telemetry.clock import SystemClock
from tests.contract.api.harness import OTHER_TOKEN, details_of, spec_of

STATE = run_pb2.RunState
TASK = run_pb2.TaskState


async def trigger(world, dag: str = "d", **fields) -> run_pb2.Run:
    return await world.runs.TriggerRun(run_pb2.TriggerRunRequest(parent=f"dags/{dag}", **fields))


async def get(world, name: str) -> run_pb2.Run:
    return await world.runs.GetRun(run_pb2.GetRunRequest(name=name))


async def applied(world, dag: dag_pb2.Dag) -> run_pb2.Run:
    """A run that its leader has made."""
    run = await trigger(world, dag.name.removeprefix("dags/"))
    await world.leader.poke([run.shard], (), 0)
    return await get(world, run.name)


async def states(world, run: run_pb2.Run) -> dict[str, int]:
    answer = await world.runs.ListTaskInstances(run_pb2.ListTaskInstancesRequest(parent=run.name))
    return {each.name.rpartition("/")[2]: each.state for each in answer.task_instances}


async def test_a_run_is_pending_until_its_leader_has_applied_it(world) -> None:
    await world.apply("a")
    world.leader.away = True
    run = await trigger(world, logical_time=Timestamp(seconds=7))
    assert run.state == STATE.RUN_STATE_PENDING
    read = await get(world, run.name)
    assert (read.state, read.logical_time.seconds) == (STATE.RUN_STATE_PENDING, 7)
    tasks = await world.runs.ListTaskInstances(run_pb2.ListTaskInstancesRequest(parent=run.name))
    assert len(tasks.task_instances) == 0
    world.leader.away = False
    await world.leader.poke([run.shard], (), 0)
    assert (await get(world, run.name)).state == STATE.RUN_STATE_RUNNING


async def test_the_leader_hears_of_a_trigger_by_itself(world) -> None:
    await world.apply("a")
    run = await trigger(world)
    steps = world.runs.WatchRun(run_pb2.WatchRunRequest(name=run.name), timeout=10)
    while (await steps.read()).run.state != STATE.RUN_STATE_RUNNING:
        pass
    steps.cancel()


async def test_the_way_of_a_run_from_trigger_to_success(world) -> None:
    await world.add_agent()
    dag = await world.apply("a>b", "a>c", "c>d")
    run = await applied(world, dag)
    assert run.name.startswith("dags/d/runs/")
    assert await states(world, run) == {
        "a": TASK.TASK_STATE_ASSIGNED,
        "b": TASK.TASK_STATE_WAITING,
        "c": TASK.TASK_STATE_WAITING,
        "d": TASK.TASK_STATE_WAITING,
    }
    await world.leader.end(world.leader.take("a"), run.shard)
    assert {(each.state, each.count) for each in (await get(world, run.name)).task_counts} == {
        (TASK.TASK_STATE_SUCCEEDED, 1),
        (TASK.TASK_STATE_ASSIGNED, 2),
        (TASK.TASK_STATE_WAITING, 1),
    }
    for task in ("b", "c", "d"):
        await world.leader.end(world.leader.take(task), run.shard)
    done = await get(world, run.name)
    assert done.state == STATE.RUN_STATE_SUCCEEDED
    assert done.HasField("end_time")
    assert set((await states(world, run)).values()) == {TASK.TASK_STATE_SUCCEEDED}
    attempts = await world.runs.ListAttempts(run_pb2.ListAttemptsRequest(parent=run.name))
    assert [each.number for each in attempts.attempts] == [1, 1, 1, 1]
    assert {each.exit_code for each in attempts.attempts} == {0}


async def test_a_failed_task_fails_what_depends_on_it_and_says_why(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a>b"))
    await world.leader.end(world.leader.take("a"), run.shard, AttemptState.FAILED)
    answer = await world.runs.ListTaskInstances(run_pb2.ListTaskInstancesRequest(parent=run.name))
    first, second = answer.task_instances
    assert (first.state, first.reason, first.exit_code) == (
        TASK.TASK_STATE_FAILED,
        "exit status 3",
        3,
    )
    assert second.state == TASK.TASK_STATE_UPSTREAM_FAILED
    assert "did not succeed" in second.reason
    assert (await get(world, run.name)).state == STATE.RUN_STATE_FAILED


async def test_a_retry_shows_when_it_is_due(world) -> None:
    await world.add_agent()
    spec = spec_of()
    spec.tasks[0].retry.max_attempts = 2
    spec.tasks[0].retry.initial_backoff.seconds = 3_000
    dag = (await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec))).dag
    run = await applied(world, dag)
    await world.leader.end(world.leader.take("a"), run.shard, AttemptState.FAILED)
    answer = await world.runs.ListTaskInstances(run_pb2.ListTaskInstancesRequest(parent=run.name))
    task = answer.task_instances[0]
    assert task.state == TASK.TASK_STATE_BACKOFF
    assert task.next_attempt_time.seconds > task.end_time.seconds + 2_000


async def test_the_same_request_id_gives_the_same_run(world) -> None:
    await world.apply("a")
    first = await trigger(world, request_id="once")
    second = await trigger(world, request_id="once")
    assert first.name == second.name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trigger(world, request_id="once", logical_time=Timestamp(seconds=1))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_run_of_no_dag_is_not_found(world) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trigger(world, "nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_trigger_right_after_an_unapplied_dag_is_not_refused(world) -> None:
    world.leader.away = True
    await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec_of()))
    run = await trigger(world)
    world.leader.away = False
    await world.leader.poke([run.shard], (), 0)
    assert (await get(world, run.name)).state == STATE.RUN_STATE_RUNNING


async def test_names_of_runs_may_leave_the_dag_out_but_not_lie(world) -> None:
    run = await applied(world, await world.apply("a"))
    number = run.name.rpartition("/")[2]
    assert (await get(world, f"dags/-/runs/{number}")).name == run.name
    for name in (f"dags/e/runs/{number}", f"dags/-/runs/{uuid.uuid4()}"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(world, name)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_another_tenant_finds_no_run(world) -> None:
    run = await applied(world, await world.apply("a"))
    other = await world.connect(OTHER_TOKEN)
    call = other.unary_unary(
        "/mainspring.v1.RunService/GetRun",
        request_serializer=run_pb2.GetRunRequest.SerializeToString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(run_pb2.GetRunRequest(name=run.name))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_cancelled_run_is_cancelling_when_the_call_returns(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a>b"))
    request = run_pb2.CancelRunRequest(name=run.name, reason="enough")
    cancelled = await world.runs.CancelRun(request)
    assert (cancelled.state, cancelled.reason) == (STATE.RUN_STATE_CANCELLING, "enough")
    await world.leader.end(world.leader.take("a"), run.shard, AttemptState.CANCELLED)
    assert (await get(world, run.name)).state == STATE.RUN_STATE_CANCELLED
    assert (await world.runs.CancelRun(request)).state == STATE.RUN_STATE_CANCELLED
    assert set((await states(world, run)).values()) == {TASK.TASK_STATE_CANCELLED}


async def test_a_pending_run_can_be_cancelled(world) -> None:
    await world.apply("a")
    world.leader.away = True
    run = await trigger(world)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.runs.CancelRun(run_pb2.CancelRunRequest(name=run.name))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    world.leader.away = False
    await world.leader.poke([run.shard], (), 0)
    assert (await get(world, run.name)).state == STATE.RUN_STATE_CANCELLED


async def test_a_finished_run_is_not_cancelled(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    await world.leader.end(world.leader.take("a"), run.shard)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.runs.CancelRun(run_pb2.CancelRunRequest(name=run.name))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details_of(caught.value, error_details_pb2.ErrorInfo).reason == "RUN_FINAL"


async def test_a_watch_sends_all_then_changes_and_ends(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a>b"))
    steps = world.runs.WatchRun(run_pb2.WatchRunRequest(name=run.name))
    first = await steps.read()
    assert len(first.task_instances) == 2
    await world.leader.start(world.leader.take("a"), run.shard)
    await world.leader.end(world.leader.take("a"), run.shard)
    second = await steps.read()
    assert {each.state for each in second.task_instances} == {
        TASK.TASK_STATE_SUCCEEDED,
        TASK.TASK_STATE_ASSIGNED,
    }
    await world.leader.end(world.leader.take("b"), run.shard)
    last = await steps.read()
    assert last.run.state == STATE.RUN_STATE_SUCCEEDED
    assert [each.name.rpartition("/")[2] for each in last.task_instances] == ["b"]
    assert await steps.read() is grpc.aio.EOF


async def test_a_watch_begins_before_the_run_does(world) -> None:
    await world.apply("a")
    world.leader.away = True
    run = await trigger(world)
    steps = world.runs.WatchRun(run_pb2.WatchRunRequest(name=run.name))
    assert (await steps.read()).run.state == STATE.RUN_STATE_PENDING
    world.leader.away = False
    await world.leader.poke([run.shard], (), 0)
    second = await steps.read()
    assert (second.run.state, len(second.task_instances)) == (STATE.RUN_STATE_RUNNING, 1)
    steps.cancel()


async def test_a_wait_ends_with_the_run_or_with_its_time(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    short = await world.runs.WaitRun(run_pb2.WaitRunRequest(name=run.name, wait_ms=30))
    assert short.state == STATE.RUN_STATE_RUNNING
    wait = world.runs.WaitRun(run_pb2.WaitRunRequest(name=run.name))
    await world.leader.end(world.leader.take("a"), run.shard)
    assert (await wait).state == STATE.RUN_STATE_SUCCEEDED


async def test_lists_of_runs_go_page_by_page_and_by_state(world) -> None:
    await world.add_agent()
    dag, other = await world.apply("a"), await world.apply("a", dag="e")
    made = [(await applied(world, each)).name for each in (dag, other, dag)]
    await world.leader.end(world.leader.take("a"), (await get(world, made[2])).shard)
    request = run_pb2.ListRunsRequest(parent="dags/-", page_size=2)
    page = await world.runs.ListRuns(request)
    assert [each.name for each in page.runs] == [made[2], made[1]]
    request.page_token = page.next_page_token
    rest = await world.runs.ListRuns(request)
    assert ([each.name for each in rest.runs], rest.next_page_token) == ([made[0]], "")
    finished = await world.runs.ListRuns(
        run_pb2.ListRunsRequest(parent="dags/d", states=[STATE.RUN_STATE_SUCCEEDED])
    )
    assert [each.name for each in finished.runs] == [made[2]]


async def test_lists_of_tasks_and_attempts_go_page_by_page(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a", "b", "c"))
    tasks = run_pb2.ListTaskInstancesRequest(parent=run.name, page_size=2)
    page = await world.runs.ListTaskInstances(tasks)
    assert [each.name[-1] for each in page.task_instances] == ["a", "b"]
    tasks.page_token = page.next_page_token
    rest = await world.runs.ListTaskInstances(tasks)
    assert ([each.name[-1] for each in rest.task_instances], rest.next_page_token) == (["c"], "")
    attempts = run_pb2.ListAttemptsRequest(parent=run.name, page_size=2)
    page = await world.runs.ListAttempts(attempts)
    attempts.page_token = page.next_page_token
    rest = await world.runs.ListAttempts(attempts)
    names = [each.name for each in (*page.attempts, *rest.attempts)]
    assert [name.split("/")[5] for name in names] == ["a", "b", "c"]
    one = await world.runs.ListAttempts(run_pb2.ListAttemptsRequest(parent=f"{run.name}/tasks/b"))
    assert [each.name for each in one.attempts] == [names[1]]


async def test_a_token_of_another_list_is_refused(world) -> None:
    run = await applied(world, await world.apply("a", "b"))
    request = run_pb2.ListTaskInstancesRequest(parent=run.name, page_size=1)
    token = (await world.runs.ListTaskInstances(request)).next_page_token
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.runs.ListTaskInstances(
            run_pb2.ListTaskInstancesRequest(
                parent=run.name, page_token=token, states=[TASK.TASK_STATE_READY]
            )
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_runs_of_a_dag_that_is_not_there_are_not_found(world) -> None:
    await world.apply("a")
    assert not (await world.runs.ListRuns(run_pb2.ListRunsRequest(parent="dags/d"))).runs
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.runs.ListRuns(run_pb2.ListRunsRequest(parent="dags/nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def utc(instant_us: int) -> str:
    return f"{datetime.fromtimestamp(instant_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%SZ}"


async def notices(world, run: run_pb2.Run) -> str:
    return "\n".join((await get(world, run.name)).notices)


async def test_a_run_says_that_no_agent_is_there(world) -> None:
    run = await applied(world, await world.apply("a"))
    assert "no agent has a session" in await notices(world, run)


async def test_a_run_says_that_no_agent_is_large_enough(world) -> None:
    await world.add_agent(cpu_millis=2_000)
    spec = spec_of("a", "b")
    for task in spec.tasks:
        task.resources.cpu = 64
    dag = (await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec))).dag
    said = await notices(world, await applied(world, dag))
    assert said == (
        "task a and 1 more: asks for 64 cores; the only agent offers 2 cores; "
        "lower its resources or add a larger agent"
    )


async def test_a_run_says_that_its_tasks_wait_for_a_slot_and_for_each_other(world) -> None:
    await world.add_agent(cpu_millis=1_000)
    spec = spec_of("a", "b", "a>c", "b>c")
    for task in spec.tasks:
        task.resources.cpu = 1
    dag = (await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec))).dag
    run = await applied(world, dag)
    slot = "waits for a free slot: 1 agent offers 1 core, 1 attempt is live"
    assert await notices(world, run) == f"task b {slot}"
    request = run_pb2.ListTaskInstancesRequest(parent=run.name)
    listed = (await world.runs.ListTaskInstances(request)).task_instances
    assert [each.reason for each in listed] == ["", slot, "waits for a, b"]


async def test_a_run_says_that_its_agent_is_away(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    assert await notices(world, run) == ""
    world.leader.fleet.disconnect("agent-1")
    assert await notices(world, run) == (
        "agent agent-1 has no session with this node: attempt 1 of task a stays live until it "
        "returns, or at most 2 min 12 s after it was last heard"
    )


def later(seconds: int) -> int:
    return SystemClock().now().wall_us // 1_000_000 * 1_000_000 + seconds * 1_000_000


async def test_an_absence_has_its_beginning_and_its_end(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a", "b"))
    world.leader.fleet.disconnect("agent-1")
    # Beyond the takeover, which is now.
    left_us = later(100)
    world.absences.left("agent-1", left_us)
    assert await notices(world, run) == (
        f"agent agent-1 has no session with this node since {utc(left_us)}: attempt 1 of task a "
        f"and 1 more stay live until it returns, or until {utc(left_us + 132_000_000)} at the "
        "latest"
    )


async def test_a_new_leader_counts_an_absence_from_its_takeover_on(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    world.leader.fleet.disconnect("agent-1")
    world.absences.left("agent-1", 0)
    shard = (await world.admin.ListShards(admin_pb2.ListShardsRequest())).shards[run.shard]
    end_us = shard.takeover_time.ToMicroseconds() + 136_000_000
    assert f"or until {utc(end_us)} at the latest" in await notices(world, run)


async def test_what_may_run_on_is_given_up_so_much_later(world) -> None:
    await world.add_agent()
    spec = spec_of("a", "b")
    spec.tasks[0].on_disconnect = dag_pb2.ON_DISCONNECT_RETRY
    spec.tasks[1].on_disconnect = dag_pb2.ON_DISCONNECT_CONTINUE
    dag = (await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec))).dag
    run = await applied(world, dag)
    world.leader.fleet.disconnect("agent-1")
    assert "at most 1 h 3 min 12 s after it was last heard" in await notices(world, run)


async def test_an_agent_without_its_journal_knows_nothing_of_what_it_had(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    began_us = later(100)
    row = AgentRow("agent-1", b"j" * 16, "boot", "0.0", 4_000, 1 << 30, began_us)
    await world.store.api.put_agent(row)
    assert await notices(world, run) == (
        f"agent agent-1 began anew with an empty journal at {utc(began_us)}: attempt 1 of task a "
        f"stays live until {utc(began_us + 132_000_000)} at the latest"
    )


async def test_a_run_says_that_its_shard_has_no_leader(world) -> None:
    run = await applied(world, await world.apply("a"))
    world.members.members = {"node-9": world.members.members["node-1"]}
    assert f"shard {run.shard} has no leader" in await notices(world, run)


async def test_a_run_that_waits_for_others_is_queued(world) -> None:
    dag = await world.apply("a", max_active_runs=1)
    await applied(world, dag)
    second = await applied(world, dag)
    assert second.state == STATE.RUN_STATE_QUEUED
    assert "active runs" in second.reason


@pytest.mark.parametrize(
    ("method", "request_message", "field"),
    [
        ("TriggerRun", run_pb2.TriggerRunRequest(parent="x"), "parent"),
        (
            "TriggerRun",
            run_pb2.TriggerRunRequest(parent="dags/d", logical_time=Timestamp(nanos=-1)),
            "logical_time",
        ),
        ("GetRun", run_pb2.GetRunRequest(name="dags/d/runs/7"), "name"),
        ("GetRun", run_pb2.GetRunRequest(name="dags/d"), "name"),
        ("ListRuns", run_pb2.ListRunsRequest(parent="runs"), "parent"),
        ("ListRuns", run_pb2.ListRunsRequest(parent="dags/-", states=[99]), "states"),
        ("ListRuns", run_pb2.ListRunsRequest(parent="dags/-", page_token="?"), "page_token"),
        ("ListAttempts", run_pb2.ListAttemptsRequest(parent="dags/d/runs"), "parent"),
        (
            "WaitRun",
            run_pb2.WaitRunRequest(name=f"dags/-/runs/{uuid.UUID(int=0)}", wait_ms=60_001),
            "wait_ms",
        ),
        (
            "CancelRun",
            run_pb2.CancelRunRequest(name=f"dags/-/runs/{uuid.UUID(int=0)}", reason="\0"),
            "reason",
        ),
    ],
)
async def test_a_bad_request_names_its_field(world, method, request_message, field) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(world.runs, method)(request_message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert [each.field for each in found] == [field]
