"""Decides the state of every task instance of a run from what is stored of it.

Only what happened has a row: attempts, results, waits. The rest follows by rule from the DAG
version, and this function is the only place of that rule: the leader uses it at recovery, the
query service for every read. A run pins the version of the rule (`SEMANTICS_VERSION`).
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.core.run.run import BLOCKING
from controlplane.core.states import FINAL_TASK, AttemptState, RunState, TaskState
from controlplane.core.types import DagVersion, TriggerRule

SEMANTICS_VERSION = 1

_STOPPED = frozenset(
    {RunState.CANCELLING, RunState.CANCELLED, RunState.TIMING_OUT, RunState.FAILED}
)


def own_state(version: DagVersion, task: int, number: int, ended: AttemptState) -> TaskState:
    """The state that the last ended attempt leaves a task instance in, when nothing waits.

    `number` is the attempt's number. A failed attempt that has retries left, and one that was
    refused, leave the task ready: in a run that is being stopped that means cancelled.
    """
    if ended is AttemptState.SUCCEEDED:
        return TaskState.SUCCEEDED
    if ended is AttemptState.CANCELLED:
        return TaskState.CANCELLED
    refused = ended is AttemptState.REJECTED
    left = number < version.tasks[task].retry.max_attempts
    return TaskState.READY if refused or left else TaskState.FAILED


def derive(version: DagVersion, own: Mapping[int, TaskState], run_state: RunState) -> bytearray:
    """The state of every task, by number, as bytes of TaskState.

    `own` holds the states that follow from rows: of tasks with a live attempt, a wait or a final
    result. A run that is being stopped starts nothing: what has not ended there is cancelled,
    except what still holds an attempt.
    """
    states = bytearray(len(version.tasks))
    for task in version.edges.order:
        mine = own.get(task)
        states[task] = mine if mine is not None else TaskState.READY
    _follow_parents(version, own, states)
    if run_state in _STOPPED:
        _stop(states)
    elif run_state is RunState.QUEUED:
        _hold(states)
    return states


def _follow_parents(version: DagVersion, own: Mapping[int, TaskState], states: bytearray) -> None:
    edges, tasks = version.edges, version.tasks
    waiting = bytearray(len(tasks))
    for task in edges.order:
        if task not in own and waiting[task] and states[task] == TaskState.READY:
            states[task] = TaskState.WAITING
        state = states[task]
        final = FINAL_TASK[state]
        for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
            if child in own:
                continue
            if not final:
                waiting[child] = 1
            elif state in BLOCKING and tasks[child].rule is TriggerRule.ALL_SUCCESS:
                states[child] = TaskState.UPSTREAM_FAILED


def _stop(states: bytearray) -> None:
    for task, state in enumerate(states):
        if not FINAL_TASK[state] and not TaskState(state).holds_capacity:
            states[task] = TaskState.CANCELLED


def _hold(states: bytearray) -> None:
    for task, state in enumerate(states):
        if state == TaskState.READY:
            states[task] = TaskState.WAITING
