"""A task that must not be run again after an unknown outcome waits for a person, who decides."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from mainspring.cli.exit_codes import ExitCode
from mainspring.v1 import run_pb2

from tests.system.dags import dag, fresh, gated_task, process_task, write
from tests.system.parts import Parts, cluster, started_servers
from tests.system.up import eventually

AWAITING = run_pb2.TASK_STATE_AWAITING_APPROVAL
RUNNING = run_pb2.TASK_STATE_RUNNING


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    place = tmp_path_factory.mktemp("approvals")
    with started_servers(place) as servers, cluster(place, servers, nodes=1, agents=1) as made:
        yield made


def state_of(parts: Parts, run: str, task: str = "pay") -> int:
    tasks = parts.client.runs.task_instances(run).task_instances
    return next((each.state for each in tasks if each.name.endswith(f"/{task}")), 0)


def start(parts: Parts, folder: Path, gate: Path) -> str:
    """A run whose task, which is not idempotent, is running."""
    payment = gated_task("pay", gate, idempotent=False)
    name = fresh("payment")
    after = process_task("after", "true", depends_on=["pay"])
    applied = parts.mainspring("dag", "apply", write(folder, dag(name, payment, after)))
    assert applied.returncode == 0, applied.stderr
    run = parts.client.runs.trigger(name).name
    eventually(lambda: state_of(parts, run) == RUNNING)
    return run


def doubt(parts: Parts, run: str) -> None:
    """Nobody knows how far the task got: what ran it was killed with it."""
    parts.agents["agent-1"].end_supervisor()
    eventually(lambda: state_of(parts, run) == AWAITING)


def short(run: str) -> str:
    return "/".join(run.split("/")[1::2])


def test_an_approved_task_runs_once_more_and_the_run_succeeds(parts: Parts, tmp_path: Path):
    gate = tmp_path / "gate"
    run = start(parts, tmp_path, gate)
    doubt(parts, run)
    [waiting] = parts.client.approvals.list(run).approvals
    assert waiting.name == f"{run}/tasks/pay/approval"
    assert waiting.reason
    shown = parts.mainspring("run", "get", short(run), "--tasks", "--attempts").stdout
    assert "awaiting_approval" in shown
    assert "unknown" in shown
    # The command that the notice names is the one that decides.
    [told] = re.findall(r"`mainspring (approval approve \S+ --reason) TEXT`", shown)
    gate.touch()
    done = parts.mainspring(*shlex.split(told), "the bank knows nothing of it")
    assert (done.returncode, done.stderr) == (0, "")
    assert "approved" in done.stdout
    assert parts.mainspring("run", "wait", short(run), "--timeout", "30").returncode == 0
    attempts = parts.client.runs.attempts(run, "pay").attempts
    assert [each.state for each in attempts] == [
        run_pb2.ATTEMPT_STATE_UNKNOWN,
        run_pb2.ATTEMPT_STATE_SUCCEEDED,
    ]
    assert not parts.client.approvals.list(run).approvals


def test_a_rejected_task_fails_its_run(parts: Parts, tmp_path: Path):
    run = start(parts, tmp_path, tmp_path / "gate")
    doubt(parts, run)
    target = f"{run.rpartition('/')[2]}/pay"
    done = parts.mainspring(
        "approval", "reject", target, "--reason", "half of it was paid", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "DECISION_REJECTED"
    ended = parts.mainspring("run", "wait", short(run), "--timeout", "30")
    assert ended.returncode == ExitCode.FAILED
    shown = parts.mainspring("run", "get", short(run), "--tasks").stdout
    assert "half of it was paid" in shown
    assert "upstream_failed" in shown


def test_what_does_not_wait_cannot_be_decided(parts: Parts, tmp_path: Path):
    gate = tmp_path / "gate"
    run = start(parts, tmp_path, gate)
    refused = parts.mainspring("approval", "approve", f"{short(run)}/pay", "--reason", "x")
    assert refused.returncode == ExitCode.CONFLICT
    assert "waits for no approval" in refused.stderr
    unknown = parts.mainspring("approval", "approve", f"{short(run)}/nothing", "--reason", "x")
    assert unknown.returncode == ExitCode.CONFLICT
    silent = parts.mainspring("approval", "reject", f"{short(run)}/pay")
    assert silent.returncode == ExitCode.USAGE
    assert "--reason" in silent.stderr
    gate.touch()
    assert parts.mainspring("run", "wait", short(run), "--timeout", "30").returncode == 0


def test_agents_say_how_well_they_hold_their_tasks(parts: Parts):
    [agent] = parts.client.admin.agents().agents
    assert agent.containment in {"namespace", "process"}
    listed = parts.mainspring("agent", "list").stdout.splitlines()
    assert listed[1].split()[-3] == agent.containment
