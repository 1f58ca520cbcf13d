"""Decides when runs begin, how they are stopped and when they are final.

A run begins RUNNING, or QUEUED when its DAG has reached `max_active_runs`. Stopping (by a person or
by the run's timeout) starts nothing new, asks agents to stop what runs, and is over when no attempt
is live. Does not know where attempts run.
"""

from __future__ import annotations

from controlplane.core.effects import CancelMessage, WaitKind
from controlplane.core.run.run import Run
from controlplane.core.shard.book import Book, DagHead, RunDeadline
from controlplane.core.states import STARTING_RUN, RunEvent, RunState, TaskState
from controlplane.core.time.deadlines import to_monotonic
from controlplane.core.types import DagVersion, RunCause, RunKey, day_of, uuid7_instant_us

MICROS_PER_MS = 1_000


class Runs:
    """The life of runs from creation to the end."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def create(
        self,
        head: DagHead,
        version: DagVersion,
        run_id: bytes,
        *,
        cause: RunCause,
        schedule: str,
        logical_us: int,
    ) -> Run:
        """Makes a run of a version. Its day is that of the instant inside its id."""
        book = self._book
        run = Run(
            RunKey(day_of(uuid7_instant_us(run_id)), book.run_keys.popleft()),
            run_id,
            version,
            state=RunState.QUEUED,
            cause=cause,
            schedule=schedule,
            logical_us=logical_us,
            created_us=book.now.wall_us,
        )
        book.add_run(run)
        if version.max_active_runs and head.active >= version.max_active_runs:
            head.queued.append(run)
        else:
            self._admit(head, run)
        return run

    def cancel(self, run: Run, reason: str) -> None:
        """Starts a cancellation; one that is being stopped already asks its agents again."""
        if run.state is RunState.QUEUED:
            self._book.dags[run.version.key].queued.remove(run)
            run.reason = reason
            run.change(RunEvent.CANCEL)
            self._finish(run)
        elif run.state is RunState.RUNNING:
            run.reason = reason
            self._stop(run, RunEvent.CANCEL)
        else:
            self._ask_agents(run)

    def time_out(self, number: int) -> None:
        """The longest time of a run is over."""
        run = self._book.runs_by_number.get(number)
        if run is not None and run.state is RunState.RUNNING:
            run.timer = None
            limit_s = run.version.run_timeout_ms / 1_000
            run.reason = f"the run took longer than its timeout of {limit_s:g} s"
            self._stop(run, RunEvent.TIME_OUT)

    def release(self, run: Run, tasks: list[int]) -> None:
        """Tasks are ready: they look for a place, unless their run is being stopped."""
        if tasks and run.state in STARTING_RUN:
            now_us, push = self._book.now.wall_us, self._book.queue.push
            for task in tasks:
                push(run, task, now_us)

    def advance(self, run: Run) -> None:
        """Ends an admitted run that has nothing left to do: called when an attempt has ended."""
        if run.state in STARTING_RUN:
            if run.open_tasks == 0:
                run.change(RunEvent.FAIL if run.failed else RunEvent.SUCCEED)
                self._leave(run)
        elif not run.live:
            run.cancel_open()
            run.change(RunEvent.DRAIN)
            self._leave(run)

    def watch_deadline(self, run: Run) -> None:
        """Arms the timer of a running run's timeout: the whole limit from now on, at most.

        By a wall clock that was ahead when the run started it would not be over for hours.
        """
        limit_ms = run.version.run_timeout_ms
        if limit_ms and run.started_us is not None:
            now = self._book.now
            due_us = run.started_us + limit_ms * MICROS_PER_MS
            deadline = min(to_monotonic(due_us, now), now.mono_ms + limit_ms)
            run.timer = self._book.wheel.insert(deadline, RunDeadline(run.key.run))

    def arm_again(self) -> None:
        """Sets the timers of all timeouts that are to come by the clock as it is now."""
        for run in self._book.runs.values():
            if run.timer is not None and self._book.wheel.cancel(run.timer):
                self.watch_deadline(run)

    def _admit(self, head: DagHead, run: Run) -> None:
        book = self._book
        head.active += 1
        run.change(RunEvent.ADMIT)
        run.started_us = book.now.wall_us
        for task in run.roots():
            book.queue.push(run, task, book.now.wall_us)
        self.watch_deadline(run)

    def _stop(self, run: Run, event: RunEvent) -> None:
        book = self._book
        run.change(event)
        for task, (timer, _) in run.waits.items():
            book.wheel.cancel(timer)
            book.drop_wait(run, task, WaitKind.BACKOFF)
        run.waits.clear()
        for task in run.tasks_in(TaskState.AWAITING_APPROVAL):
            book.drop_wait(run, task, WaitKind.APPROVAL)
        self._ask_agents(run)
        book.touch_run(run)
        self.advance(run)

    def _ask_agents(self, run: Run) -> None:
        """Asks for the end of what runs. Another incarnation of an agent could only say that it
        knows nothing of the attempt, which proves nothing.
        """
        messages, room = self._book.effects.messages, self._book.fleet.room
        for attempt in run.live.values():
            if room(attempt.agent).incarnation == attempt.incarnation:
                messages.append(CancelMessage(attempt.agent, attempt.attempt_id))

    def _leave(self, run: Run) -> None:
        """A run that was admitted is final: the next of its DAG may begin."""
        book = self._book
        if run.timer is not None:
            book.wheel.cancel(run.timer)
        self._finish(run)
        head = book.dags[run.version.key]
        head.active -= 1
        self.admit_queued(head)

    def admit_queued(self, head: DagHead) -> None:
        """Lets queued runs begin, as many as the DAG's present limit leaves place for."""
        while head.queued:
            limit = (head.version or head.queued[0].version).max_active_runs
            if limit and head.active >= limit:
                return
            run = head.queued.popleft()
            self._admit(head, run)
            self._book.touch_run(run)

    def _finish(self, run: Run) -> None:
        if run.open_tasks:
            run.cancel_open()
        self._book.touch_run(run)
        self._book.forget(run)
