"""A store of dictionaries that refuses every row the real one would refuse.

Applies the rows of a step table by table, in the order of `Writes`, and gives back what a new
leader reads. Holds what the store promises: one live attempt a task instance, one row an instant,
final is final, nothing is deleted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from controlplane.core.effects import (
    WRITE_KINDS,
    AppliedRow,
    DagRow,
    DoneRow,
    HoldRow,
    InstantRow,
    LateRow,
    LiveRow,
    RunChangeRow,
    RunRow,
    ScheduleGoneRow,
    ScheduleRow,
    SealedRow,
    StartedRow,
    VersionUseRow,
    WaitGoneRow,
    WaitKind,
    WaitRow,
    Writes,
)
from controlplane.core.events import (
    DagRecord,
    EndRecord,
    LiveRecord,
    Recovered,
    RestoredRecord,
    RunRecord,
    ScheduleRecord,
    WaitRecord,
)
from controlplane.core.run.derive import derive, own_state, waiting_state
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.types import DagKey, DagVersion

Instance = tuple[int, int]
UNSAID = (AttemptState.REJECTED, AttemptState.LOST, AttemptState.UNKNOWN)


class StoreModel:
    """The tables of one shard."""

    def __init__(self) -> None:
        self.specs: dict[tuple[DagKey, bytes], DagVersion] = {}
        self.dags: dict[DagKey, DagRow] = {}
        self.schedules: dict[tuple[DagKey, str], ScheduleRow] = {}
        self.instants: dict[tuple[str, str, str, int], InstantRow] = {}
        self.runs: dict[int, RunRow] = {}
        self.reasons: dict[int, str] = {}
        self.sealed: dict[int, bytes] = {}
        self.live: dict[Instance, LiveRow] = {}
        self.started: dict[Instance, int] = {}
        self.numbers: dict[bytes, int] = {}
        self.history: list[DoneRow] = []
        self.late: dict[bytes, LateRow] = {}
        self.waits: dict[Instance, WaitRow] = {}
        self.applied: dict[int, AppliedRow] = {}
        self.held_back: HoldRow | None = None
        # Of the leader that writes, and of every assignment.
        self.epoch = 1
        self.epochs: dict[bytes, int] = {}
        self.restored = RestoredRecord()

    def apply(self, writes: Writes) -> None:
        """One transaction."""
        for kind in WRITE_KINDS:
            take: Callable[[Any], None] = getattr(self, f"_take_{kind}")
            for row in getattr(writes, kind):
                take(row)
        for row in writes.run_changes:
            if row.state.final:
                assert row.run in self.sealed, row
                assert not any(run == row.run for run, _ in self.live), row
                waits = [wait.kind for wait in self.waits.values() if wait.run == row.run]
                assert all(kind is WaitKind.MARK for kind in waits), "marks stay for ever"

    def _take_dags(self, row: DagRow) -> None:
        before = self.dags.get(DagKey(row.tenant, row.dag))
        assert before is None or before.revision < row.revision
        self.dags[DagKey(row.tenant, row.dag)] = row

    def _take_versions(self, row: VersionUseRow) -> None:
        assert (DagKey(row.tenant, row.dag), row.digest) in self.specs

    def _take_schedules(self, row: ScheduleRow) -> None:
        self.schedules[DagKey(row.tenant, row.dag), row.schedule] = row

    def _take_schedules_gone(self, row: ScheduleGoneRow) -> None:
        self.schedules.pop((DagKey(row.tenant, row.dag), row.schedule), None)

    def _take_instants(self, row: InstantRow) -> None:
        _insert(self.instants, (row.tenant, row.dag, row.schedule, row.instant_us), row)

    def _take_runs(self, row: RunRow) -> None:
        _insert(self.runs, row.run, row)

    def _take_run_changes(self, row: RunChangeRow) -> None:
        before = self.runs[row.run]
        assert row.run not in self.sealed, row
        self.runs[row.run] = before._replace(state=row.state, started_us=row.started_us)
        self.reasons[row.run] = row.reason

    def _take_sealed(self, row: SealedRow) -> None:
        _insert(self.sealed, row.run, row.states)

    def _take_done(self, row: DoneRow) -> None:
        live = self.live.pop((row.run, row.task))
        assert live.attempt_id == row.attempt_id
        assert AttemptState(row.state).final
        self.started.pop((row.run, row.task), None)
        self.history.append(row)

    def _take_late(self, row: LateRow) -> None:
        """The first late row of an attempt counts; its end stays as it was recorded."""
        ends = [done.state for done in self.history if done.attempt_id == row.attempt_id]
        assert ends in ([AttemptState.LOST], [AttemptState.UNKNOWN]), row
        self.late.setdefault(row.attempt_id, row)

    def _take_live(self, row: LiveRow) -> None:
        assert row.attempt_id not in self.numbers, "an id is used once"
        assert row.run not in self.sealed
        self.numbers[row.attempt_id] = row.number
        self.epochs[row.attempt_id] = self.epoch
        _insert(self.live, (row.run, row.task), row)

    def _take_started(self, row: StartedRow) -> None:
        if (row.run, row.task) in self.live:
            self.started[row.run, row.task] = row.started_us

    def _take_waits_gone(self, row: WaitGoneRow) -> None:
        assert self.waits.pop((row.run, row.task)).kind is row.kind

    def _take_waits(self, row: WaitRow) -> None:
        _insert(self.waits, (row.run, row.task), row)

    def _take_applied(self, row: AppliedRow) -> None:
        _insert(self.applied, row.command, row)

    def _take_holds(self, row: HoldRow) -> None:
        self.held_back = row
        self.restored = self.restored._replace(hold=row.hold)

    def version_of(self, run: RunRow) -> DagVersion:
        return self.specs[DagKey(run.tenant, run.dag), run.digest]

    def own_states(self, run: int) -> dict[int, TaskState]:
        """The states of a run's task instances that follow from rows."""
        version = self.version_of(self.runs[run])
        states: dict[int, TaskState] = {}
        for row in self.history:
            if row.run == run:
                number = self.numbers[row.attempt_id]
                states[row.task] = own_state(version, row.task, number, self.end_of(row))
        for (owner, task), wait in self.waits.items():
            if owner == run:
                states[task] = waiting_state(wait.kind)
        for owner, task in self.live:
            if owner == run:
                started = (run, task) in self.started
                states[task] = TaskState.RUNNING if started else TaskState.ASSIGNED
        return states

    def end_of(self, row: DoneRow) -> AttemptState:
        """How an attempt ended, for its task: a late success that was adopted counts."""
        late = self.late.get(row.attempt_id)
        return AttemptState.SUCCEEDED if late is not None and late.adopted else row.state

    def derived(self, run: int) -> bytearray:
        """The states of all task instances of a run, as the query service would show them."""
        row = self.runs[run]
        return derive(self.version_of(row), self.own_states(run), row.state)

    def recovered(self) -> Recovered:
        """What a new leader reads."""
        open_runs = {run: row for run, row in self.runs.items() if not row.state.final}
        digests = {(DagKey(row.tenant, row.dag), row.digest) for row in open_runs.values()}
        busy = {key for key, _ in self.schedules}
        busy |= {DagKey(r.tenant, r.dag) for r in open_runs.values() if r.state is RunState.QUEUED}
        digests |= {(key, self.dags[key].digest) for key in busy}
        return Recovered(
            versions=tuple(self.specs[item] for item in sorted(digests)),
            dags=tuple(_dag_record(row) for row in self.dags.values()),
            schedules=tuple(_schedule_record(row) for row in self.schedules.values()),
            runs=tuple(self._run_record(row) for row in open_runs.values()),
            live=tuple(
                LiveRecord(
                    *row[1:], self.started.get((row.run, row.task)), self.epochs[row.attempt_id]
                )
                for row in self.live.values()
            ),
            ended=tuple(self._end_records(open_runs)),
            waits=tuple(
                WaitRecord(*row[1:]) for row in self.waits.values() if row.run in open_runs
            ),
            restored=self.restored,
            unsaid=tuple(row.attempt_id for row in self.history if row.state in UNSAID),
        )

    def _run_record(self, row: RunRow) -> RunRecord:
        return RunRecord(
            row.day,
            row.run,
            row.run_id,
            DagKey(row.tenant, row.dag),
            row.digest,
            int(row.state),
            self.reasons.get(row.run, ""),
            int(row.cause),
            row.schedule,
            row.logical_us,
            row.created_us,
            row.started_us,
        )

    def _end_records(self, open_runs: Iterable[int]) -> list[EndRecord]:
        last = {(row.run, row.task): row for row in self.history if row.run in open_runs}
        return [
            EndRecord(
                row.run,
                row.task,
                0,
                self.numbers[row.attempt_id],
                int(self.end_of(row)),
                row.finished_us,
                row.attempt_id,
                self.epochs[row.attempt_id],
            )
            for row in last.values()
        ]


def _insert(table: dict[Any, Any], key: object, row: object) -> None:
    assert key not in table, f"there is a row already: {row}"
    table[key] = row


def _dag_record(row: DagRow) -> DagRecord:
    return DagRecord(
        DagKey(row.tenant, row.dag),
        row.digest,
        row.task_count,
        row.paused,
        row.pause_reason,
        row.revision,
        row.created_us,
    )


def _schedule_record(row: ScheduleRow) -> ScheduleRecord:
    return ScheduleRecord(DagKey(row.tenant, row.dag), row.schedule, row.definition, row.next_us)
