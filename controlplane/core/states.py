"""Decides every state that a run, a task instance and an attempt can have, and every change.

Rules:
1. A change that is not in a table is our bug: it raises, the shard stops, another takes over.
2. Final is final: no table has a row that leaves a final state.
3. Flags (final, live, successful) live on the states; there is no second list of them anywhere.
4. The SQL checks, the diagram in the documentation and the tests come from these tables.

Values are stored and sent: they are never renumbered. Does not know why a change happens.
"""

from __future__ import annotations

from enum import IntEnum


class RunState(IntEnum):
    """State of a run. Values as in the public contract (1 is PENDING: no row yet)."""

    QUEUED = 2
    RUNNING = 3
    CANCELLING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    TIMING_OUT = 8

    @property
    def final(self) -> bool:
        """Whether nothing can change any more."""
        return self in _FINAL_RUN_STATES

    @property
    def starts_tasks(self) -> bool:
        """Whether tasks of the run may be assigned."""
        return self is RunState.RUNNING


class RunEvent(IntEnum):
    """What can happen to a run."""

    ADMIT = 1
    SUCCEED = 2
    FAIL = 3
    CANCEL = 4
    TIME_OUT = 5
    DRAIN = 6


class TaskState(IntEnum):
    """State of a task instance. Values as in the public contract."""

    WAITING = 1
    READY = 2
    ASSIGNED = 3
    RUNNING = 4
    BACKOFF = 5
    SUCCEEDED = 6
    FAILED = 7
    UPSTREAM_FAILED = 8
    CANCELLED = 9
    AWAITING_APPROVAL = 10

    @property
    def final(self) -> bool:
        """Whether nothing can change any more."""
        return self in _FINAL_TASK_STATES

    @property
    def holds_capacity(self) -> bool:
        """Whether an attempt occupies an agent."""
        return self in (TaskState.ASSIGNED, TaskState.RUNNING)


class TaskEvent(IntEnum):
    """What can happen to a task instance."""

    RELEASE = 1
    BLOCK = 2
    ASSIGN = 3
    START = 4
    SUCCEED = 5
    FAIL = 6
    RETRY = 7
    RETURN = 8
    DUE = 9
    CANCEL = 10
    DOUBT = 11
    APPROVE = 12


class AttemptState(IntEnum):
    """State of an attempt. Values as in the public contract."""

    ASSIGNED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    TIMED_OUT = 5
    CANCELLED = 6
    REJECTED = 7
    LOST = 8
    UNKNOWN = 9

    @property
    def final(self) -> bool:
        """Whether the attempt is over."""
        return self > AttemptState.RUNNING


class TransitionError(AssertionError):
    """A change that no table has."""


RUN_TRANSITIONS: dict[tuple[RunState, RunEvent], RunState] = {
    (RunState.QUEUED, RunEvent.ADMIT): RunState.RUNNING,
    (RunState.QUEUED, RunEvent.CANCEL): RunState.CANCELLED,
    (RunState.RUNNING, RunEvent.SUCCEED): RunState.SUCCEEDED,
    (RunState.RUNNING, RunEvent.FAIL): RunState.FAILED,
    (RunState.RUNNING, RunEvent.CANCEL): RunState.CANCELLING,
    (RunState.RUNNING, RunEvent.TIME_OUT): RunState.TIMING_OUT,
    (RunState.CANCELLING, RunEvent.DRAIN): RunState.CANCELLED,
    (RunState.TIMING_OUT, RunEvent.DRAIN): RunState.FAILED,
}

TASK_TRANSITIONS: dict[tuple[TaskState, TaskEvent], TaskState] = {
    (TaskState.WAITING, TaskEvent.RELEASE): TaskState.READY,
    (TaskState.WAITING, TaskEvent.BLOCK): TaskState.UPSTREAM_FAILED,
    (TaskState.WAITING, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.READY, TaskEvent.ASSIGN): TaskState.ASSIGNED,
    (TaskState.READY, TaskEvent.CANCEL): TaskState.CANCELLED,
    # The store went back in time, and it may have been done before.
    (TaskState.READY, TaskEvent.DOUBT): TaskState.AWAITING_APPROVAL,
    # A late success of an attempt that was given up, before another was assigned.
    (TaskState.READY, TaskEvent.SUCCEED): TaskState.SUCCEEDED,
    (TaskState.ASSIGNED, TaskEvent.START): TaskState.RUNNING,
    (TaskState.ASSIGNED, TaskEvent.SUCCEED): TaskState.SUCCEEDED,
    (TaskState.ASSIGNED, TaskEvent.FAIL): TaskState.FAILED,
    (TaskState.ASSIGNED, TaskEvent.RETRY): TaskState.BACKOFF,
    (TaskState.ASSIGNED, TaskEvent.RETURN): TaskState.READY,
    (TaskState.ASSIGNED, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.ASSIGNED, TaskEvent.DOUBT): TaskState.AWAITING_APPROVAL,
    (TaskState.RUNNING, TaskEvent.SUCCEED): TaskState.SUCCEEDED,
    (TaskState.RUNNING, TaskEvent.FAIL): TaskState.FAILED,
    (TaskState.RUNNING, TaskEvent.RETRY): TaskState.BACKOFF,
    (TaskState.RUNNING, TaskEvent.RETURN): TaskState.READY,
    (TaskState.RUNNING, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.RUNNING, TaskEvent.DOUBT): TaskState.AWAITING_APPROVAL,
    (TaskState.BACKOFF, TaskEvent.DUE): TaskState.READY,
    (TaskState.BACKOFF, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.AWAITING_APPROVAL, TaskEvent.APPROVE): TaskState.READY,
    (TaskState.AWAITING_APPROVAL, TaskEvent.SUCCEED): TaskState.SUCCEEDED,
    (TaskState.AWAITING_APPROVAL, TaskEvent.FAIL): TaskState.FAILED,
    (TaskState.AWAITING_APPROVAL, TaskEvent.CANCEL): TaskState.CANCELLED,
}

_FINAL_RUN_STATES = frozenset(RunState) - {state for state, _ in RUN_TRANSITIONS}
_FINAL_TASK_STATES = frozenset(TaskState) - {state for state, _ in TASK_TRANSITIONS}

# The flags once more, for loops over all tasks of a run and for what every task passes through.
FINAL_TASK = bytes([0, *(state.final for state in TaskState)])
HOLDING_TASK = bytes([0, *(state.holds_capacity for state in TaskState)])
STARTING_RUN = tuple(state for state in RunState if state.starts_tasks)

_WIDTH = 16
_TASK_TABLE = bytearray(_WIDTH * _WIDTH)
for (_state, _event), _after in TASK_TRANSITIONS.items():
    _TASK_TABLE[_state * _WIDTH + _event] = _after


def next_run_state(state: RunState, event: RunEvent) -> RunState:
    """The state of a run after an event. Raises TransitionError for a change no table has."""
    after = RUN_TRANSITIONS.get((state, event))
    if after is None:
        raise TransitionError(f"run: {event.name} in {state.name}")
    return after


def next_task_state(state: int, event: TaskEvent) -> int:
    """The state of a task instance after an event, as the numbers of TaskState.

    Raises TransitionError likewise. Called several times a task, hence the flat table.
    """
    after = _TASK_TABLE[state * _WIDTH + event]
    if not after:
        raise TransitionError(f"task instance: {event.name} in {TaskState(state).name}")
    return after
