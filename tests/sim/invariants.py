"""What must hold in every simulated cluster, told by independent witnesses.

The numbers are those of the design: I1 epochs of a shard strictly grow; I2 no batch of an epoch
follows the takeover of the next one; I3 at most one live attempt of a task instance, and under
fence and continue at most one living process; I4 an attempt is spawned at most once, over all
agents, supervisors and restarts; I5 no assignment without a committed attempt; I6 no task starts
before its trigger rule holds over final parents; I7 every due instant ends once; I8 what was
acknowledged exists; I9 no agent grants more than it has; I10 every attempt ends; I12 the recorded
result is the one that happened, and what is said to have never run never does; I13 healed,
everything proceeds; I14 nothing starts in a run that is over; I18 no success without a journalled
exit status 0.
"""

from __future__ import annotations

from collections import Counter

from agent.core.entries import Assign, Result
from agent.core.types import Amount, Outcome
from controlplane.core.effects import WaitKind
from controlplane.core.run.derive import own_state
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.types import DagVersion, OnDisconnect, TriggerRule, uuid_text
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
        self._alive: Counter[tuple[str, str]] = Counter()
        self._journalled: set[bytes] = set()
        # Said to have never run: they must not be spawned later either.
        self._never_ran: set[bytes] = set()
        self._triggered: set[bytes] = set()
        self._judged = 0
        # As they were when the store was looked at last.
        self._epochs: dict[int, int] = {}
        self.assignments = 0

    @property
    def spawns(self) -> int:
        """How many processes were started."""
        return len(self._spawned)

    @property
    def alive(self) -> int:
        """How many processes run."""
        return len(self._spawned) - len(self._ended)

    def triggered(self, run_id: bytes) -> None:
        """A run was acknowledged."""
        self._triggered.add(run_id)

    def assigned(self, agent: str, assign: Assign) -> None:
        """An assignment arrived at an agent."""
        self.assignments += 1
        hold(
            self._committed(assign),
            "I5",
            f"{agent} got {assign.attempt_id.hex()}, not committed",
        )

    def spawned(self, agent: str, assign: Assign) -> None:
        """A process starts."""
        attempt_id = assign.attempt_id
        hold(attempt_id not in self._spawned, "I4", f"{attempt_id.hex()} again, at {agent}")
        hold(attempt_id not in self._never_ran, "I12", f"{attempt_id.hex()} never ran, it was said")
        self._spawned[attempt_id] = assign
        instance = (assign.run, assign.task)
        self._alive[instance] += 1
        run = self._run(assign.run)
        version = self._versions[run["digest"]]
        task = next(n for n, item in enumerate(version.tasks) if item.task == assign.task)
        if version.tasks[task].on_disconnect is not OnDisconnect.RETRY:
            hold(self._alive[instance] == 1, "I3", f"two processes of {instance}")
            hold(not RunState(run["state"]).final, "I14", f"{instance} starts at {agent}: {run}")
            self._check_parents(assign, run, version, task)

    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None:
        """A process ended."""
        assign = self._spawned[attempt_id]
        self._alive[assign.run, assign.task] -= 1
        self._ended[attempt_id] = (exit_code, signal)

    def journalled(self, result: Result) -> None:
        """The end of an attempt is on the disk of its agent."""
        attempt_id = result.attempt_id
        if result.outcome is Outcome.SUCCEEDED:
            self._journalled.add(attempt_id)
        if result.outcome is Outcome.LOST and not result.started_at_us:
            hold(attempt_id not in self._spawned, "I12", f"{attempt_id.hex()} ran: {result}")
            self._never_ran.add(attempt_id)

    def granted(self, agent: str, amount: Amount, capacity: Amount) -> None:
        """What an agent grants to all its nodes together."""
        hold(capacity.covers(amount), "I9", f"{agent} grants {amount} of {capacity}")

    def _committed(self, assign: Assign) -> bool:
        """Whether the attempt is in a table. Attempts do not leave the history."""
        tables = self._database.tables
        attempt_id = assign.attempt_id
        live = (row["attempt_id"] for row in tables["attempt_live"].values())
        return attempt_id in live or any(key[4] == attempt_id for key in tables["attempt"])

    def _check_parents(
        self, assign: Assign, run: dict[str, object], version: DagVersion, task: int
    ) -> None:
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
        rejected = {
            row["task"]
            for row in self._database.tables["task_wait"].values()
            if row["run"] == run["run"] and row["kind"] == WaitKind.MARK
        }
        last = self._last_ends(run["run"])
        for task in edges.order:
            if task in last:
                states[task] = own_state(version, task, *last[task])
            if task in rejected:
                states[task] = TaskState.FAILED
            for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
                blocked = states[task] in (TaskState.FAILED, TaskState.UPSTREAM_FAILED)
                if blocked and version.tasks[child].rule is TriggerRule.ALL_SUCCESS:
                    states[child] = TaskState.UPSTREAM_FAILED
        return states

    def _last_ends(self, run: object) -> dict[int, tuple[int, AttemptState]]:
        """Number and state of the last ended attempt of each task of a run, as it counts."""
        late = self._database.tables["attempt_late"]
        last: dict[int, tuple[tuple[int, int, int], tuple[int, AttemptState]]] = {}
        for key, row in self._database.tables["attempt"].items():
            if row["run"] == run:
                order = (row["number"], row["ended_epoch"], row["ended_batch"])
                adopted = late.get(key, {}).get("adopted", False)
                state = AttemptState.SUCCEEDED if adopted else AttemptState(row["state"])
                if row["task"] not in last or order > last[row["task"]][0]:
                    last[row["task"]] = (order, (row["number"], state))
        return {task: end for task, (_, end) in last.items()}

    def check_store(self) -> None:
        """What can be judged from the rows at any time."""
        epochs: dict[int, int] = {}
        for taken in self._database.takeovers:
            hold(taken.epoch > epochs.get(taken.shard, 0), "I1", taken)
            epochs[taken.shard] = taken.epoch
        rows = list(self._database.tables["attempt"].values())
        for row in rows[self._judged :]:
            self._check_result(row)
            in_force = self._epochs.get(row["shard"], 0)
            hold(row["ended_epoch"] >= in_force, "I2", f"{row} is written in epoch {in_force}")
        self._epochs = epochs
        # History is append-only: what was right stays right.
        self._judged = len(rows)
        for row in self._database.tables["attempt_late"].values():
            self._check_result(row)

    def _check_result(self, row: dict[str, object]) -> None:
        attempt_id = row["attempt_id"]
        assert isinstance(attempt_id, bytes)
        state, name = AttemptState(row["state"]), attempt_id.hex()
        happened = self._ended.get(attempt_id)
        if state is AttemptState.SUCCEEDED:
            hold(happened == (0, 0), "I18", f"{name} ended {happened}")
            hold(attempt_id in self._journalled, "I18", f"{name} is in no journal")
        if state is AttemptState.REJECTED:
            hold(attempt_id not in self._spawned, "I12", f"{name} was spawned")
        code = row["exit_code"] if row["exit_code"] is not None else -1
        if (code, row["signal"]) != (-1, 0):
            hold((code, row["signal"]) == happened, "I12", f"{row} instead of {happened}")
        elif state in {AttemptState.FAILED, AttemptState.TIMED_OUT}:
            hold(attempt_id not in self._spawned, "I12", f"{row} instead of {happened}")

    def check_end(self) -> None:
        """What must hold when faults have stopped and time has passed."""
        tables = self._database.tables
        self.check_store()
        hold(not tables["attempt_live"], "I10", list(tables["attempt_live"].values())[:3])
        waits = [r for r in tables["task_wait"].values() if r["kind"] != WaitKind.MARK]
        hold(not waits, "I13", waits[:3])
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
