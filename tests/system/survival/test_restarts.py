"""Agents and nodes that are killed again and again while runs keep coming: nothing is lost or run
twice, by the records of the tasks themselves.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mainspring.client.errors import MainspringError
from mainspring.ledger import check_ledger
from mainspring.v1 import run_pb2

from tests.system.dags import dag, edges_of, fresh, ledger_task, write
from tests.system.parts import Agent, Parts
from tests.system.survival.evidence import states
from tests.system.up import eventually

RESTARTS = 20


class Load:
    """Triggers runs of a small DAG from a thread of its own, until it is stopped."""

    def __init__(self, parts: Parts, dag_id: str) -> None:
        self._parts = parts
        self._dag = dag_id
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.runs: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with self._parts.open_client() as client:
            while not self._stopped.wait(0.25):
                try:
                    self.runs.append(client.runs.trigger(self._dag).name)
                except MainspringError:
                    continue  # what was not acknowledged is not promised


def diamond(name: str) -> dict[str, object]:
    """One task, then four, then one: each writes the ledger and takes a moment."""
    sides = [ledger_task(f"side{n}", "first", seconds=0.3) for n in range(4)]
    last = ledger_task("last", *(side["task"] for side in sides), seconds=0.05)
    return dag(name, ledger_task("first", seconds=0.05), *sides, last)


@contextmanager
def under_load(parts: Parts, place: Path) -> Iterator[dict[str, object]]:
    """Judges, when the faults are over, all runs that were acknowledged meanwhile."""
    definition = diamond(fresh("load"))
    applied = parts.mainspring("dag", "apply", write(place, definition))
    assert applied.returncode == 0, applied.stderr
    load = Load(parts, str(definition["dag"]))
    load.start()
    try:
        eventually(lambda: len(load.runs) >= 3)
        yield definition
    finally:
        load.stop()
    for run in load.runs:
        final = parts.client.runs.wait(run, timeout_s=90)
        assert final.state == run_pb2.RUN_STATE_SUCCEEDED, run
        assert states(parts, run) == ["SUCCEEDED"] * 6
        report = check_ledger(parts.entries(run), edges_of(definition))
        assert report.clean, report
        assert (report.started, report.finished) == (6, 6)
    assert len(load.runs) >= RESTARTS


def connected_ns(parts: Parts, name: str) -> int:
    """When the last session of an agent began."""
    agents = parts.client.admin.agents().agents
    (found,) = [each for each in agents if each.name.endswith(f"/{name}")]
    return found.connect_time.ToNanoseconds()


def restart(parts: Parts, agent: Agent) -> None:
    before_ns = connected_ns(parts, agent.name)
    agent.kill()
    agent.start()
    eventually(lambda: connected_ns(parts, agent.name) > before_ns)


@pytest.mark.timeout(300)
def test_20_restarts_of_the_agents_under_load(parts: Parts, tmp_path: Path) -> None:
    with under_load(parts, tmp_path):
        agents = itertools.cycle(parts.agents.values())
        for agent in itertools.islice(agents, RESTARTS):
            restart(parts, agent)


@pytest.mark.timeout(400)
def test_20_restarts_of_the_nodes_under_load(parts: Parts, tmp_path: Path) -> None:
    with under_load(parts, tmp_path) as definition:
        for _ in range(RESTARTS):
            before = parts.epoch_of(str(definition["dag"]))
            leader = parts.leader_of(str(definition["dag"]))
            leader.kill()
            eventually(lambda: parts.answers() and parts.led())
            assert parts.epoch_of(str(definition["dag"])) > before
            leader.start()
            eventually(lambda: parts.answers() and parts.led())
