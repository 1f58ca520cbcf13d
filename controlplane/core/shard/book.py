"""Decides nothing: the memory of a shard, and what the step at hand has asked for so far.

The parts of the shard (commands, runs, attempts, schedules) share one Book. Rows that a step may
touch more than once (heads of DAGs, schedules, runs, waits, starts) are collected by key and
written once, at the end of the step, as they are then.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from controlplane.core.effects import (
    DagRow,
    Effects,
    RunChangeRow,
    RunRow,
    ScheduleGoneRow,
    ScheduleRow,
    SealedRow,
    StartedRow,
    WaitGoneRow,
    WaitKind,
    WaitRow,
)
from controlplane.core.events import Finished
from controlplane.core.fleet.placement import Fleet
from controlplane.core.run.derive import SEMANTICS_VERSION
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.late import LateMemory
from controlplane.core.shard.queue import ReadyQueue
from controlplane.core.time.deadlines import Now
from controlplane.core.time.timetable import Timetable
from controlplane.core.time.wheel import TimerId, Wheel
from controlplane.core.types import DagKey, DagVersion, bucket_of

# A wall clock that moved by more against the monotonic one was set: timers follow it.
CLOCK_STEP_MS = 500


class BackoffDue(NamedTuple):
    """Timer: a task instance may be tried again."""

    run: int
    task: int


class RunDeadline(NamedTuple):
    """Timer: a run has taken its longest time."""

    run: int


class ScheduleDue(NamedTuple):
    """Timer: a schedule is due."""

    key: DagKey
    schedule: str


class StartedDue(NamedTuple):
    """Timer: the start of an attempt that still runs shall be stored."""

    attempt_id: bytes


class RestOver(NamedTuple):
    """Timer: an agent that refused an attempt may be asked again."""

    agent: str


class LeaseDue(NamedTuple):
    """Timer: attempts of an incarnation may have to be given up."""

    agent: str
    incarnation: bytes


class HoldDue(NamedTuple):
    """Timer: what is held back after a restore may change."""


class HeldDue(NamedTuple):
    """Timer: tasks that were held back after a restore may go."""


class ResultDue(NamedTuple):
    """Timer: the result of an attempt that the batch before made live."""

    event: Finished


Timer = (
    BackoffDue
    | RunDeadline
    | ScheduleDue
    | StartedDue
    | RestOver
    | LeaseDue
    | HoldDue
    | HeldDue
    | ResultDue
)


class SetAside(NamedTuple):
    """A part of the store that cannot be read here. The rest of the shard goes on."""

    source: str
    reason: str


class Schedule:
    """A schedule in the memory of its leader. `next_us` None: never due again.

    `paused_until_us`: what was due until then fell into a pause. `timetable` None: it cannot be
    read here, so nothing of it is due.
    """

    __slots__ = ("definition", "next_us", "paused_until_us", "schedule", "timer", "timetable")

    def __init__(
        self, schedule: str, definition: str, timetable: Timetable | None, next_us: int | None
    ) -> None:
        self.schedule = schedule
        self.definition = definition
        self.timetable = timetable
        self.next_us = next_us
        self.paused_until_us = 0
        self.timer: TimerId | None = None


class DagHead:
    """A DAG in the memory of its leader; `version` None: not needed yet, the store has it."""

    __slots__ = (
        "active",
        "bucket",
        "created_us",
        "digest",
        "key",
        "pause_reason",
        "paused",
        "queued",
        "revision",
        "schedules",
        "task_count",
        "updated_us",
        "version",
    )

    def __init__(self, key: DagKey, created_us: int) -> None:
        self.key = key
        self.bucket = bucket_of(key)
        self.created_us = created_us
        self.updated_us = created_us
        self.digest = b""
        self.task_count = 0
        self.version: DagVersion | None = None
        self.paused = False
        self.pause_reason = ""
        self.revision = 0
        self.schedules: dict[str, Schedule] = {}
        self.active = 0
        self.queued: deque[Run] = deque()

    @property
    def etag(self) -> str:
        """Changes with every change of the DAG."""
        return str(self.revision)


class Book:
    """The memory of one shard."""

    def __init__(self, shard: int, fleet: Fleet, now: Now) -> None:
        self.shard = shard
        self.fleet = fleet
        self.now = now
        self._offset_ms = now.wall_us // 1_000 - now.mono_ms
        self.wheel: Wheel[Timer] = Wheel(now.mono_ms)
        self.queue = ReadyQueue()
        self.dags: dict[DagKey, DagHead] = {}
        self.runs: dict[bytes, Run] = {}
        self.runs_by_number: dict[int, Run] = {}
        self.attempts: dict[bytes, LiveAttempt] = {}
        self.late = LateMemory()
        # Ids of runs, and of attempts, that were set aside.
        self.runs_aside: set[bytes] = set()
        self.attempts_aside: set[bytes] = set()
        # When it was found out that the store went back; 0: it never did.
        self.restored_us = 0
        # Attempts that it had forgotten and that this step made live.
        self.revived: set[bytes] = set()
        self._cleared: dict[int, set[int]] = {}
        self.attempt_ids: deque[bytes] = deque()
        self.run_keys: deque[int] = deque()
        self.effects = Effects()
        self._touched_dags: dict[DagKey, DagHead] = {}
        self._touched_schedules: dict[tuple[DagKey, str], Schedule | None] = {}
        self._new_waits: dict[tuple[int, int], WaitRow] = {}
        self._starts: list[LiveAttempt] = []
        self._new_runs: list[Run] = []
        self._changed_runs: dict[bytes, Run] = {}

    def begin(self, now: Now) -> bool:
        """A step begins; whether the wall clock was set since timers were armed by it."""
        self.now = now
        self.effects = Effects()
        offset_ms = now.wall_us // 1_000 - now.mono_ms
        stepped = abs(offset_ms - self._offset_ms) > CLOCK_STEP_MS
        if stepped:
            self._offset_ms = offset_ms
        return stepped

    def close(self) -> Effects:
        """The step ends: what was collected becomes rows."""
        writes, now_us = self.effects.writes, self.now.wall_us
        writes.dags += [_dag_row(head) for head in self._touched_dags.values()]
        for (key, name), schedule in self._touched_schedules.items():
            if schedule is None:
                writes.schedules_gone.append(ScheduleGoneRow(*key, name))
            else:
                writes.schedules.append(_schedule_row(key, schedule))
        writes.started += [
            StartedRow(attempt.run.key.run, attempt.task, 0, attempt.started_us)
            for attempt in self._starts
            if attempt.attempt_id in self.attempts
        ]
        writes.waits += self._new_waits.values()
        writes.runs += [_run_row(run) for run in self._new_runs]
        for run in self._changed_runs.values():
            final = run.state.final
            ended_us = now_us if final else None
            writes.run_changes.append(
                RunChangeRow(*run.key, run.state, run.reason, run.started_us, ended_us)
            )
            if final:
                writes.sealed.append(SealedRow(*run.key, bytes(run.tasks)))
        self._touched_dags.clear()
        self._touched_schedules.clear()
        self._starts.clear()
        self._new_waits.clear()
        self._new_runs.clear()
        self._changed_runs.clear()
        self.revived.clear()
        return self.effects

    def touch_dag(self, head: DagHead) -> None:
        """The head of a DAG changed."""
        head.revision += 1
        head.updated_us = self.now.wall_us
        self._touched_dags[head.key] = head

    def touch_schedule(self, key: DagKey, schedule: Schedule) -> None:
        """A schedule changed."""
        self._touched_schedules[key, schedule.schedule] = schedule

    def drop_schedule(self, key: DagKey, schedule: Schedule) -> None:
        """A schedule is gone, unless the same step makes another of its name."""
        self._touched_schedules[key, schedule.schedule] = None

    def note_start(self, attempt: LiveAttempt) -> None:
        """A live attempt runs; of one that ends in the same step the end says so."""
        self._starts.append(attempt)

    def add_wait(self, row: WaitRow) -> None:
        """A task instance begins to wait."""
        self._new_waits[row.run, row.task] = row

    def drop_wait(self, run: Run, task: int, kind: WaitKind) -> None:
        """A task instance waits no more; what was never stored leaves no trace."""
        if self._new_waits.pop((run.key.run, task), None) is None:
            row = WaitGoneRow(run.key.run, task, 0, kind)
            self.effects.writes.waits_gone.append(row)

    def add_run(self, run: Run) -> None:
        """A run is new."""
        self.remember(run)
        self._new_runs.append(run)

    def touch_run(self, run: Run) -> None:
        """A run changed since it was new."""
        self._changed_runs[run.run_id] = run

    def remember(self, run: Run) -> None:
        """Keeps a run in memory."""
        self.runs[run.run_id] = run
        self.runs_by_number[run.key.run] = run

    def clear(self, run: Run, task: int) -> None:
        """A task may be assigned although the store went back: it was since, or a person agreed."""
        if self.restored_us:
            self._cleared.setdefault(run.key.run, set()).add(task)

    def is_cleared(self, run: Run, task: int) -> bool:
        """See `clear`."""
        return task in self._cleared.get(run.key.run, ())

    def forget(self, run: Run) -> None:
        """Drops a final run from memory."""
        self._cleared.pop(run.key.run, None)
        del self.runs[run.run_id]
        del self.runs_by_number[run.key.run]
        if run.given_up:
            self.late.close(run)


def _dag_row(head: DagHead) -> DagRow:
    return DagRow(
        *head.key,
        head.bucket,
        head.digest,
        head.task_count,
        head.paused,
        head.pause_reason,
        head.revision,
        head.created_us,
        head.updated_us,
    )


def _schedule_row(key: DagKey, item: Schedule) -> ScheduleRow:
    return ScheduleRow(*key, item.schedule, bucket_of(key), item.definition, item.next_us)


def _run_row(run: Run) -> RunRow:
    return RunRow(
        *run.key,
        run.run_id,
        *run.version.key,
        bucket_of(run.version.key),
        run.version.digest,
        run.state,
        run.cause,
        run.schedule,
        run.logical_us,
        run.created_us,
        run.started_us,
        SEMANTICS_VERSION,
    )
