"""Decides the memory of a new leader from the rows of the store.

What has no row is derived by the same function that answers reads. Timers are set again from
stored instants, so one that was due while nobody led fires at once. A task is ready since the
latest end of its parents, so its age survives. Nothing is written and nothing is sent: messages
follow from the agents' inventories. Of attempts that were given up only the last of each task
instance is remembered: a late result of an older one could change nothing.

What cannot be read here is set aside with all that hangs on it, and the rest of the shard goes on:
runs of an unreadable version neither start nor stop anything, their attempts are neither cancelled
nor acknowledged, schedules fire nothing. The next takeover, by a node that can read it, goes on.
"""

from __future__ import annotations

from collections import defaultdict

from controlplane.core.effects import WaitKind
from controlplane.core.events import (
    EndRecord,
    LiveRecord,
    Recovered,
    RestoredRecord,
    RunRecord,
    ScheduleRecord,
    Unreadable,
)
from controlplane.core.run.derive import derive, own_state, waiting_state
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.attempts import Attempts
from controlplane.core.shard.backoffs import Backoffs
from controlplane.core.shard.book import Book, DagHead, Schedule, SetAside
from controlplane.core.shard.leases import Leases
from controlplane.core.shard.restored import Aftermath
from controlplane.core.shard.runs import Runs
from controlplane.core.shard.schedules import Schedules, parse_definition
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.types import DagKey, DagVersion, RunCause, RunKey

GIVEN_UP = (AttemptState.LOST, AttemptState.UNKNOWN)

Versions = dict[tuple[DagKey, bytes], DagVersion]


class Recovery:
    """Fills an empty Book."""

    def __init__(
        self,
        book: Book,
        runs: Runs,
        attempts: Attempts,
        leases: Leases,
        backoffs: Backoffs,
        schedules: Schedules,
        aftermath: Aftermath,
    ) -> None:
        self._book = book
        self._runs = runs
        self._attempts = attempts
        self._leases = leases
        self._backoffs = backoffs
        self._schedules = schedules
        self._aftermath = aftermath

    def restore(self, stored: Recovered) -> tuple[SetAside, ...]:
        """Takes all rows over, and returns what it could not read. Runs are restored in the order
        of their creation.
        """
        aside = [_not_read(version) for version in stored.unreadable]
        versions = {(version.key, version.digest): version for version in stored.versions}
        self._heads(stored, versions)
        stored = self._readable(stored)
        unreadable = {(version.key, version.digest) for version in stored.unreadable}
        for record in stored.schedules:
            aside += self._schedule(record, unreadable)
        states = _own_states(stored, versions)
        for row in sorted(stored.runs, key=lambda row: (row.created_us, row.run)):
            self._run(row, versions[row.key, row.digest], states.get(row.run, {}))
        numbers = self._book.runs_by_number
        self._leases.recover()
        self._aftermath.recover(stored.restored, frozenset(stored.unsaid))
        for live in stored.live:
            self._live(numbers[live.run], live, stored.restored)
        for wait in stored.waits:
            run = numbers[wait.run]
            run.numbers[wait.task] = wait.number
            if wait.kind == WaitKind.BACKOFF:
                self._backoffs.arm(run, wait.task, wait.due_us)
        latest = {(ended.run, ended.task): ended for ended in stored.ended}
        for ended in latest.values():
            self._ended(numbers[ended.run], ended)
            if ended.epoch >= stored.restored.epoch:
                self._book.clear(numbers[ended.run], ended.task)
        ends = _ends(stored)
        for run in numbers.values():
            if run.state is RunState.RUNNING:
                self._queue_ready(run, ends[run.key.run])
        return tuple(aside)

    def _readable(self, stored: Recovered) -> Recovered:
        """What is left without the runs of versions that cannot be read; those are remembered."""
        if not stored.unreadable:
            return stored
        book = self._book
        unreadable = {(version.key, version.digest) for version in stored.unreadable}
        aside = {row.run for row in stored.runs if (row.key, row.digest) in unreadable}
        for row in stored.runs:
            if row.run in aside:
                book.runs_aside.add(row.run_id)
                # It counts among the runs that its DAG may have at a time.
                book.dags[row.key].active += RunState(row.state) is not RunState.QUEUED
        book.attempts_aside |= {row.attempt_id for row in stored.live if row.run in aside}
        book.attempts_aside |= {row.attempt_id for row in stored.ended if row.run in aside}
        return stored._replace(
            runs=tuple(row for row in stored.runs if row.run not in aside),
            live=tuple(row for row in stored.live if row.run not in aside),
            ended=tuple(row for row in stored.ended if row.run not in aside),
            waits=tuple(row for row in stored.waits if row.run not in aside),
        )

    def _heads(self, stored: Recovered, versions: Versions) -> None:
        for record in stored.dags:
            head = DagHead(record.key, record.created_us)
            head.digest, head.task_count = record.digest, record.task_count
            head.paused, head.pause_reason = record.paused, record.pause_reason
            head.revision = record.revision
            head.version = versions.get((record.key, record.digest))
            self._book.dags[record.key] = head

    def _schedule(
        self, record: ScheduleRecord, unreadable: set[tuple[DagKey, bytes]]
    ) -> list[SetAside]:
        head = self._book.dags[record.key]
        timetable, aside = None, []
        if (head.key, head.digest) not in unreadable:
            try:
                # `@once` that has fired must have no instant again: a start before all instants.
                timetable = parse_definition(record.definition, 0)
            except ValueError as error:
                source = f"schedule {record.key.dag}/{record.schedule}"
                aside.append(SetAside(source, f"{record.definition!r}: {error}"))
        schedule = Schedule(record.schedule, record.definition, timetable, record.next_us)
        head.schedules[record.schedule] = schedule
        self._schedules.arm(head, schedule)
        return aside

    def _run(self, row: RunRecord, version: DagVersion, own: dict[int, TaskState]) -> None:
        run = Run(
            RunKey(row.day, row.run),
            row.run_id,
            version,
            state=RunState(row.state),
            cause=RunCause(row.cause),
            schedule=row.schedule,
            logical_us=row.logical_us,
            created_us=row.created_us,
        )
        run.reason, run.started_us = row.reason, row.started_us
        head = self._book.dags[row.key]
        self._book.remember(run)
        if run.state is RunState.QUEUED:
            head.queued.append(run)
            return
        head.active += 1
        # A run that is being stopped keeps its open tasks until it has drained.
        run.restore(derive(version, own, RunState.RUNNING))
        self._runs.watch_deadline(run)

    def _live(self, run: Run, record: LiveRecord, restored: RestoredRecord) -> None:
        attempt = LiveAttempt(
            run,
            record.task,
            record.number,
            record.attempt_id,
            record.agent,
            record.incarnation,
            record.assigned_us,
        )
        attempt.started_us = record.started_us or 0
        run.numbers[record.task] = record.number
        attempt.restored = record.epoch < restored.epoch
        if not attempt.restored:
            self._book.clear(run, record.task)
        self._attempts.keep(attempt)

    def _ended(self, run: Run, record: EndRecord) -> None:
        """The number of the next attempt, where no row has it: a refused or given up attempt is
        tried again under its own, and a person may have agreed to the next one after a failure.
        """
        task = record.task
        if record.state == AttemptState.REJECTED or record.state in GIVEN_UP:
            run.numbers.setdefault(task, record.number)
        elif run.tasks[task] == TaskState.READY:
            run.numbers.setdefault(task, record.number + 1)
        if record.state in GIVEN_UP:
            self._book.late.remember(record.attempt_id, run, task)
            if task not in run.live:
                run.lost[task] = record.attempt_id

    def _queue_ready(self, run: Run, ends: dict[int, int]) -> None:
        since = _latest_parent_end(run, ends)
        for task in run.tasks_in(TaskState.READY):
            self._book.queue.push(run, task, since.get(task, run.created_us))


def _not_read(version: Unreadable) -> SetAside:
    return SetAside(f"version {version.key.dag}@{version.digest.hex()[:12]}", version.reason)


def _ends(stored: Recovered) -> dict[int, dict[int, int]]:
    ends: dict[int, dict[int, int]] = defaultdict(dict)
    for ended in stored.ended:
        ends[ended.run][ended.task] = ended.finished_us
    return ends


def _latest_parent_end(run: Run, ends: dict[int, int]) -> dict[int, int]:
    edges = run.version.edges
    since: dict[int, int] = {}
    for task, ended_us in ends.items():
        for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
            since[child] = max(since.get(child, 0), ended_us)
    return since


def _own_states(stored: Recovered, versions: Versions) -> dict[int, dict[int, TaskState]]:
    """The states that follow from rows, by run and task; live attempts and waits win."""
    of_run = {row.run: versions[row.key, row.digest] for row in stored.runs}
    states: dict[int, dict[int, TaskState]] = defaultdict(dict)
    for ended in stored.ended:
        state = AttemptState(ended.state)
        mine = own_state(of_run[ended.run], ended.task, ended.number, state)
        states[ended.run][ended.task] = mine
    for wait in stored.waits:
        states[wait.run][wait.task] = waiting_state(wait.kind)
    for live in stored.live:
        running = live.started_us is not None
        states[live.run][live.task] = TaskState.RUNNING if running else TaskState.ASSIGNED
    return states
