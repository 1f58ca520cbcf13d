"""The rows of the failure table about agents and their supervisors, on real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from mainspring.v1 import run_pb2

from tests.system.dags import dag, fresh
from tests.system.parts import LEASE_S, LOST_S, Agent, Parts, wipe
from tests.system.survival.evidence import (
    Evidence,
    agents_of,
    attempts,
    files,
    now_s,
    states,
    succeeded,
    trigger,
)
from tests.system.up import eventually

# From the end of a lease to the death of what ran under it: the supervisor's second and its own.
FENCED_S = LEASE_S + 3.0
EXIT_SETTINGS, EXIT_REFUSED, EXIT_BROKEN = 2, 3, 70


@pytest.fixture
def evidence(tmp_path) -> Evidence:
    return Evidence(tmp_path)


def journal_kinds(agent: Agent) -> list[str]:
    """The kinds of the records in an agent's journal, as its own command shows them."""
    argv = [sys.executable, "-P", "-m", "agent.main", "journal", "show", str(agent.work), "--json"]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    return [json.loads(line)["kind"] for line in shown.stdout.splitlines()]


def held(parts: Parts, evidence: Evidence, tmp_path, **more) -> tuple[str, Agent]:
    """A run whose one task runs until the gate opens, and the agent that runs it."""
    run = trigger(parts, tmp_path, dag(fresh("held"), evidence.task("held", **more)))
    eventually(lambda: states(parts, run) == ["RUNNING"])
    eventually(lambda: len(evidence.lives()) == 1)
    return run, parts.agents[agents_of(parts, run)[0]]


def alive(evidence: Evidence) -> bool:
    """Whether the newest attempt writes just now."""
    return now_s() - list(evidence.lives().values())[-1].last_s < 0.5


def both(parts: Parts, first: Agent) -> Agent:
    """The agent that is not `first`."""
    return next(each for each in parts.agents.values() if each is not first)


def test_agent_restart_between_accepted_and_spawn_and_between_spawn_and_started(
    lone, evidence, tmp_path
):
    """The supervisor stands still while attempts are accepted: the agent dies with some of them
    asked for and the others not even that. Both kinds run once.
    """
    parts, agent = lone, lone.agents["agent-1"]
    count = 40
    agent.supervisor().send_signal(signal.SIGSTOP)
    tasks = [evidence.task(f"t{number}") for number in range(count)]
    run = trigger(parts, tmp_path, dag(fresh("burst"), *tasks))
    eventually(lambda: journal_kinds(agent).count("accepted") == count)
    agent.kill()
    agent.supervisor().send_signal(signal.SIGCONT)
    eventually(lambda: len(evidence.lives()) > 0)
    assert "started" not in journal_kinds(agent)
    spawned = len(files(agent.work / "supervisor" / "attempts"))
    assert 0 < spawned < count, "some were asked for, and some were not"
    agent.start()
    eventually(lambda: len(evidence.lives()) == count)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"] * count


def test_agent_restart_while_running(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    before = evidence.of_task("held")[0]
    agent.kill()
    agent.start()
    eventually(lambda: "start" in journal_kinds(agent)[3:])
    evidence.open_gate()
    succeeded(parts, run)
    (life,) = evidence.of_task("held")
    assert life.ended
    assert life.pid == before.pid
    assert states(parts, run) == ["SUCCEEDED"]


def test_agent_restart_after_finished_before_report(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    parts.part_agent(agent)
    evidence.open_gate()
    eventually(lambda: "finished" in journal_kinds(agent))
    agent.kill()
    agent.start()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"]


def test_an_end_while_the_agent_is_dead_is_reported_by_the_next(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path, status=7)
    agent.kill()
    evidence.open_gate()
    eventually(lambda: evidence.of_task("held")[0].ended)
    agent.start()
    final = parts.client.runs.wait(run, timeout_s=30)
    assert final.state == run_pb2.RUN_STATE_FAILED
    (only,) = attempts(parts, run)
    assert (only.state, only.exit_code) == (run_pb2.ATTEMPT_STATE_FAILED, 7)


def test_supervisor_killed(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    before = agent.supervisor()
    before.kill()
    eventually(lambda: len(evidence.lives()) == 2)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["LOST", "SUCCEEDED"]
    assert "supervisor ended" in attempts(parts, run)[0].reason
    assert agent.supervisor().pid != before.pid


def test_agent_and_supervisor_killed(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    agent.kill()
    agent.supervisor().kill()
    agent.start()
    eventually(lambda: len(evidence.lives()) == 2)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["LOST", "SUCCEEDED"]


def test_agent_dead_for_3_x_lease_while_its_tasks_would_run_on(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    killed_s = now_s()
    agent.kill()
    eventually(lambda: len(evidence.lives()) == 2, 3 * LEASE_S)
    first, second = evidence.of_task("held")
    assert first.last_s - killed_s < FENCED_S, "its supervisor ends it without any agent"
    assert agents_of(parts, run)[1] == both(parts, agent).name
    evidence.open_gate()
    succeeded(parts, run)
    agent.start()
    eventually(lambda: parts.client.runs.attempts(run).attempts[0].HasField("late_result"))
    evidence.check()
    assert states(parts, run) == ["LOST", "SUCCEEDED"]
    assert second.begun_s > first.last_s


def test_agent_back_within_its_lease_keeps_its_tasks(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    parts.part_agent(agent)
    cut_s = now_s()
    eventually(lambda: now_s() - cut_s > LEASE_S / 2)
    parts.join_agent(agent)
    eventually(lambda: now_s() - cut_s > 2 * LEASE_S, 3 * LEASE_S)
    assert alive(evidence)
    evidence.open_gate()
    succeeded(parts, run)
    assert len(evidence.of_task("held")) == 1


def test_agent_partitioned_longer_than_the_lease_and_returning(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path)
    parts.part_agent(agent)
    cut_s = now_s()
    eventually(lambda: len(evidence.lives()) == 2, 4 * LEASE_S)
    first, second = evidence.of_task("held")
    assert first.last_s - cut_s < FENCED_S
    assert second.begun_s - cut_s > LEASE_S
    parts.join_agent(agent)
    eventually(lambda: attempts(parts, run)[0].HasField("late_result"))
    assert alive(evidence), "the newer attempt does not mind"
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["LOST", "SUCCEEDED"]
    late = attempts(parts, run)[0].late_result
    assert late.state == run_pb2.ATTEMPT_STATE_LOST
    assert not late.adopted


def test_supervisor_told_nothing_for_3_x_lease(parts, evidence, tmp_path):
    """The agent stands still: its supervisor ends the task by itself."""
    run, agent = held(parts, evidence, tmp_path)
    agent.pause()
    paused_s = now_s()
    eventually(lambda: len(evidence.lives()) == 2, 3 * LEASE_S)
    assert evidence.of_task("held")[0].last_s - paused_s < FENCED_S
    eventually(lambda: now_s() - paused_s > 3 * LEASE_S, 4 * LEASE_S)
    agent.resume()
    eventually(lambda: attempts(parts, run)[0].HasField("late_result"))
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()


def test_late_success_after_lost(lone, evidence, tmp_path):
    """The task may run on without its shard, and there is no other agent: its late success still
    counts, because nothing newer was started.
    """
    parts = lone
    run, agent = held(parts, evidence, tmp_path, on_disconnect="retry", disconnect_limit="1h")
    parts.part_agent(agent)
    eventually(lambda: states(parts, run) == ["LOST"], 4 * LEASE_S)
    evidence.open_gate()
    eventually(lambda: evidence.of_task("held")[0].ended)
    parts.join_agent(agent)
    succeeded(parts, run)
    (only,) = attempts(parts, run)
    assert only.state == run_pb2.ATTEMPT_STATE_LOST
    assert only.late_result.adopted
    assert only.late_result.state == run_pb2.ATTEMPT_STATE_SUCCEEDED


def test_an_unknown_outcome_waits_for_a_person(parts, evidence, tmp_path):
    run, agent = held(parts, evidence, tmp_path, idempotent=False)
    agent.supervisor().kill()
    eventually(lambda: states(parts, run) == ["UNKNOWN"])
    name = run.removeprefix("dags/").replace("/runs/", "/")
    shown = parts.mainspring("approval", "list").stdout
    assert f"{name}/held" in shown
    approved = parts.mainspring("approval", "approve", f"{name}/held", "--reason", "looked at it")
    assert approved.returncode == 0, approved.stderr
    eventually(lambda: len(evidence.lives()) == 2)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()


def test_journal_lost(parts, evidence, tmp_path):
    """Another incarnation: it ends what it finds, and the shard waits for the old one's time."""
    run, agent = held(parts, evidence, tmp_path)
    agent.kill()
    agent.journal.unlink()
    begun_s = now_s()
    agent.start()
    eventually(lambda: len(evidence.lives()) == 2, 4 * LEASE_S)
    first, second = evidence.of_task("held")
    assert second.begun_s - begun_s > LOST_S - LEASE_S, "an empty inventory proves nothing"
    assert first.last_s < begun_s + FENCED_S
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["LOST", "SUCCEEDED"]


def test_journal_cut(parts, evidence, tmp_path):
    """A cut in the middle of the last record loses that record and no other."""
    run, agent = held(parts, evidence, tmp_path)
    eventually(lambda: "started" in journal_kinds(agent))
    agent.kill()
    with agent.journal.open("r+b") as journal:
        journal.truncate(agent.journal.stat().st_size - 3)
    assert journal_kinds(agent)[-1] == "cut"
    agent.start()
    eventually(lambda: journal_kinds(agent)[-1] != "cut")
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"]
    assert len(evidence.of_task("held")) == 1


def test_two_agents_with_one_name(parts, evidence, tmp_path):
    """The second is refused and says why; the first does not notice."""
    run, agent = held(parts, evidence, tmp_path)
    rival = parts.agent(agent.name, work="rival")
    rival.start()
    assert rival.wait() == EXIT_REFUSED
    assert f"another agent named '{agent.name}'" in rival.log.read_text()
    evidence.open_gate()
    succeeded(parts, run)
    assert len(evidence.lives()) == 1


def test_two_agents_on_one_folder(parts):
    agent = parts.agents["agent-1"]
    twin = Agent("twin", agent._argv, agent.work, agent.log, agent._env)
    twin.start()
    assert twin.wait() == EXIT_SETTINGS
    assert agent.running


def test_disk_wiped_while_the_old_process_lives(parts, evidence, tmp_path):
    """Its successor is another incarnation, refused while the old one lives. The old one ends as
    soon as it has something to write down (which a shard that is handed over would be), and its
    tasks end with their leases.
    """
    eventually(parts.at_rest)
    run, agent = held(parts, evidence, tmp_path)
    supervisor = agent.supervisor()
    wipe(agent.work)
    successor = parts.agent(agent.name, work="successor")
    successor.start()
    assert successor.wait() == EXIT_REFUSED
    evidence.open_gate()
    assert agent.wait() == EXIT_BROKEN
    successor.start()
    eventually(lambda: parts.connected(agent.name))
    succeeded(parts, run)
    evidence.check()
    supervisor.kill()


def test_cancel_of_a_run_whose_agent_is_dead(lone, evidence, tmp_path):
    """CANCELLED only when the attempt is over for sure."""
    parts = lone
    run, agent = held(parts, evidence, tmp_path)
    agent.kill()
    killed_s = now_s()
    cancelled = parts.mainspring("run", "cancel", run.removeprefix("dags/").replace("/runs/", "/"))
    assert cancelled.returncode == 0, cancelled.stderr
    final = parts.client.runs.wait(run, timeout_s=60)
    assert final.state == run_pb2.RUN_STATE_CANCELLED
    assert now_s() - killed_s > LEASE_S
    assert not alive(evidence)
