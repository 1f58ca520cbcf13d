"""Listing what waits for a person, and deciding."""

from __future__ import annotations

import json

import grpc
import pytest
from mainspring.cli.exit_codes import ExitCode
from mainspring.v1 import approval_pb2

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import RUN, RUN_NAME, Failure, Script, at

NAME = f"{RUN_NAME}/tasks/load/approval"


def waiting(task: str = "load") -> approval_pb2.Approval:
    return approval_pb2.Approval(
        name=f"{RUN_NAME}/tasks/{task}/approval",
        reason="nobody knows how far it got",
        attempt_number=2,
        create_time=at(0),
    )


def test_what_waits_is_listed_as_the_commands_take_it(cli: Cli, script: Script) -> None:
    script.approvals = [waiting()]
    lines = cli("approval", "list").out.splitlines()
    assert lines[0].split() == ["RUN/TASK", "ATTEMPT", "SINCE", "REASON"]
    assert lines[1].split()[:3] == [f"etl/{RUN}/load", "2", "2025-06-15"]
    assert lines[1].endswith("nobody knows how far it got")
    listed = json.loads(cli("approval", "list", "-o", "json").out)
    assert listed["approvals"][0]["attemptNumber"] == 2


@pytest.mark.parametrize(
    ("given", "parent"),
    [
        ((), ""),
        (("etl",), "dags/etl"),
        (("dags/etl",), "dags/etl"),
        ((RUN,), f"dags/-/runs/{RUN}"),
        ((f"etl/{RUN}",), RUN_NAME),
        ((RUN_NAME,), RUN_NAME),
    ],
)
def test_a_list_is_of_a_dag_or_of_a_run(cli: Cli, script: Script, given, parent) -> None:
    assert cli("approval", "list", *given).code == ExitCode.OK
    assert script.asked(approval_pb2.ListApprovalsRequest)[0].parent == parent


def test_a_list_shows_how_to_decide_where_something_waits(cli: Cli, script: Script) -> None:
    assert cli("approval", "list").err == ""
    script.approvals = [waiting()]
    assert "mainspring approval approve RUN/TASK --reason" in cli("approval", "list").err
    assert cli("approval", "list", "--json").err == ""


def test_a_long_list_says_that_there_is_more(cli: Cli, script: Script) -> None:
    script.approvals = [waiting(f"t{number}") for number in range(3)]
    ended = cli("approval", "list", "-n", "2")
    assert len(ended.out.splitlines()) == 3
    assert "more than 2" in ended.err


@pytest.mark.parametrize("form", [f"etl/{RUN}/load", f"{RUN_NAME}/tasks/load", NAME])
@pytest.mark.parametrize(
    ("verb", "decision", "word"),
    [
        ("approve", approval_pb2.DECISION_APPROVED, "approved"),
        ("reject", approval_pb2.DECISION_REJECTED, "rejected"),
    ],
)
def test_a_decision_reaches_the_server(
    cli: Cli, script: Script, form: str, verb: str, decision: int, word: str
) -> None:
    ended = cli("approval", verb, form, "--reason", "looked", "--request-id", "once")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].split()[:2] == [f"etl/{RUN}/load", word]
    [request] = script.asked(approval_pb2.DecideApprovalRequest)
    assert (request.name, request.decision) == (NAME, decision)
    assert (request.reason, request.request_id) == ("looked", "once")


def test_a_bare_uuid_names_the_run(cli: Cli, script: Script) -> None:
    assert cli("approval", "approve", f"{RUN}/load", "--reason", "x").code == 0
    [request] = script.asked(approval_pb2.DecideApprovalRequest)
    assert request.name == f"dags/-/runs/{RUN}/tasks/load/approval"
    assert request.request_id


@pytest.mark.parametrize("reason", [(), ("--reason", " ")])
def test_a_decision_needs_a_reason(cli: Cli, script: Script, reason) -> None:
    ended = cli("approval", "reject", f"{RUN}/load", *reason)
    assert ended.code == ExitCode.USAGE
    assert "needs its reason" in ended.err
    assert "--reason" in ended.err
    assert script.requests == []


@pytest.mark.parametrize("task", ["load", "/load", f"{RUN}/"])
def test_a_task_is_named_with_its_run(cli: Cli, task: str) -> None:
    ended = cli("approval", "approve", task, "--reason", "x")
    assert ended.code == ExitCode.USAGE
    assert "mainspring approval approve RUN/TASK" in ended.err


def test_a_wrong_run_is_refused_like_everywhere(cli: Cli, script: Script) -> None:
    ended = cli("approval", "approve", "etl/7/load", "--reason", "x")
    assert ended.code == ExitCode.INVALID
    assert "a run is given as UUID" in ended.err


def test_a_task_that_does_not_wait_is_a_conflict(cli: Cli, script: Script) -> None:
    script.failures["DecideApproval"] = Failure(
        grpc.StatusCode.FAILED_PRECONDITION, "task 'load' waits for no approval: it is RUNNING"
    )
    ended = cli("approval", "approve", f"{RUN}/load", "--reason", "x")
    assert ended.code == ExitCode.CONFLICT
    assert "waits for no approval: it is RUNNING" in ended.err
    assert "read its state again" in ended.err
