"""What must hold in every simulated cluster, told by independent witnesses.

The numbers are those of the design: I1 epochs of a shard strictly grow; I3 at most one live attempt
of a task instance (here: also at most one process); I4 an attempt is spawned at most once; I5 no
assignment without a committed attempt; I6 no task starts before its trigger rule holds over final
parents; I7 every due instant ends once; I8 what was acknowledged exists; I10 every attempt ends;
I12 the recorded result is the one that happened; I18 no success without exit status 0.
"""

from __future__ import annotations

from collections import Counter

from agent.core.entries import Assign
from controlplane.core.run.derive import own_state
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.types import DagVersion, TriggerRule, uuid_text
from tests.sim.memory_store import MemoryDatabase


class ViolationError(AssertionError):
    """An invariant does not hold."""


def hold(condition: object, invariant: str, evidence: object) -> None:
    """Raises ViolationError unless the condition holds."""
    if not condition:
        raise ViolationError(f"{invariant}: {evidence}")


class Invariants:
    """Watches one world."""

    def __init__(self, database: MemoryDatabase, versions: dict[bytes, DagVersion]) -> None:
        self._database = database
        self._versions = versions
        self._spawned: dict[bytes, Assign] = {}
        self._ended: dict[bytes, tuple[int, int]] = {}
        self._running: Counter[tuple[str, str]] = Counter()
        self._triggered: set[bytes] = set()
        self.assignments = 0

    @property
    def spawns(self) -> int:
        """How many processes were started."""
        return len(self._spawned)

    def triggered(self, run_id: bytes) -> None:
        """A run was acknowledged."""
        self._triggered.add(run_id)

    def assigned(self, agent: str, assign: Assign) -> None:
        """An assignment arrived at an agent."""
        self.assignments += 1
        row = self._row_of(assign)
        hold(row is not None, "I5", f"{agent} got {assign.attempt_id.hex()}, not committed")

    def spawned(self, agent: str, assign: Assign) -> None:
        """A process starts."""
        attempt_id = assign.attempt_id
        hold(attempt_id not in self._spawned, "I4", f"{attempt_id.hex()} again, at {agent}")
        self._spawned[attempt_id] = assign
        instance = (assign.run, assign.task)
        self._running[instance] += 1
        hold(self._running[instance] == 1, "I3", f"two processes of {instance}")
        self._check_parents(assign)

    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None:
        """A process ended."""
        assign = self._spawned[attempt_id]
        self._running[assign.run, assign.task] -= 1
        self._ended[attempt_id] = (exit_code, signal)

    def _row_of(self, assign: Assign) -> object:
        tables = self._database.tables
        for name in ("attempt_live", "attempt"):
            for row in tables[name].values():
                if row["attempt_id"] == assign.attempt_id:
                    return row
        return None

    def _check_parents(self, assign: Assign) -> None:
        run = self._run(assign.run)
        version = self._versions[run["digest"]]
        task = next(n for n, item in enumerate(version.tasks) if item.task == assign.task)
        states = self._own_states(run, version)
        rule = version.tasks[task].rule
        for parent in range(len(version.tasks)):
            edges = version.edges
            children = edges.children[edges.starts[parent] : edges.starts[parent + 1]]
            if task not in children:
                continue
            state = states[parent]
            succeeded = state is TaskState.SUCCEEDED
            allowed = succeeded or (rule is TriggerRule.ALL_DONE and state.final)
            hold(allowed, "I6", f"{assign.task} of {assign.run}: parent {parent} is {state.name}")

    def _run(self, run_id: str) -> dict[str, object]:
        for row in self._database.tables["run"].values():
            if uuid_text(row["run_id"]) == run_id:
                return row
        raise ViolationError(f"I8: run {run_id} has an attempt and no row")

    def _own_states(self, run: dict[str, object], version: DagVersion) -> dict[int, TaskState]:
        """The states of parents by the attempts alone, without the derivation under test."""
        states = dict.fromkeys(range(len(version.tasks)), TaskState.WAITING)
        edges = version.edges
        last: dict[int, tuple[tuple[int, int], AttemptState]] = {}
        for row in self._database.tables["attempt"].values():
            if row["run"] == run["run"]:
                order = (row["number"], row["assigned_us"])
                if row["task"] not in last or order > last[row["task"]][0]:
                    last[row["task"]] = (order, AttemptState(row["state"]))
        for task in edges.order:
            if task in last:
                (number, _), ended = last[task]
                states[task] = own_state(version, task, number, ended)
            for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
                blocked = states[task] in (TaskState.FAILED, TaskState.UPSTREAM_FAILED)
                if blocked and version.tasks[child].rule is TriggerRule.ALL_SUCCESS:
                    states[child] = TaskState.UPSTREAM_FAILED
        return states

    def check_store(self) -> None:
        """What can be judged from the rows at any time."""
        epochs: dict[int, int] = {}
        for taken in self._database.takeovers:
            hold(taken.epoch > epochs.get(taken.shard, 0), "I1", taken)
            epochs[taken.shard] = taken.epoch
        for row in self._database.tables["attempt"].values():
            self._check_result(row)

    def _check_result(self, row: dict[str, object]) -> None:
        attempt_id = row["attempt_id"]
        assert isinstance(attempt_id, bytes)
        happened = self._ended.get(attempt_id)
        if row["state"] == AttemptState.SUCCEEDED:
            hold(happened == (0, 0), "I18", f"{attempt_id.hex()} ended {happened}")
        if row["state"] == AttemptState.REJECTED:
            hold(attempt_id not in self._spawned, "I12", f"{attempt_id.hex()} was spawned")
        elif happened is not None:
            code = row["exit_code"] if row["exit_code"] is not None else -1
            hold((code, row["signal"]) == happened, "I12", f"{row} instead of {happened}")

    def check_end(self) -> None:
        """What must hold when faults have stopped and time has passed."""
        tables = self._database.tables
        self.check_store()
        hold(not tables["attempt_live"], "I10", list(tables["attempt_live"].values())[:3])
        hold(not tables["task_wait"], "I13", list(tables["task_wait"].values())[:3])
        known = {row["run_id"] for row in tables["run"].values()}
        hold(self._triggered <= known, "I8", f"{len(self._triggered - known)} runs are missing")
        for row in tables["run"].values():
            hold(RunState(row["state"]).final, "I13", row)
        for attempt_id in self._spawned:
            hold(attempt_id in self._ended, "I10", attempt_id.hex())
        self._check_instants()

    def _check_instants(self) -> None:
        runs = Counter(
            (row["tenant"], row["dag"], row["schedule"], row["logical_us"])
            for row in self._database.tables["run"].values()
            if row["schedule"]
        )
        doubled = [key for key, count in runs.items() if count > 1]
        hold(not doubled, "I7", doubled)
