"""Shows the progress of a run on standard error: a live bar on a terminal, else plain lines.

Decides: plain lines come at most once a second, but a task instance that failed or waits for an
approval and a new state of the run at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from mainspring.cli import run_table, text
from mainspring.cli.output import say
from mainspring.client.names import last_segment
from mainspring.client.states import FINAL_RUN_STATES, FINAL_TASK_STATES
from mainspring.v1 import run_pb2

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_S = 1.0


class Shown(Protocol):
    """Something that takes the steps of a watch."""

    def update(self, step: run_pb2.WatchRunResponse) -> None:
        """Shows one step."""


class Troubles:
    """The sentences about task instances that failed or wait for an approval, each once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int, int]] = set()

    def news(self, step: run_pb2.WatchRunResponse) -> list[str]:
        """What the step says that was not told before."""
        sentences = []
        for task in step.task_instances:
            place = (task.name, task.state, task.attempt_number)
            if task.state in _SENTENCES and place not in self._told:
                self._told.add(place)
                sentences.append(_SENTENCES[task.state](task))
        return sentences


class LineProgress:
    """Plain lines."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self._troubles = Troubles()
        self._state = run_pb2.RUN_STATE_UNSPECIFIED
        self._line = ""
        self._next_s = 0.0

    def update(self, step: run_pb2.WatchRunResponse) -> None:
        """Prints what is new."""
        for sentence in self._troubles.news(step):
            self._say(sentence)
        line = f"{run_table.run_word(step.run)}: {run_table.counts(step.run)}"
        now_s = self._clock()
        urgent = step.run.state != self._state
        if line != self._line and (urgent or now_s >= self._next_s):
            self._say(line)
            self._line, self._next_s = line, now_s + _LINE_EVERY_S
            self._state = step.run.state

    def _say(self, sentence: str) -> None:
        say(f"{text.clock(self._wall_clock())} {sentence}")


class LiveProgress:
    """A bar that moves, with the counts by state."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._troubles = Troubles()
        self._task = bar.add_task("pending", total=None, counts="")

    def update(self, step: run_pb2.WatchRunResponse) -> None:
        """Moves the bar."""
        for sentence in self._troubles.news(step):
            self._bar.console.print(sentence, style="red", markup=False, highlight=False)
        run = step.run
        done = sum(each.count for each in run.task_counts if each.state in FINAL_TASK_STATES)
        self._bar.update(
            self._task,
            description=run_table.run_word(run),
            completed=done,
            total=sum(each.count for each in run.task_counts) or None,
            counts=run_table.counts(run),
            refresh=run.state in FINAL_RUN_STATES,
        )


@contextmanager
def progress() -> Iterator[Shown]:
    """Progress in the form that suits standard error."""
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
        TextColumn("{task.fields[counts]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        yield LiveProgress(bar)


def _failure(task: run_pb2.TaskInstance) -> str:
    status = f"exit status {task.exit_code}" if task.HasField("exit_code") else "no exit status"
    reason = text.one_line(task.reason) or status
    return f"task {text.one_line(last_segment(task.name))} failed: {reason}"


def _question(task: run_pb2.TaskInstance) -> str:
    asked = f"task {text.one_line(last_segment(task.name))} waits for an approval"
    step = "`mainspring approval list` shows how to decide"
    return f"{asked}: {text.one_line(task.reason)} ({step})"


_SENTENCES = {
    run_pb2.TASK_STATE_FAILED: _failure,
    run_pb2.TASK_STATE_AWAITING_APPROVAL: _question,
}
