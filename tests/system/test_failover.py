"""Death by SIGKILL: of the node that leads the run's shard, and of the agent that runs a task."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import psutil
import pytest
from mainspring.ledger import check_ledger
from mainspring.v1 import run_pb2

from tests.system.clusters import Cluster, booted
from tests.system.dags import chain, dag, edges_of, fresh, gated_task, write
from tests.system.up import eventually


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A cluster whose processes may be killed."""
    with booted(tmp_path_factory.mktemp("mortal")) as cluster:
        yield cluster


def shard_of(cluster: Cluster, name: str):
    number = cluster.client.dags.get(name).shard
    return cluster.client.admin.shards().shards[number]


def settled(cluster: Cluster) -> None:
    """Both nodes lead: none of their shards moves by itself any more."""
    eventually(lambda: len({each.node for each in cluster.client.admin.shards().shards}) == 2)


@contextmanager
def frozen_when_it_returns(cluster: Cluster, name: str, dead: psutil.Process):
    """Stops the successor of a dead process at its birth, so that it cannot take part."""
    successors = []

    def born() -> bool:
        try:
            found = cluster.up.child(name)
        except (AssertionError, psutil.Error):
            return False
        if found.pid != dead.pid:
            found.send_signal(signal.SIGSTOP)
            successors.append(found)
        return bool(successors)

    eventually(born)
    try:
        yield
    finally:
        successors[0].send_signal(signal.SIGCONT)


def test_another_node_takes_over_and_the_run_finishes(mortal, tmp_path):
    definition = chain(fresh("survivor"), 12, 0.25)
    name = definition["dag"]
    mortal.mainspring("dag", "apply", write(tmp_path, definition))
    settled(mortal)
    run = mortal.client.runs.trigger(name).name
    eventually(lambda: len(mortal.entries(run)) >= 4)
    before = shard_of(mortal, name)

    leader = mortal.up.child(before.node)
    leader.kill()
    with frozen_when_it_returns(mortal, before.node, leader):
        final = mortal.client.runs.wait(run, timeout_s=60)
        after = shard_of(mortal, name)
    assert final.state == run_pb2.RUN_STATE_SUCCEEDED
    assert after.node != before.node
    assert after.epoch > before.epoch
    tasks = [task["task"] for task in definition["tasks"]]
    report = check_ledger(mortal.entries(run), edges_of(definition), tasks=tasks)
    assert report.clean, report
    assert report.finished == len(tasks)
    attempts = mortal.client.runs.attempts(run).attempts
    assert [attempt.number for attempt in attempts] == [1] * len(tasks)


def test_a_run_whose_agent_is_killed_goes_on_in_the_same_process(mortal, tmp_path):
    """`up` starts another agent, which adopts the task."""
    gate = tmp_path / "gate"
    name = fresh("adopted")
    mortal.mainspring("dag", "apply", write(tmp_path, dag(name, gated_task("held", gate))))
    run = mortal.client.runs.trigger(name).name

    def states():
        return [each.state for each in mortal.client.runs.attempts(run).attempts]

    eventually(lambda: states() == [run_pb2.ATTEMPT_STATE_RUNNING])
    agent = mortal.client.runs.attempts(run).attempts[0].agent.removeprefix("agents/")
    mortal.up.see()
    mortal.up.child(agent).kill()
    mortal.up.err.wait_for(f"{agent} runs again")
    gate.touch()
    final = mortal.client.runs.wait(run, timeout_s=60)
    assert final.state == run_pb2.RUN_STATE_SUCCEEDED
    assert states() == [run_pb2.ATTEMPT_STATE_SUCCEEDED]
