"""Decides what a command does. Each ends as exactly one row that says what became of it.

A command whose subject is missing or has moved on is answered, never dropped. Does not know who
asked.
"""

from __future__ import annotations

from controlplane.core.effects import AppliedRow, CommandOutcome, VersionUseRow
from controlplane.core.events import ApplyDag, CancelRun, DecideApproval, PauseDag, TriggerRun
from controlplane.core.shard.approvals import Approvals
from controlplane.core.shard.book import Book, DagHead
from controlplane.core.shard.runs import Runs
from controlplane.core.shard.schedules import Schedules
from controlplane.core.states import RunState, TaskState
from controlplane.core.types import RunCause

ASIDE = "the run is set aside: the node that leads cannot read its definition; its log says why"
FINAL = "the run is final already"


class Commands:
    """The commands of one shard."""

    def __init__(self, book: Book, runs: Runs, schedules: Schedules, approvals: Approvals) -> None:
        self._book = book
        self._runs = runs
        self._schedules = schedules
        self._approvals = approvals

    def _answer(self, command: int, outcome: CommandOutcome, detail: str = "") -> None:
        row = AppliedRow(command, outcome, detail, self._book.now.wall_us)
        self._book.effects.writes.applied.append(row)

    def apply_dag(self, event: ApplyDag) -> None:
        """Makes a version current: `created`, `changed` or `unchanged`."""
        book, version = self._book, event.version
        head = book.dags.get(version.key)
        if event.etag and (head is None or head.etag != event.etag):
            now = "it does not exist" if head is None else f"it is {head.etag!r} now"
            detail = f"the etag was {event.etag!r}, {now}; read the DAG again and decide anew"
            self._answer(event.command, CommandOutcome.CONFLICT, detail)
            return
        detail = "changed"
        if head is None:
            head = book.dags[version.key] = DagHead(version.key, book.now.wall_us)
            detail = "created"
        elif head.digest == version.digest:
            self._answer(event.command, CommandOutcome.APPLIED, "unchanged")
            return
        head.version, head.digest = version, version.digest
        head.task_count = len(version.tasks)
        book.touch_dag(head)
        book.effects.writes.versions.append(
            VersionUseRow(*version.key, version.digest, head.task_count, book.now.wall_us)
        )
        self._schedules.apply(head, version)
        self._runs.admit_queued(head)
        self._answer(event.command, CommandOutcome.APPLIED, detail)

    def trigger_run(self, event: TriggerRun) -> None:
        """Makes a run of the current version."""
        head = self._book.dags.get(event.key)
        if head is None:
            self._missing(event.command, f"there is no DAG {event.key.dag!r}")
            return
        assert head.version is not None, event.key
        self._runs.create(
            head,
            head.version,
            event.run_id,
            cause=RunCause.TRIGGER,
            schedule="",
            logical_us=event.logical_us,
        )
        self._answer(event.command, CommandOutcome.APPLIED)

    def cancel_run(self, event: CancelRun) -> None:
        """Starts a cancellation; one that runs already is acknowledged again."""
        run = self._book.runs.get(event.run_id)
        if run is None:
            self._no_run(event.command, event.run_id)
        elif run.state is RunState.TIMING_OUT:
            detail = "the run has reached its timeout and is being stopped"
            self._answer(event.command, CommandOutcome.REFUSED, detail)
        else:
            self._runs.cancel(run, event.reason)
            self._answer(event.command, CommandOutcome.APPLIED)

    def pause_dag(self, event: PauseDag) -> None:
        """Pauses or resumes the schedules of a DAG; doing it twice changes nothing."""
        head = self._book.dags.get(event.key)
        if head is None:
            self._missing(event.command, f"there is no DAG {event.key.dag!r}")
            return
        if head.paused != event.paused:
            head.paused, head.pause_reason = event.paused, event.reason
            self._book.touch_dag(head)
            if not event.paused:
                self._schedules.resume(head)
        self._answer(event.command, CommandOutcome.APPLIED)

    def decide_approval(self, event: DecideApproval) -> None:
        """Has a task instance that waits for it tried again, or failed."""
        run = self._book.runs.get(event.run_id)
        if run is None:
            self._no_run(event.command, event.run_id)
            return
        names = (item.task for item in run.version.tasks)
        task = next((number for number, name in enumerate(names) if name == event.task), None)
        if task is None:
            self._missing(event.command, f"the run has no task {event.task!r}")
        elif run.state in (RunState.CANCELLING, RunState.TIMING_OUT):
            self._answer(event.command, CommandOutcome.REFUSED, "the run is being stopped")
        elif run.tasks[task] != TaskState.AWAITING_APPROVAL:
            state = TaskState(run.tasks[task]).name
            detail = f"task {event.task!r} waits for no approval: it is {state}"
            self._answer(event.command, CommandOutcome.REFUSED, detail)
        else:
            if event.approved:
                self._approvals.approve(run, task)
            else:
                self._approvals.reject(run, task, event.reason)
            self._answer(event.command, CommandOutcome.APPLIED)

    def _no_run(self, command: int, run_id: bytes) -> None:
        detail = ASIDE if run_id in self._book.runs_aside else FINAL
        self._answer(command, CommandOutcome.REFUSED, detail)

    def _missing(self, command: int, detail: str) -> None:
        self._answer(command, CommandOutcome.NOT_FOUND, detail)
