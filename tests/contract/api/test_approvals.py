from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from google.rpc import error_details_pb2
from mainspring.client import errors
from mainspring.client.client import Client
from mainspring.v1 import approval_pb2, dag_pb2, run_pb2

from controlplane.core.states import AttemptState
from tests.contract.api.harness import OTHER_TOKEN, TOKEN, details_of, spec_of
from tests.contract.api.test_runs import applied, get, notices

TASK = run_pb2.TaskState
ATTEMPT = run_pb2.AttemptState
APPROVED, REJECTED = approval_pb2.DECISION_APPROVED, approval_pb2.DECISION_REJECTED


async def in_doubt(world, *tasks: str, dag: str = "d") -> run_pb2.Run:
    """A run whose tasks, none of them idempotent, were lost after they had started."""
    spec = spec_of(*(tasks or ("a",)), dag=dag)
    for task in spec.tasks:
        task.idempotent = False
    run = await applied(world, (await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec))).dag)
    for task in tasks or ("a",):
        await lose(world, run, task)
    return run


async def lose(world, run: run_pb2.Run, task: str) -> None:
    attempt = world.leader.take(task)
    await world.leader.start(attempt, run.shard)
    await world.leader.end(attempt, run.shard, AttemptState.LOST)


async def decide(
    world, run: run_pb2.Run, decision: int = APPROVED, **fields
) -> approval_pb2.Approval:
    given = {"name": f"{run.name}/tasks/a/approval", "decision": decision, "reason": "looked"}
    request = approval_pb2.DecideApprovalRequest(**(given | fields))
    return await world.approvals.DecideApproval(request)


async def listed(world, parent: str = "", **fields) -> approval_pb2.ListApprovalsResponse:
    request = approval_pb2.ListApprovalsRequest(parent=parent, **fields)
    return await world.approvals.ListApprovals(request)


async def first_task(world, run: run_pb2.Run) -> run_pb2.TaskInstance:
    request = run_pb2.ListTaskInstancesRequest(parent=run.name)
    return (await world.runs.ListTaskInstances(request)).task_instances[0]


async def refusal(call) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reason = details_of(caught.value, error_details_pb2.ErrorInfo).reason
    return caught.value.code(), reason, caught.value.details()


async def test_an_attempt_in_doubt_waits_for_a_person(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    task = await first_task(world, run)
    assert task.state == TASK.TASK_STATE_AWAITING_APPROVAL
    assert task.reason
    [attempt] = (
        await world.runs.ListAttempts(run_pb2.ListAttemptsRequest(parent=run.name))
    ).attempts
    assert attempt.state == ATTEMPT.ATTEMPT_STATE_UNKNOWN
    assert attempt.reason
    [approval] = (await listed(world)).approvals
    assert approval.name == f"{run.name}/tasks/a/approval"
    assert (approval.reason, approval.attempt_number) == (task.reason, 1)
    assert approval.HasField("create_time")
    assert approval.decision == approval_pb2.DECISION_UNSPECIFIED


async def test_a_run_says_how_to_decide(world) -> None:
    await world.add_agent()
    short = "/".join((await in_doubt(world)).name.split("/")[1::2])
    run = (await world.runs.ListRuns(run_pb2.ListRunsRequest(parent="dags/d"))).runs[0]
    said = await notices(world, run)
    assert f"`mainspring approval approve {short}/a --reason TEXT`" in said
    assert "approval list" not in said


async def test_many_approvals_are_one_notice(world) -> None:
    await world.add_agent()
    run = await in_doubt(world, "a", "b", "c")
    said = (await notices(world, run)).splitlines()
    assert len(said) == 2
    assert said[0].startswith("task a waits for an approval: ")
    assert said[1].startswith("2 more tasks wait for approvals: `mainspring approval list d/")


async def test_an_approved_task_is_tried_again(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    decided = await decide(world, run)
    assert (decided.decision, decided.attempt_number) == (APPROVED, 1)
    assert decided.name == f"{run.name}/tasks/a/approval"
    assert (await first_task(world, run)).state == TASK.TASK_STATE_ASSIGNED
    assert not (await listed(world)).approvals
    await world.leader.end(world.leader.take("a"), run.shard)
    assert (await get(world, run.name)).state == run_pb2.RUN_STATE_SUCCEEDED


async def test_a_rejected_task_has_failed_and_says_why(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    decided = await decide(world, run, REJECTED, reason="half of it was paid")
    assert decided.decision == REJECTED
    task = await first_task(world, run)
    assert task.state == TASK.TASK_STATE_FAILED
    assert task.reason == "an approval was refused: half of it was paid"
    assert (await get(world, run.name)).state == run_pb2.RUN_STATE_FAILED


async def test_a_decision_may_be_repeated_and_takes_effect_once(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    first = await decide(world, run, request_id="once")
    await lose(world, run, "a")
    again = await decide(world, run, request_id="once")
    assert (first.decision, again.decision) == (APPROVED, APPROVED)
    assert (await first_task(world, run)).state == TASK.TASK_STATE_AWAITING_APPROVAL


async def test_what_does_not_wait_is_refused_in_plain_words(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    code, _, message = await refusal(decide(world, run))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "waits for no approval" in message
    await world.leader.end(world.leader.take("a"), run.shard)
    code, _, message = await refusal(decide(world, run))
    assert (code, message) == (grpc.StatusCode.FAILED_PRECONDITION, "the run is final already")


async def test_a_run_that_has_not_begun_has_no_approvals(world) -> None:
    await world.apply("a")
    world.leader.away = True
    run = await world.runs.TriggerRun(run_pb2.TriggerRunRequest(parent="dags/d"))
    assert (await refusal(decide(world, run)))[1] == "NOT_WAITING"
    assert not (await listed(world, run.name)).approvals


async def test_without_a_leader_the_decision_is_stored(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    world.leader.away = True
    assert (await refusal(decide(world, run)))[1] == "NOT_APPLIED_YET"
    world.leader.away = False
    await world.leader.poke([run.shard], (), 0)
    assert (await first_task(world, run)).state == TASK.TASK_STATE_ASSIGNED


async def test_what_is_not_there_is_not_found(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    other = f"dags/d/runs/{uuid.uuid4()}"
    for call in (
        decide(world, run, name=f"{other}/tasks/a/approval"),
        decide(world, run, name=f"{run.name}/tasks/b/approval"),
        listed(world, other),
        listed(world, "dags/nothing"),
    ):
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "dags/d/runs/x/tasks/a/approval"}, "name"),
        ({"name": "dags/d/runs"}, "name"),
        ({"decision": 0}, "decision"),
        ({"decision": 9}, "decision"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 1_001}, "reason"),
        ({"request_id": "x" * 129}, "request_id"),
    ],
)
async def test_a_bad_decision_names_its_field(world, fields, field) -> None:
    run = run_pb2.Run(name=f"dags/d/runs/{uuid.UUID(int=0)}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decide(world, run, **fields)
    [found] = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert found.field == field


async def test_lists_are_of_the_tenant_of_a_dag_or_of_a_run_page_by_page(world) -> None:
    await world.add_agent()
    first = await in_doubt(world, "a", "b")
    second = await in_doubt(world, "a", dag="e")
    names = [each.name for each in (await listed(world)).approvals]
    assert [name.split("/tasks/")[0] for name in names] == [first.name, first.name, second.name]
    assert [each.name for each in (await listed(world, "dags/e")).approvals] == names[2:]
    assert [each.name for each in (await listed(world, first.name)).approvals] == names[:2]
    pages, token = [], ""
    for _ in names:
        page = await listed(world, page_size=1, page_token=token)
        pages += [each.name for each in page.approvals]
        token = page.next_page_token
    assert (pages, token) == (names, "")
    code, _, _ = await refusal(listed(world, "dags/e", page_token="?"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_another_tenant_sees_and_decides_nothing(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)

    def look() -> int:
        with Client.at(world.address, OTHER_TOKEN) as client:
            with pytest.raises(errors.NotFoundError):
                client.approvals.decide(run.name, "a", approved=True, reason="x")
            return len(client.approvals.list().approvals)

    assert await asyncio.to_thread(look) == 0


async def test_a_decision_through_the_sdk(world) -> None:
    await world.add_agent()
    run = await in_doubt(world, "a", "b")

    def act() -> list[str]:
        with Client.at(world.address, TOKEN) as client:
            client.approvals.decide(run.name, "a", approved=True, reason="looked")
            client.approvals.decide(run.name, "b", approved=False, reason="looked")
            return [each.name for each in client.approvals.list("d").approvals]

    assert await asyncio.to_thread(act) == []
    assert (await first_task(world, run)).state == TASK.TASK_STATE_ASSIGNED


async def test_a_late_success_is_shown_and_counts(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    await world.leader.end(world.leader.take("a"), run.shard)
    task = await first_task(world, run)
    assert task.state == TASK.TASK_STATE_SUCCEEDED
    assert "reported its success later" in task.reason
    [attempt] = (
        await world.runs.ListAttempts(run_pb2.ListAttemptsRequest(parent=run.name))
    ).attempts
    assert attempt.state == ATTEMPT.ATTEMPT_STATE_UNKNOWN
    late = attempt.late_result
    assert (late.state, late.adopted, late.exit_code) == (ATTEMPT.ATTEMPT_STATE_SUCCEEDED, True, 0)
    assert (await get(world, run.name)).state == run_pb2.RUN_STATE_SUCCEEDED


async def test_a_late_failure_is_shown_and_changes_nothing(world) -> None:
    await world.add_agent()
    run = await in_doubt(world)
    await world.leader.end(world.leader.take("a"), run.shard, AttemptState.FAILED)
    [attempt] = (
        await world.runs.ListAttempts(run_pb2.ListAttemptsRequest(parent=run.name))
    ).attempts
    late = attempt.late_result
    assert (late.state, late.adopted) == (ATTEMPT.ATTEMPT_STATE_FAILED, False)
    assert late.reason == "exit status 3"
    assert (await first_task(world, run)).state == TASK.TASK_STATE_AWAITING_APPROVAL
