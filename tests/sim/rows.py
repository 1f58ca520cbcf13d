"""What must hold for the rows of a simulated cluster, judged at every commit by what it changes.

The numbers are those of `invariants`. Each commit is looked at before it is applied, with the rows
as they were; so a check costs what the commit costs. States of task instances are derived here from
attempts, late results and marks alone, by rules written down a second time. Does not know what
processes really do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from controlplane.core.effects import CommandOutcome, WaitKind
from controlplane.core.states import RUN_TRANSITIONS, AttemptState, RunState, TaskState
from controlplane.core.types import DagVersion, TriggerRule, uuid_text
from controlplane.store.records import ShardState
from tests.sim.instants import Instants
from tests.sim.memory_store import Changes, Key, MemoryDatabase, Row
from tests.sim.violation import hold

ADMITTED = (RunState.RUNNING, RunState.CANCELLING, RunState.TIMING_OUT)
BLOCKING = (TaskState.FAILED, TaskState.UPSTREAM_FAILED)
FAILURES = (AttemptState.FAILED, AttemptState.TIMED_OUT)
COUNTED = (*FAILURES, AttemptState.UNKNOWN)


class Asked(NamedTuple):
    """A command as somebody gave it. `bad`: it cannot be handled, and must be set aside.

    digest: of the version that is applied.
    """

    kind: str
    dag: str
    run_id: bytes = b""
    digest: bytes = b""
    bad: bool = False


class End(NamedTuple):
    """The last end of a task instance, as it counts."""

    attempt_id: bytes
    number: int
    state: AttemptState


class RunView:
    """What the rows of one run say of its tasks."""

    def __init__(self, version: DagVersion) -> None:
        self.version = version
        self.ends: dict[int, End] = {}
        self.rejected: set[int] = set()
        self.live = 0
        self._states: list[TaskState] | None = None
        self.parents: list[list[int]] = [[] for _ in version.tasks]
        edges = version.edges
        for task in range(len(version.tasks)):
            for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
                self.parents[child].append(task)

    def ended(self, task: int, end: End) -> None:
        """An attempt has ended, or the end of the last one counts otherwise."""
        self.ends[task] = end
        self._states = None

    def copied(self) -> RunView:
        """The same, on its own from now on."""
        copy = RunView(self.version)
        copy.ends, copy.rejected, copy.live = dict(self.ends), set(self.rejected), self.live
        return copy

    def reject(self, task: int) -> None:
        """A person has decided that a task failed."""
        self.rejected.add(task)
        self._states = None

    @property
    def states(self) -> list[TaskState]:
        """Of all tasks: final ones as they are, all others WAITING."""
        if self._states is None:
            self._states = [TaskState.WAITING] * len(self.version.tasks)
            for task in self.version.edges.order:
                self._states[task] = self._state(task, self._states)
        return self._states

    def _state(self, task: int, states: list[TaskState]) -> TaskState:
        if task in self.rejected:
            return TaskState.FAILED
        end = self.ends.get(task)
        if end is None:
            blocked = any(states[parent] in BLOCKING for parent in self.parents[task])
            if blocked and self.version.tasks[task].rule is TriggerRule.ALL_SUCCESS:
                return TaskState.UPSTREAM_FAILED
        elif end.state is AttemptState.SUCCEEDED:
            return TaskState.SUCCEEDED
        elif end.state is AttemptState.CANCELLED:
            return TaskState.CANCELLED
        elif end.state in FAILURES:
            last = end.number >= self.version.tasks[task].retry.max_attempts
            return TaskState.FAILED if last else TaskState.WAITING
        return TaskState.WAITING

    def may_start(self, task: int) -> tuple[bool, str]:
        """Whether the trigger rule of a task holds, and what is said of its parents."""
        states = self.states
        parents = [states[parent] for parent in self.parents[task]]
        if self.version.tasks[task].rule is TriggerRule.ALL_DONE:
            allowed = all(state.final for state in parents)
        else:
            allowed = all(state is TaskState.SUCCEEDED for state in parents)
        return allowed, " ".join(state.name for state in parents)


def _reachable() -> frozenset[tuple[RunState | None, RunState]]:
    """From which state to which a run may go in one batch; None: it has no row yet."""
    pairs = {(state, state) for state in RunState if not state.final}
    pairs |= {(before, after) for (before, _), after in RUN_TRANSITIONS.items()}
    while True:
        longer = {(a, d) for a, b in pairs for c, d in pairs if b is c} - pairs
        if not longer:
            break
        pairs |= longer
    fresh = {(None, after) for before, after in pairs if before is RunState.QUEUED}
    return frozenset({*pairs, *fresh})


RUN_CHANGES = _reachable()


class Rows:
    """Watches the commits of one database. `asked`: the commands, by their numbers."""

    def __init__(
        self,
        database: MemoryDatabase,
        versions: dict[bytes, DagVersion],
        asked: dict[int, Asked],
        judge_end: Callable[[Row], None],
    ) -> None:
        self._database = database
        self._tables = database.tables
        self._versions = versions
        self._asked = asked
        self._judge_end = judge_end
        self.instants = Instants(database)
        self.committed: set[bytes] = set()
        # Attempts that were committed, and that the store has forgotten since.
        self.forgotten: set[bytes] = set()
        self.views: dict[int, RunView] = {}
        self._keys: dict[str, Key] = {}
        self._active: Counter[Key] = Counter()
        self._changes: Changes = {}
        # DAGs that admit a run in this commit, and how many they may have.
        self._limits: dict[Key, int] = {}

    # A store that goes back

    def backup(self) -> tuple[dict[int, RunView], Counter[Key]]:
        """What the rows say now."""
        views = {run: view.copied() for run, view in self.views.items()}
        return views, Counter(self._active)

    def put_back(self, backup: tuple[dict[int, RunView], Counter[Key]]) -> None:
        """The rows are as they were. Runs that are forgotten stay known to those who run them."""
        views, active = backup
        kept = [row for name in ("attempt_live", "attempt") for row in self._tables[name].values()]
        self.forgotten = self.committed - {row["attempt_id"] for row in kept}
        self.views |= {run: view.copied() for run, view in views.items()}
        runs = self._tables["run"].items()
        self._keys |= {uuid_text(row["run_id"]): key for key, row in runs}
        self._active = Counter(active)

    # Reading

    def view_of(self, run_id: str) -> RunView:
        """The tasks of a run, by the text of its id; the store may have forgotten it."""
        return self.views[self._keys[run_id][1]]

    def run(self, run_id: str) -> tuple[Row, RunView]:
        """The row and the tasks of a run, by the text of its id."""
        hold(run_id in self._keys, "I8", lambda: f"run {run_id} has an attempt and no row")
        key = self._keys[run_id]
        return self._tables["run"][key], self.views[key[1]]

    def _after(self, table: str, key: Key) -> Row | None:
        """A row as it will be."""
        if (table, key) in self._changes:
            return self._changes[table, key]
        return self._tables[table].get(key)

    def _changed(self, table: str) -> Iterator[tuple[Key, Row | None, Row | None]]:
        """Key, row before and row after of what changes in a table."""
        rows = self._tables[table]
        for (name, key), after in self._changes.items():
            if name == table:
                yield key, rows.get(key), after

    # A commit

    def commit(self, state: ShardState | None, changes: Changes) -> None:
        """A transaction is about to commit; raises ViolationError."""
        if state is not None:
            self._fence(state)
        if not changes:
            return
        self._changes = changes
        for key, before, after in self._changed("run"):
            self._run(key, before, after)
        self._check_limits()
        for key, before, after in self._changed("attempt"):
            self._end(key, before, after)
        for key, _, after in self._changed("attempt_late"):
            self._late(key, after)
        for _, _, after in self._changed("task_wait"):
            if after is not None and after["kind"] == WaitKind.MARK:
                self.views[after["run"]].reject(after["task"])
        for key, before, after in self._changed("attempt_live"):
            self._live(key, before, after)
        for key, before, after in self._changed("sealed_run"):
            self._sealed(key, before, after)
        for key, before, after in self._changed("inbox"):
            self._answered(key, before, after)
        self.instants.commit(changes)

    def _fence(self, state: ShardState) -> None:
        before = self._database.shards[state.shard]
        if state.epoch != before.epoch:
            hold(state.epoch > before.epoch, "I1", lambda: f"{state} follows {before}")
        else:
            follows = state.batch == before.batch + 1
            hold(
                follows,
                "I2",
                lambda: f"batch {state.batch} of epoch {state.epoch} follows {before}",
            )

    def _in_force(self, row: Row, epoch: int) -> None:
        in_force = self._database.shards[row["shard"]].epoch
        hold(epoch == in_force, "I2", lambda: f"{row} is written in epoch {in_force}")

    def _run(self, key: Key, before: Row | None, after: Row | None) -> None:
        hold(after is not None, "I8", lambda: f"{before} is gone")
        assert after is not None
        state, was = RunState(after["state"]), None
        if before is None:
            self.views[key[1]] = RunView(self._versions[after["digest"]])
            self._keys[uuid_text(after["run_id"])] = key
        else:
            was = RunState(before["state"])
        hold((was, state) in RUN_CHANGES, "I11", lambda: f"from {before} to {after}")
        sealed = self._after("sealed_run", key)
        hold(state.final == (sealed is not None), "I15", lambda: f"{after} is sealed as {sealed}")
        self._admit((after["tenant"], after["dag"]), was, state)

    def _admit(self, dag: Key, was: RunState | None, state: RunState) -> None:
        self._active[dag] += (state in ADMITTED) - (was in ADMITTED)
        if state is not RunState.RUNNING or was is RunState.RUNNING:
            return
        # Several versions may be current during one batch: the largest limit counts.
        heads = (self._tables["dag"].get(dag), self._after("dag", dag))
        digests = {row["digest"] for row in heads if row} | self._applied(dag)
        limits = [self._versions[digest].max_active_runs for digest in digests]
        if 0 not in limits:
            self._limits[dag] = max(limits)

    def _applied(self, dag: Key) -> set[bytes]:
        """The versions of a DAG that commands of this commit make current, if only for a moment."""
        commands = [self._asked.get(key[0]) for key, _, _ in self._changed("inbox")]
        return {item.digest for item in commands if item and item.digest and item.dag == dag[1]}

    def _check_limits(self) -> None:
        for dag, limit in self._limits.items():
            hold(
                self._active[dag] <= limit,
                "I9",
                f"{dag} has {self._active[dag]} of {limit} runs",
            )
        self._limits.clear()

    def _end(self, key: Key, before: Row | None, after: Row | None) -> None:
        hold(before is None and after is not None, "I11", lambda: f"{before} becomes {after}")
        assert after is not None
        self._in_force(after, after["ended_epoch"])
        live = self._tables["attempt_live"].get((after["shard"], *key[1:4]))
        known = live is not None and live["attempt_id"] == after["attempt_id"]
        hold(known, "I11", lambda: f"{after} ends, and {live} is live")
        state = AttemptState(after["state"])
        hold(state.final, "I11", after)
        self._judge_end(after)
        if state is AttemptState.UNKNOWN:
            place = (after["shard"], *key[1:4], WaitKind.APPROVAL)
            asked = self._after("task_wait", place) or self._after("attempt_late", key)
            hold(
                asked or self.may_be_repeated(after),
                "I11",
                lambda: f"nobody is asked about {after}",
            )
        end = End(after["attempt_id"], after["number"], state)
        self.views[after["run"]].ended(after["task"], end)

    def may_be_repeated(self, row: Row) -> bool:
        """Whether nobody need be asked before a task is done again that may have been done."""
        if "adopted" in row:
            # What is told late of an attempt changes nothing for its task.
            return True
        view = self.views[row["run"]]
        run = self._after("run", (row["day"], row["run"]))
        return view.version.tasks[row["task"]].idempotent or run["state"] != RunState.RUNNING

    def _late(self, key: Key, after: Row | None) -> None:
        assert after is not None, key
        self._judge_end(after)
        if after["adopted"]:
            view, task = self.views[after["run"]], after["task"]
            end = view.ends.get(task)
            newest = end is not None and end.attempt_id == after["attempt_id"]
            hold(newest, "I12", lambda: f"{after} is adopted after {end}")
            assert end is not None
            hold(not view.states[task].final, "I11", lambda: f"{after} is adopted after {end}")
            view.ended(task, end._replace(state=AttemptState.SUCCEEDED))

    def _live(self, key: Key, before: Row | None, after: Row | None) -> None:
        if before is not None and (after is None or after["attempt_id"] != before["attempt_id"]):
            self.views[before["run"]].live -= 1
            history = (before["day"], *key[1:], before["attempt_id"])
            hold(self._after("attempt", history), "I10", lambda: f"{before} is forgotten")
        if after is None or (before and after["attempt_id"] == before["attempt_id"]):
            return
        self.views[after["run"]].live += 1
        self._assigned(after)

    def _assigned(self, live: Row) -> None:
        """A new attempt."""
        self._in_force(live, live["epoch"])
        attempt_id = live["attempt_id"]
        revived = attempt_id in self.forgotten
        self.forgotten.discard(attempt_id)
        hold(revived or attempt_id not in self.committed, "I4", lambda: f"{live} is assigned again")
        self.committed.add(attempt_id)
        run = self._after("run", (live["day"], live["run"]))
        hold(
            run and run["state"] == RunState.RUNNING, "I14", lambda: f"{live} is assigned in {run}"
        )
        view, task = self.views[live["run"]], live["task"]
        hold(not view.states[task].final, "I11", lambda: f"{live} follows {view.ends.get(task)}")
        allowed, parents = view.may_start(task)
        hold(allowed, "I6", lambda: f"{live} is assigned, its parents are {parents}")
        last, number = view.ends.get(task), live["number"]
        tries = {1} if last is None else {last.number + (last.state in FAILURES)}
        # Tries between may be forgotten as well.
        hold(
            number in tries or (revived and number > max(tries)),
            "I11",
            lambda: f"{live} follows {last}",
        )
        place = (live["shard"], live["run"], task, live["expansion"])
        waits = [kind for kind in WaitKind if self._after("task_wait", (*place, kind))]
        hold(not waits, "I11", lambda: f"{live} is assigned while it waits: {waits}")

    def _sealed(self, key: Key, before: Row | None, after: Row | None) -> None:
        """The last word on a run: counted again, task by task."""
        hold(before is None and after is not None, "I11", lambda: f"{before} becomes {after}")
        run = self._after("run", key)
        assert after is not None
        assert run is not None, key
        view, state = self.views[key[1]], RunState(run["state"])
        told = [TaskState(each) for each in after["states"]]
        mine = [each if each.final else TaskState.CANCELLED for each in view.states]
        hold(told == mine, "I15", lambda: f"{run} is sealed as {told}, and its rows say {mine}")
        # Runs that were stopped have a reason; all others end by their tasks alone.
        stopped = state is RunState.CANCELLED or run["reason"]
        by_tasks = all(each is TaskState.SUCCEEDED for each in told)
        hold(
            stopped or by_tasks == (state is RunState.SUCCEEDED),
            "I15",
            lambda: f"{run} ends with {told}",
        )
        hold(stopped or TaskState.CANCELLED not in told, "I11", lambda: f"{run} ends with {told}")
        hold(not view.live, "I10", lambda: f"{run} ends with attempts alive")

    def _answered(self, key: Key, before: Row | None, after: Row | None) -> None:
        assert before is not None, key
        assert after is not None, key
        asked = self._asked.get(key[0])
        hold(before["outcome"] is None, "I11", lambda: f"{asked} is answered again: {after}")
        applied = after["outcome"] == CommandOutcome.APPLIED
        if asked is None or after["outcome"] == CommandOutcome.QUARANTINED:
            hold(
                asked is None or asked.bad, "I8", lambda: f"{asked} is set aside: {after['detail']}"
            )
        elif asked.kind == "trigger" and applied:
            hold(uuid_text(asked.run_id) in self._keys, "I8", lambda: f"{asked} has no run")
        elif asked.kind == "cancel" and applied:
            row = self._after("run", self._keys[uuid_text(asked.run_id)])
            assert row is not None
            stopped = row["state"] != RunState.RUNNING and row["state"] != RunState.QUEUED
            hold(stopped, "I14", lambda: f"{asked} is acknowledged, and the run goes on: {row}")
