"""Decides when a task instance is tried again after a failed attempt.

The row of a backoff stays until the next attempt is assigned, so that a leader that takes over
knows the number. Does not know why an attempt failed.
"""

from __future__ import annotations

from controlplane.core.effects import WaitKind, WaitRow
from controlplane.core.run.run import Run
from controlplane.core.shard.book import BackoffDue, Book
from controlplane.core.shard.runs import Runs
from controlplane.core.states import TaskEvent
from controlplane.core.time.deadlines import to_monotonic
from controlplane.core.time.retry import backoff_ms


class Backoffs:
    """The backoffs of one shard."""

    def __init__(self, book: Book, runs: Runs) -> None:
        self._book = book
        self._runs = runs

    def begin(self, run: Run, task: int, ended: int, reason: str) -> None:
        """A wait after attempt number `ended`. A run that is being stopped needs no row for it."""
        run.move(task, TaskEvent.RETRY)
        run.numbers[task] = ended + 1
        if not run.state.starts_tasks:
            return
        due_us = self._book.now.wall_us + self._pause_ms(run, task) * 1_000
        self.arm(run, task, due_us)
        row = WaitRow(*run.key, task, 0, WaitKind.BACKOFF, due_us, ended + 1, reason)
        self._book.add_wait(row)

    def arm(self, run: Run, task: int, due_us: int) -> None:
        """Arms the timer of a backoff.

        It never waits for longer than the whole pause: a wall clock that was ahead when the backoff
        began, this one's or a former leader's, would have it wait for hours.
        """
        now = self._book.now
        deadline = min(to_monotonic(due_us, now), now.mono_ms + self._pause_ms(run, task))
        timer = self._book.wheel.insert(deadline, BackoffDue(run.key.run, task))
        run.waits[task] = timer, due_us

    def _pause_ms(self, run: Run, task: int) -> int:
        """The pause before the next attempt, whose number is known already."""
        policy = run.version.tasks[task].retry
        return backoff_ms(policy, run.numbers[task] - 1, run.run_id + task.to_bytes(4, "big"))

    def arm_again(self) -> None:
        """Sets the timers of all backoffs that are not over by the clock as it is now."""
        for run in self._book.runs.values():
            for task, (timer, due_us) in list(run.waits.items()):
                if self._book.wheel.cancel(timer):
                    self.arm(run, task, due_us)

    def due(self, number: int, task: int) -> None:
        """A backoff is over: its row stays until the next attempt is assigned."""
        run = self._book.runs_by_number.get(number)
        # A run that reached its timeout at the same moment waits for nothing any more.
        if run is not None and task in run.waits:
            run.move(task, TaskEvent.DUE)
            self._runs.release(run, [task])
