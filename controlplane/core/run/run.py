"""Decides how a run advances: which tasks become ready or impossible when one is final.

A completion costs O(children): one counter per child, never a scan. Promises that every task
instance moves only along the state tables. Does not know agents, clocks or the store.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from controlplane.core.states import (
    FINAL_TASK,
    RunEvent,
    RunState,
    TaskEvent,
    TaskState,
    next_run_state,
    next_task_state,
)
from controlplane.core.types import DagVersion, RunCause, RunKey, TriggerRule

# A cancelled parent blocks nobody: it exists only in a run that is being stopped, and what has not
# started there is cancelled as well.
BLOCKING = (TaskState.FAILED, TaskState.UPSTREAM_FAILED)

# Looked up once: members of an enum cost more than the rest of a step from parent to child.
_WAITING, _SUCCEEDED = TaskState.WAITING, TaskState.SUCCEEDED
_RELEASE, _BLOCK = TaskEvent.RELEASE, TaskEvent.BLOCK
_ALL_SUCCESS = TriggerRule.ALL_SUCCESS


class LiveAttempt:
    """One live attempt. `started_us` 0: not known to run. `restored`: assigned before the store
    went back in time.

    Its lease is watched while it is in its `lane`; `sent_ms` is on the monotonic clock.
    """

    __slots__ = (
        "agent",
        "assigned_us",
        "attempt_id",
        "incarnation",
        "lane",
        "number",
        "restored",
        "run",
        "sent_ms",
        "started_us",
        "task",
    )

    sent_ms: int
    lane: dict[bytes, LiveAttempt]

    def __init__(
        self,
        run: Run,
        task: int,
        number: int,
        attempt_id: bytes,
        agent: str,
        incarnation: bytes,
        assigned_us: int,
    ) -> None:
        self.run = run
        self.task = task
        self.number = number
        self.attempt_id = attempt_id
        self.agent = agent
        self.incarnation = incarnation
        self.assigned_us = assigned_us
        self.started_us = 0
        self.restored = False


class Run:
    """One run in the memory of its leader."""

    __slots__ = (
        "cause",
        "created_us",
        "failed",
        "given_up",
        "key",
        "live",
        "logical_us",
        "lost",
        "numbers",
        "open_tasks",
        "pending",
        "reason",
        "run_id",
        "schedule",
        "started_us",
        "state",
        "tasks",
        "timer",
        "version",
        "waits",
    )

    def __init__(
        self,
        key: RunKey,
        run_id: bytes,
        version: DagVersion,
        *,
        state: RunState,
        cause: RunCause,
        schedule: str,
        logical_us: int,
        created_us: int,
    ) -> None:
        self.key = key
        self.run_id = run_id
        self.version = version
        self.state = state
        self.reason = ""
        self.cause = cause
        self.schedule = schedule
        self.logical_us = logical_us
        self.created_us = created_us
        self.started_us: int | None = None
        self.timer: int | None = None
        self.tasks = bytearray([TaskState.WAITING]) * len(version.tasks)
        self.pending: array[int] = array("i", version.edges.parent_counts)
        self.open_tasks = len(version.tasks)
        self.failed = 0
        self.live: dict[int, LiveAttempt] = {}
        # Backoffs: task → timer, and when it is due. A task never retried is not in `numbers`.
        self.waits: dict[int, tuple[int, int]] = {}
        self.numbers: dict[int, int] = {}
        # Attempts that were given up: the newest of a task, while no other was assigned; and all
        # whose results are still remembered.
        self.lost: dict[int, bytes] = {}
        self.given_up: set[bytes] = set()

    def change(self, event: RunEvent) -> None:
        """Moves the run itself along its table."""
        self.state = next_run_state(self.state, event)

    def next_number(self, task: int) -> int:
        """The number of the next attempt of a task."""
        return self.numbers.get(task, 1)

    def roots(self) -> list[int]:
        """Makes the tasks without parents ready and returns them."""
        ready = [task for task, parents in enumerate(self.pending) if parents == 0]
        for task in ready:
            self.move(task, TaskEvent.RELEASE)
        return ready

    def move(self, task: int, event: TaskEvent) -> None:
        """Moves a task instance along its table, without regard to its children."""
        self.tasks[task] = next_task_state(self.tasks[task], event)

    def end(self, task: int, event: TaskEvent) -> list[int]:
        """Makes a task final and returns the tasks that became ready by it."""
        self.move(task, event)
        ready: list[int] = []
        final = [task]
        while final:
            self._release_children(final.pop(), ready, final)
        return ready

    def _release_children(self, task: int, ready: list[int], final: list[int]) -> None:
        edges, states, pending = self.version.edges, self.tasks, self.pending
        state = states[task]
        blocks = state in BLOCKING
        self.open_tasks -= 1
        self.failed += state != _SUCCEEDED
        for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
            pending[child] -= 1
            if states[child] != _WAITING:
                continue
            if blocks and self.version.tasks[child].rule is _ALL_SUCCESS:
                self.move(child, _BLOCK)
                final.append(child)
            elif pending[child] == 0:
                self.move(child, _RELEASE)
                ready.append(child)

    def cancel_open(self) -> None:
        """Cancels every task that is not final, when a run that is being stopped has drained."""
        for task, state in enumerate(self.tasks):
            if not FINAL_TASK[state]:
                self.move(task, TaskEvent.CANCEL)
        self.open_tasks = 0

    def restore(self, states: bytearray) -> None:
        """Takes the derived states of all tasks over, at recovery."""
        self.tasks[:] = states
        edges = self.version.edges
        for task, state in enumerate(states):
            if not FINAL_TASK[state]:
                continue
            self.open_tasks -= 1
            self.failed += state != _SUCCEEDED
            for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
                self.pending[child] -= 1

    def tasks_in(self, wanted: TaskState) -> Iterator[int]:
        """All tasks in a state, by a scan: for what is rare."""
        task = self.tasks.find(wanted)
        while task >= 0:
            yield task
            task = self.tasks.find(wanted, task + 1)
