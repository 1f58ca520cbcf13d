"""Measures what a shard's decisions cost: processor time per task, without store and network.

Decides only the load: one shard, a fleet of equal agents, DAGs of 50 tasks in layers. Every task is
assigned once and reports one result; the time counted is that inside `Shard.step`. Batches: many
runs at a time, results handed over some hundreds a step. Hops: one run of a chain, one result a
step. Run with `python -m loadtest.core_bench`; `--profile` shows where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from controlplane.core.effects import AssignMessage, Effects
from controlplane.core.events import ApplyDag, Event, Finished, Inventory, TriggerRun
from controlplane.core.fleet.placement import Fleet
from controlplane.core.graph.edges import TaskEdges, compile_edges
from controlplane.core.shard.shard import Shard
from controlplane.core.states import AttemptState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import DagKey, DagVersion, Resources, TaskDef, uuid7

NOON_US = 1_750_000_000_000_000
CORES_OF_AN_AGENT = 64
MEMORY_OF_AN_AGENT = 256 << 30
REQUEST = Resources(1_000, 1 << 30)


def dag_version(name: str, edges: Sequence[TaskEdges]) -> DagVersion:
    """A version whose tasks all ask for one core."""
    adjacency, problems = compile_edges(edges)
    assert adjacency is not None, problems
    tasks = tuple(TaskDef(item.task, REQUEST, exec_spec=b"x" * 64) for item in edges)
    return DagVersion(DagKey("bench", name), name.encode().ljust(32, b"-"), tasks, adjacency)


def layered(name: str, width: int, layers: int) -> DagVersion:
    """One root, then layers of which each task has two parents in the layer before."""
    edges = [TaskEdges("root", ())]
    for layer in range(layers):
        for place in range(width):
            above = (place, (place + 1) % width)
            parents = tuple(f"t{layer - 1}-{n}" for n in above) if layer else ("root",)
            edges.append(TaskEdges(f"t{layer}-{place}", parents))
    return dag_version(name, edges)


def chain(name: str, length: int) -> DagVersion:
    """Tasks one behind the other."""
    links = ((f"t{n}", (f"t{n - 1}",) if n else ()) for n in range(length))
    return dag_version(name, [TaskEdges(task, parents) for task, parents in links])


@dataclass(slots=True)
class Bench:
    """A shard, its agents, and the nanoseconds that its steps took."""

    agents: int
    fleet: Fleet = field(default_factory=Fleet)
    now: Now = field(default_factory=lambda: Now(NOON_US, 1))
    spent_ns: int = 0
    steps: int = 0
    serials: Iterator[int] = field(default_factory=lambda: count(1))
    assigned: deque[AssignMessage] = field(default_factory=deque)
    shard: Shard = field(init=False)

    def __post_init__(self) -> None:
        self.shard = Shard(0, self.fleet, self.now)
        for number in range(self.agents):
            agent, capacity = (
                f"agent-{number}",
                Resources(CORES_OF_AN_AGENT * 1_000, MEMORY_OF_AN_AGENT),
            )
            self.fleet.connect(agent, b"i" * 16, capacity)
            self.fleet.grant(agent, capacity)
            self.step([Inventory(agent, b"i" * 16, (), ())])

    def serial(self) -> bytes:
        return next(self.serials).to_bytes(16, "big")

    def step(self, events: Sequence[Event]) -> Effects:
        shard = self.shard
        shard.offer_attempt_ids([self.serial() for _ in range(shard.attempt_ids_wanted)])
        shard.offer_run_keys([next(self.serials) for _ in range(shard.run_keys_wanted)])
        self.now = Now(self.now.wall_us + 1_000, self.now.mono_ms + 1)
        before = time.perf_counter_ns()
        effects = shard.step(events, self.now)
        self.spent_ns += time.perf_counter_ns() - before
        self.steps += 1
        self.assigned += [m for m in effects.messages if isinstance(m, AssignMessage)]
        return effects

    def apply(self, version: DagVersion) -> None:
        self.step([ApplyDag(next(self.serials), version, "")])

    def trigger(self, version: DagVersion) -> TriggerRun:
        number = next(self.serials)
        run_id = uuid7(self.now.wall_us, self.serial())
        return TriggerRun(number, version.key, run_id, self.now.wall_us)

    def results(self, most: int) -> list[Event]:
        """The oldest assignments, each with its result."""
        taken = [self.assigned.popleft() for _ in range(min(most, len(self.assigned)))]
        at = self.now.wall_us
        return [
            Finished(m.agent, m.attempt_id, AttemptState.SUCCEEDED, at, at, 0, 0, 0, 0, "")
            for m in taken
        ]

    def drive(self, version: DagVersion, runs: int, *, at_once: int, batch: int) -> int:
        """Runs a DAG so often and returns the number of tasks that were run."""
        self.apply(version)
        self.spent_ns = self.steps = 0
        left, results, events = runs, 0, [self.trigger(version) for _ in range(min(runs, at_once))]
        left -= len(events)
        while events:
            self.step(events)
            missing = min(left, at_once - self.shard.live_runs)
            events = self.results(batch)
            results += len(events)
            events += [self.trigger(version) for _ in range(missing)]
            left -= missing
        return results


def report(name: str, bench: Bench, tasks: int) -> None:
    """One line: tasks, tasks a step, microseconds a task."""
    micros = bench.spent_ns / 1_000 / tasks
    print(f"{name}: {tasks:,} tasks, {tasks / bench.steps:.0f} a step, {micros:.1f} µs a task")


def measure(runs: int, batch: int, agents: int) -> None:
    """All loads, one line each."""
    bench = Bench(agents)
    report("batches", bench, bench.drive(layered("layers", 7, 7), runs, at_once=100, batch=batch))
    bench = Bench(agents)
    report("hops", bench, bench.drive(chain("chain", 50), runs // 4, at_once=1, batch=1))


def main() -> None:
    """`python -m loadtest.core_bench [--runs N] [--batch N] [--agents N] [--profile]`."""
    parser = argparse.ArgumentParser(description="Measure the decisions of a shard.")
    parser.add_argument("--runs", type=int, default=2_000, help="runs of 50 tasks")
    parser.add_argument("--batch", type=int, default=500, help="results in a step, at most")
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="print the profile as well")
    chosen = parser.parse_args()
    if not chosen.profile:
        measure(chosen.runs, chosen.batch, chosen.agents)
        return
    with cProfile.Profile() as profile:
        measure(chosen.runs, chosen.batch, chosen.agents)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
