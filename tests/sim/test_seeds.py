"""Clusters from seeds: no violation, one history a seed, and checkers that bite."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.core.effects import Writes
from controlplane.core.run.run import Run
from controlplane.core.states import TaskState
from controlplane.leader.committer import Committer
from tests.sim.swarm import Options
from tests.sim.world import simulate

SHORT = Options(seconds=20.0, agents=4)


@pytest.mark.parametrize("seed", range(1, 11))
def test_no_violation(seed: int):
    report = simulate(seed, SHORT)
    assert report.attempts > 50
    assert report.faults.total() > 0


def test_the_same_seed_gives_the_same_history():
    size = Options(seconds=10.0, agents=4)
    once, again = simulate(8, size), simulate(8, size)
    assert once == again
    assert simulate(9, size).digest != once.digest


def test_leases_and_heartbeats_of_an_installation_violate_nothing():
    size = replace(SHORT, usual_times=True)
    assert simulate(3, size).attempts > 50


def violated() -> str:
    """The invariant that some early seed sees violated."""
    for seed in range(1, 20):
        try:
            simulate(seed, SHORT)
        except (AssertionError, ExceptionGroup) as error:
            return str(error)
    return "no violation"


def test_a_task_that_starts_before_its_parents_is_seen(monkeypatch: pytest.MonkeyPatch):
    release = Run._release_children

    def release_at_the_first(self: Run, task: int, ready: list[int], final: list[int]) -> None:
        edges = self.version.edges
        for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
            if self.tasks[child] == TaskState.WAITING:
                self.pending[child] = 1
        release(self, task, ready, final)

    monkeypatch.setattr(Run, "_release_children", release_at_the_first)
    assert "I6" in violated()


def test_speaking_before_the_commit_is_seen(monkeypatch: pytest.MonkeyPatch):
    commit = Committer.commit
    skipped = 0

    async def commit_most(self: Committer, writes: Writes) -> None:
        nonlocal skipped
        if writes.live and not writes.applied and skipped < 3:
            skipped += 1
            return
        await commit(self, writes)

    monkeypatch.setattr(Committer, "commit", commit_most)
    assert "I5" in violated()
