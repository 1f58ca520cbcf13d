"""Decides what a stored run looks like: the states of all its tasks, and why they are in them.

What has no row is derived by the core's own function, the same that leaders use; a final run
carries its states with it. Does not know pages or streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import Signals

from controlplane.codec.commands import parse_command
from controlplane.codec.runs import AttemptView, LateView, RunView, TaskView, pending_run
from controlplane.core.effects import CommandOutcome, WaitKind
from controlplane.core.events import WaitRecord
from controlplane.core.graph.names import shown
from controlplane.core.run.derive import derive, own_state, waiting_state
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.types import DagKey, DagVersion, uuid_text
from controlplane.services.delays import for_next_attempt
from controlplane.services.errors import NotFound
from controlplane.services.names import RunName
from controlplane.services.versions import ReadVersion, Versions
from controlplane.store.api import ApiStore
from controlplane.store.records import AttemptItem, LateItem, PendingRun, RunItem, RunTaskRows

_REASONS = {
    AttemptState.TIMED_OUT: "it took longer than its timeout",
    AttemptState.CANCELLED: "it was stopped by a cancellation",
    AttemptState.LOST: "its agent lost it",
    AttemptState.REJECTED: "its agent refused it",
    AttemptState.UNKNOWN: "nobody knows how far it got",
}

ADOPTED = "its attempt had been given up, and reported its success later"


@dataclass(frozen=True, slots=True)
class Picture:
    """A run at one moment; `states` holds a byte of TaskState for each task of the version."""

    version: ReadVersion
    rows: RunTaskRows
    states: bytes

    @property
    def run(self) -> RunItem:
        return self.rows.run

    def tasks(self) -> list[TaskView]:
        """All task instances, in the order of the version."""
        live = {each.task: each for each in self.rows.live}
        ended = {each.task: each for each in self.rows.ended}
        waits = {each.task: each for each in self.rows.waits}
        compiled, labels = self.version.compiled, self.version.labels
        return [
            _task_view(
                task.task,
                labels[number],
                self.states[number],
                live.get(number) or ended.get(number),
                waits.get(number),
            )
            for number, task in enumerate(compiled.tasks)
        ]

    def ready(self) -> list[int]:
        """Numbers of the tasks that wait for a place."""
        return [number for number, state in enumerate(self.states) if state == TaskState.READY]

    def approvals(self) -> list[WaitRecord]:
        """What waits for a decision, the oldest first."""
        waits = (wait for wait in self.rows.waits if wait.kind == WaitKind.APPROVAL)
        waiting = TaskState.AWAITING_APPROVAL
        return sorted(
            (wait for wait in waits if self.states[wait.task] == waiting),
            key=lambda wait: (wait.due_us, wait.task),
        )


class Pictures:
    """Reads runs of one tenant at a time."""

    def __init__(self, store: ApiStore, versions: Versions) -> None:
        self._store = store
        self._versions = versions

    async def find(self, tenant: str, name: RunName) -> RunItem | RunView:
        """A run; a RunView while it is pending. Raises NotFound."""
        found = await self._store.find_run(tenant, name.run_id)
        if isinstance(found, PendingRun):
            view = _pending(found, name)
            if view.dag == (name.dag or view.dag):
                return view
        elif found is not None and found.dag == (name.dag or found.dag):
            return found
        raise _no_run(name)

    async def read(self, tenant: str, name: RunName) -> Picture | RunView:
        """A run with its tasks; a RunView while it is pending. Raises NotFound."""
        found = await self.find(tenant, name)
        return found if isinstance(found, RunView) else await self.of(found)

    async def of(self, run: RunItem) -> Picture:
        """The tasks of a run that was found. Raises NotFound."""
        rows = await self._store.run_task_rows(run.day, run.run)
        if rows is None:
            raise _no_run(RunName(run.dag, run.run_id))
        version = await self.version_of(run)
        states = rows.states
        if states is None or len(states) != len(version.labels):
            states = bytes(derive(version.compiled, _own(version.compiled, rows), _state(rows)))
        return Picture(version, rows, states)

    async def version_of(self, run: RunItem) -> ReadVersion:
        """The version of a run. Raises NotFound."""
        return await self._versions.get(DagKey(run.tenant, run.dag), run.digest)


def run_view(item: RunItem) -> RunView:
    """A run as its row has it."""
    reason = item.reason
    if item.state == RunState.QUEUED and not reason:
        reason = "the DAG has as many active runs as it may have"
    return RunView(
        item.dag,
        item.run_id,
        item.state,
        reason,
        item.digest,
        item.cause,
        item.schedule,
        item.logical_us,
        item.created_us,
        item.started_us,
        item.finished_us,
        item.shard,
    )


def attempt_view(task: str, item: AttemptItem) -> AttemptView:
    """An attempt as its row has it."""
    return AttemptView(
        task=task,
        attempt_id=item.attempt_id,
        number=item.number,
        state=item.state,
        reason=reason_of(item),
        agent=item.agent,
        assigned_us=item.assigned_us,
        started_us=item.started_us,
        finished_us=item.finished_us,
        exit_code=item.exit_code,
        signal=item.signal,
        batch=item.batch,
        ended_batch=item.ended_batch or 0,
        stdout_bytes=item.stdout_bytes,
        stderr_bytes=item.stderr_bytes,
        late=None if item.late is None else _late_view(item.late),
    )


def _late_view(late: LateItem) -> LateView:
    return LateView(
        late.state,
        reason_of(late),
        late.started_us,
        late.finished_us,
        late.exit_code,
        late.signal,
        late.adopted,
    )


def reason_of(item: AttemptItem | LateItem) -> str:
    """Why an attempt ended as it did, where there is something to say."""
    if item.message:
        return item.message
    if item.state == AttemptState.FAILED:
        return _signal(item.signal) if item.signal else f"exit status {item.exit_code}"
    return _REASONS.get(AttemptState(item.state), "")


def _signal(number: int) -> str:
    """Signals have the same numbers on all agents: they run on Linux."""
    try:
        return f"{Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def _state(rows: RunTaskRows) -> RunState:
    return RunState(rows.run.state)


def _own(version: DagVersion, rows: RunTaskRows) -> dict[int, TaskState]:
    """The states that follow from rows; live attempts and waits win over what ended before."""
    own = {
        each.task: own_state(version, each.task, each.number, AttemptState(each.state))
        for each in rows.ended
    }
    own.update((wait.task, waiting_state(wait.kind)) for wait in rows.waits)
    for each in rows.live:
        running = each.state == AttemptState.RUNNING
        own[each.task] = TaskState.RUNNING if running else TaskState.ASSIGNED
    return own


def _task_view(
    task: str, label: str, state: int, last: AttemptItem | None, wait: WaitRecord | None
) -> TaskView:
    if last is None:
        return TaskView(task, label, state, _unstarted_reason(state))
    due_us = wait.due_us if wait is not None and state == TaskState.BACKOFF else None
    return TaskView(
        task,
        label,
        state,
        _reason(state, last, wait),
        last.number,
        last.agent,
        last.started_us,
        last.finished_us,
        last.exit_code,
        due_us,
    )


def _reason(state: int, last: AttemptItem, wait: WaitRecord | None) -> str:
    """Why a task instance that has had an attempt is in this state."""
    if state == TaskState.SUCCEEDED:
        return ADOPTED if last.late is not None and last.late.adopted else ""
    if wait is None:
        return reason_of(last)
    if state == TaskState.BACKOFF:
        return for_next_attempt(reason_of(last), last.number, wait.due_us)
    if state == TaskState.AWAITING_APPROVAL:
        return wait.reason
    rejected = wait.kind == WaitKind.MARK and state == TaskState.FAILED
    return f"an approval was refused: {wait.reason}" if rejected else reason_of(last)


def _unstarted_reason(state: int) -> str:
    if state == TaskState.UPSTREAM_FAILED:
        return "a task that it depends on did not succeed"
    return "the run was stopped before it could start" if state == TaskState.CANCELLED else ""


def _pending(found: PendingRun, name: RunName) -> RunView:
    trigger = parse_command(found.body).trigger_run
    if found.outcome == CommandOutcome.QUARANTINED:
        message = f"the run was never made: its command was set aside: {found.detail}"
        raise NotFound("QUARANTINED", message)
    if found.outcome is not None:
        raise NotFound("REFUSED", found.detail or f"there is no run {uuid_text(name.run_id)}")
    return pending_run(trigger.dag, trigger.run_id, trigger.logical_time_us, found.shard)


def no_task(run: RunItem, task: str) -> NotFound:
    """The refusal of a task that the version of a run does not have."""
    message = f"the run has no task {shown(task)}"
    return NotFound("TASK", message, metadata={"run": uuid_text(run.run_id)})


def _no_run(name: RunName) -> NotFound:
    run = uuid_text(name.run_id)
    return NotFound("RUN", f"there is no run {run}", metadata={"run": run})
