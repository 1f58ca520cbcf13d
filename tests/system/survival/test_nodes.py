"""The rows of the failure table about nodes, on real processes. Never by a clean stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from mainspring.ledger import check_ledger
from mainspring.v1 import run_pb2

from tests.system.dags import chain, dag, edges_of, fresh
from tests.system.parts import Parts
from tests.system.survival.evidence import Evidence, now_s, states, succeeded, trigger
from tests.system.up import eventually

# Longer than the leader lease in etcd (5 s) and than the authority of a fence (4 s).
PAUSE_S = 8.0


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


def test_failover_mid_run(parts: Parts, evidence: Evidence, tmp_path: Path) -> None:
    """SIGKILL of the leader: what runs is adopted by the next one, as the same processes, and what
    comes after it runs once.
    """
    tasks = [evidence.task(f"t{number}") for number in range(20)]
    tasks.append(evidence.task("join", *(task["task"] for task in tasks)))
    definition = dag(fresh("failover"), *tasks)
    run = trigger(parts, tmp_path, definition)
    eventually(lambda: len(evidence.lives()) == 20)
    name = str(definition["dag"])
    before = parts.epoch_of(name)
    parts.leader_of(name).kill()
    eventually(lambda: parts.epoch_of(name) > before)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"] * 21, "nothing was lost, nothing run again"


def test_paused_leader_sends_with_an_old_epoch(
    parts: Parts, evidence: Evidence, tmp_path: Path
) -> None:
    """SIGSTOP of the leader in the middle of a run, for longer than its lease: another leads, and
    what the old one still wants to say when it wakes is of no effect.
    """
    definition = chain(fresh("paused"), 60, 0.1)
    name = str(definition["dag"])
    run = trigger(parts, tmp_path, definition)
    eventually(lambda: len(parts.entries(run)) >= 8)
    before, leader = parts.epoch_of(name), parts.leader_of(name)
    leader.pause()
    paused_s = now_s()
    eventually(lambda: now_s() - paused_s > PAUSE_S)
    eventually(lambda: parts.epoch_of(name) > before)
    leader.resume()
    succeeded(parts, run)
    assert leader.running
    eventually(parts.led)
    report = check_ledger(
        parts.entries(run),
        edges_of(definition),
        tasks=[task["task"] for task in definition["tasks"]],
    )
    assert report.clean, report
    assert report.finished == 60
    assert states(parts, run) == ["SUCCEEDED"] * 60


def test_every_node_killed(parts: Parts, evidence: Evidence, tmp_path: Path) -> None:
    """No node at all for a while: the agents keep their tasks and find the nodes again."""
    run = trigger(parts, tmp_path, dag(fresh("all"), evidence.task("held")))
    eventually(lambda: len(evidence.lives()) == 1)
    for node in parts.nodes.values():
        node.kill()
    killed_s = now_s()
    eventually(lambda: now_s() - killed_s > 1.0)
    for node in parts.nodes.values():
        node.start()
    eventually(lambda: states_or_none(parts, run) == ["RUNNING"])
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert len(evidence.lives()) == 1


def states_or_none(parts: Parts, run: str) -> list[str] | None:
    """As `states`, while nodes may not answer yet."""
    return states(parts, run) if parts.answers() else None


def test_failover_of_a_leader_with_no_agent_reachable(
    parts: Parts, evidence: Evidence, tmp_path: Path
) -> None:
    """A run that is triggered while its leader is dead and cancelled at once is never started."""
    definition = dag(fresh("cancelled"), evidence.task("never"))
    name = str(definition["dag"])
    trigger(parts, tmp_path, definition)
    eventually(lambda: len(evidence.lives()) == 1)
    evidence.open_gate()
    leader = parts.leader_of(name)
    for agent in parts.agents.values():
        parts.part_agent(agent)
    leader.kill()
    run = parts.client.runs.trigger(name).name
    short = run.removeprefix("dags/").replace("/runs/", "/")
    assert parts.mainspring("run", "cancel", short, "--wait").returncode == 0
    for agent in parts.agents.values():
        parts.join_agent(agent)
    final = parts.client.runs.wait(run, timeout_s=60)
    assert final.state == run_pb2.RUN_STATE_CANCELLED
    assert len(evidence.lives()) == 1
