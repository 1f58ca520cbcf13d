"""Decides what becomes of a task instance of which nobody knows whether it was done.

Where a second attempt could do harm (`idempotent: false`), a person decides: another attempt under
the same number, or the task instance has failed, and who reads it later is told why. Does not know
who the person is.
"""

from __future__ import annotations

from controlplane.core.effects import WaitKind, WaitRow
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.book import Book
from controlplane.core.shard.runs import Runs
from controlplane.core.states import TaskEvent


class Approvals:
    """The approvals of one shard."""

    def __init__(self, book: Book, runs: Runs) -> None:
        self._book = book
        self._runs = runs

    def ask(self, attempt: LiveAttempt, reason: str) -> None:
        """The outcome of an attempt is unknown: its task waits."""
        run, task, number = attempt.run, attempt.task, attempt.number
        run.numbers[task] = number
        run.move(task, TaskEvent.DOUBT)
        text = f"the outcome of attempt {number} is unknown: {reason}"
        self._book.add_wait(self._row(run, task, WaitKind.APPROVAL, text))

    def ask_first(self, run: Run, task: int, reason: str) -> None:
        """A ready task may have been done already: it waits before it is assigned."""
        if (wait := run.waits.pop(task, None)) is not None:
            self._book.wheel.cancel(wait[0])
            self._book.drop_wait(run, task, WaitKind.BACKOFF)
        run.numbers[task] = run.next_number(task)
        run.move(task, TaskEvent.DOUBT)
        self._book.add_wait(self._row(run, task, WaitKind.APPROVAL, reason))

    def approve(self, run: Run, task: int) -> None:
        """Another attempt is right."""
        run.move(task, TaskEvent.APPROVE)
        self._book.clear(run, task)
        self._book.drop_wait(run, task, WaitKind.APPROVAL)
        self._runs.release(run, [task])

    def reject(self, run: Run, task: int, reason: str) -> None:
        """No other attempt: the task has failed, and the reason stays."""
        self._book.drop_wait(run, task, WaitKind.APPROVAL)
        self._book.add_wait(self._row(run, task, WaitKind.MARK, reason))
        self._runs.release(run, run.end(task, TaskEvent.FAIL))
        self._runs.advance(run)

    def _row(self, run: Run, task: int, kind: WaitKind, reason: str) -> WaitRow:
        now_us = self._book.now.wall_us
        return WaitRow(*run.key, task, 0, kind, now_us, run.numbers[task], reason)
