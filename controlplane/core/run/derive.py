"""Decides the state of every task instance of a run from what is stored of it.

Only what happened has a row: attempts, results, waits. The rest follows by rule from the DAG
version, and this function is the only place of that rule: the leader uses it at recovery, the
query service for every read. A run pins the version of the rule (`SEMANTICS_VERSION`).
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.core.effects import WaitKind
from controlplane.core.run.run import BLOCKING
from controlplane.core.states import FINAL_TASK, HOLDING_TASK, AttemptState, RunState, TaskState
from controlplane.core.types import DagVersion, TriggerRule

SEMANTICS_VERSION = 1

# Looked up once: a member of an enum costs more than the rest of a loop over all tasks.
_READY, _WAITING, _CANCELLED = TaskState.READY, TaskState.WAITING, TaskState.CANCELLED
_UPSTREAM_FAILED = TaskState.UPSTREAM_FAILED
_ALL_SUCCESS = TriggerRule.ALL_SUCCESS
# Ends that say nothing about the task.
_UNSAID = (AttemptState.REJECTED, AttemptState.LOST, AttemptState.UNKNOWN)

# What a row of task_wait says of its task, before anything that has ended does.
_WAITS = {
    WaitKind.BACKOFF: TaskState.BACKOFF,
    WaitKind.APPROVAL: TaskState.AWAITING_APPROVAL,
    WaitKind.MARK: TaskState.FAILED,
}

_STOPPED = frozenset(
    {RunState.CANCELLING, RunState.CANCELLED, RunState.TIMING_OUT, RunState.FAILED}
)


def own_state(version: DagVersion, task: int, number: int, ended: AttemptState) -> TaskState:
    """The state that the last ended attempt leaves a task instance in, when nothing waits.

    `number` is the attempt's number; `ended` is SUCCEEDED where a late success was adopted. A
    failed attempt that has retries left, and one that was refused, lost with its agent or ended
    nobody knows how, leave the task ready: in a run that is being stopped that means cancelled.
    """
    if ended is AttemptState.SUCCEEDED:
        return TaskState.SUCCEEDED
    if ended is AttemptState.CANCELLED:
        return TaskState.CANCELLED
    if ended in _UNSAID:
        return TaskState.READY
    left = number < version.tasks[task].retry.max_attempts
    return TaskState.READY if left else TaskState.FAILED


def waiting_state(kind: int) -> TaskState:
    """The state of a task instance that has a row of this WaitKind."""
    return _WAITS[WaitKind(kind)]


def derive(version: DagVersion, own: Mapping[int, TaskState], run_state: RunState) -> bytearray:
    """The state of every task, by number, as bytes of TaskState.

    `own` holds the states that follow from rows: of tasks with a live attempt, else a wait
    (`waiting_state`), else an ended attempt (`own_state`). A run that is being stopped starts
    nothing: what has not ended there is cancelled, except what still holds an attempt.
    """
    states = bytearray([_READY]) * len(version.tasks)
    for task, mine in own.items():
        states[task] = mine
    _follow_parents(version, own, states)
    if run_state in _STOPPED:
        _stop(states)
    elif run_state is RunState.QUEUED:
        _hold(states)
    return states


def _follow_parents(version: DagVersion, own: Mapping[int, TaskState], states: bytearray) -> None:
    edges, tasks = version.edges, version.tasks
    starts, children = edges.starts, edges.children
    waiting = bytearray(len(tasks))
    for task in edges.order:
        if waiting[task] and states[task] == _READY and task not in own:
            states[task] = _WAITING
        state = states[task]
        final, blocks = FINAL_TASK[state], state in BLOCKING
        for child in children[starts[task] : starts[task + 1]]:
            if not final:
                waiting[child] = 1
            elif blocks and tasks[child].rule is _ALL_SUCCESS and child not in own:
                states[child] = _UPSTREAM_FAILED


def _stop(states: bytearray) -> None:
    for task, state in enumerate(states):
        if not FINAL_TASK[state] and not HOLDING_TASK[state]:
            states[task] = _CANCELLED


def _hold(states: bytearray) -> None:
    for task, state in enumerate(states):
        if state == _READY:
            states[task] = _WAITING
