"""Decides what the end of an attempt means for its task.

An attempt ends by exactly one event: a result, a refusal, or that it was given up. Rejected and
lost attempts are final and say nothing about their task: it is ready again under the same number
and will get another id, unless it may have begun and must not be done twice: then a person decides.
A result of an attempt that was given up is recorded beside it. It decides the task only if it is a
success, nothing newer was tried, and the task is still open. Any result is acknowledged, but those
of attempts that were set aside.
"""

from __future__ import annotations

from controlplane.core.effects import DoneRow, LateRow, ResultAckMessage, StrayNote, WaitKind
from controlplane.core.events import Finished, Rejected
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.admission import Admission
from controlplane.core.shard.approvals import Approvals
from controlplane.core.shard.backoffs import Backoffs
from controlplane.core.shard.book import Book, ResultDue
from controlplane.core.shard.leases import Leases
from controlplane.core.shard.restored import FORGOTTEN, Aftermath
from controlplane.core.shard.runs import Runs
from controlplane.core.states import (
    FINAL_TASK,
    STARTING_RUN,
    AttemptState,
    TaskEvent,
    TaskState,
)

UNASKED = "the agent stopped the attempt without being asked"
SILENT = "its agent said nothing of it for longer than the attempt lease"

# Looked up once: members of an enum cost more than the rest of a comparison.
_SUCCEED = TaskEvent.SUCCEED
_SUCCEEDED, _CANCELLED = AttemptState.SUCCEEDED, AttemptState.CANCELLED
_LOST, _UNKNOWN = AttemptState.LOST, AttemptState.UNKNOWN


class Outcomes:
    """The ends of the attempts of one shard."""

    def __init__(
        self,
        book: Book,
        runs: Runs,
        admission: Admission,
        leases: Leases,
        backoffs: Backoffs,
        approvals: Approvals,
        aftermath: Aftermath,
    ) -> None:
        self._book = book
        self._runs = runs
        self._admission = admission
        self._leases = leases
        self._backoffs = backoffs
        self._approvals = approvals
        self._aftermath = aftermath

    def finished(self, event: Finished) -> None:
        """A result arrived. After a restore, one of which nothing is known says too little before
        the inventory of its agent: that says it again, and what it is of.
        """
        book, attempt_id = self._book, event.attempt_id
        known = attempt_id in book.attempts or book.late.knows(attempt_id)
        if known or not self._aftermath.holding or self._admission.has_told(event.agent):
            self.told(event)

    def told(self, event: Finished) -> None:
        """A result counts; it is acknowledged once what it says is durable. One of an attempt that
        was set aside is not: its agent keeps it for a leader that can read what it is of.
        """
        book = self._book
        if event.attempt_id in book.attempts_aside:
            return
        if event.attempt_id in book.revived:
            # A batch writes the rows of ends before those of assignments: this end is for the next.
            book.wheel.insert(book.now.mono_ms + 1, ResultDue(event))
            return
        book.effects.messages.append(ResultAckMessage(event.agent, event.attempt_id))
        attempt = book.attempts.get(event.attempt_id)
        if attempt is None:
            self._late(event)
        elif event.state is _SUCCEEDED:
            run = attempt.run
            self._end(attempt, event)
            self._runs.release(run, run.end(attempt.task, _SUCCEED))
            self._runs.advance(run)
        elif event.state is _LOST:
            began = bool(event.started_us or attempt.started_us)
            self._lose(attempt, event, began=began)
        else:
            self._fail(attempt, event)

    def _fail(self, attempt: LiveAttempt, event: Finished) -> None:
        run, task = attempt.run, attempt.task
        if event.state is _CANCELLED and run.state.starts_tasks:
            # Nobody decided that the task shall not run: it counts as a failure of the attempt.
            event = event._replace(state=AttemptState.FAILED, message=event.message or UNASKED)
        self._end(attempt, event)
        if event.state is _CANCELLED:
            self._runs.release(run, run.end(task, TaskEvent.CANCEL))
        elif attempt.number < run.version.tasks[task].retry.max_attempts:
            reason = event.message or f"attempt {attempt.number} ended as {event.state.name}"
            self._backoffs.begin(run, task, attempt.number, reason)
        else:
            self._runs.release(run, run.end(task, TaskEvent.FAIL))
        self._runs.advance(run)

    def rejected(self, event: Rejected) -> None:
        """The agent refused an attempt: another one with the same number takes its place.

        What it said before its inventory is about an assignment of a leader before. Another one may
        have sent the same attempt again since, and it may run: the inventory tells.
        """
        attempt = self._book.attempts.get(event.attempt_id)
        if attempt is None or not self._admission.adopted(event.agent, attempt.incarnation):
            return
        refusal = self._told_here(attempt, AttemptState.REJECTED, event.message)
        if not attempt.started_us:
            self._end(attempt, refusal)
            self._return(attempt)
            self._runs.advance(attempt.run)
        elif attempt.run.version.tasks[attempt.task].idempotent:
            # It said before that it runs: the try is used up.
            self._fail(attempt, refusal._replace(state=AttemptState.FAILED))
        else:
            self._lose(attempt, refusal._replace(state=_LOST), began=True)

    def give_up(self, agent: str, incarnation: bytes) -> None:
        """Ends the attempts of an incarnation whose leases are over. They may have begun."""
        for attempt in self._leases.due(agent, incarnation):
            self._lose(attempt, self._told_here(attempt, _LOST, SILENT), began=True)

    def forgotten(self, attempt: LiveAttempt) -> None:
        """An attempt of before the store went back, of which its agent knows nothing any more: it
        ended since, or never began. It must not be sent again: its agent may have forgotten the id.
        """
        self._lose(attempt, self._told_here(attempt, _LOST, FORGOTTEN), began=True)

    def _told_here(self, attempt: LiveAttempt, state: AttemptState, message: str) -> Finished:
        """An end that no agent gave a time to."""
        now_us = self._book.now.wall_us
        return Finished(attempt.agent, attempt.attempt_id, state, 0, now_us, None, 0, 0, 0, message)

    def _lose(self, attempt: LiveAttempt, event: Finished, *, began: bool) -> None:
        """`began`: not known to have never started."""
        run, task = attempt.run, attempt.task
        run.lost[task] = attempt.attempt_id
        self._book.late.remember(attempt.attempt_id, run, task)
        self._aftermath.gave_up(attempt.attempt_id)
        if run.state not in STARTING_RUN:
            self._end(attempt, event)
            self._runs.release(run, run.end(task, TaskEvent.CANCEL))
        elif began and not run.version.tasks[task].idempotent:
            self._end(attempt, event._replace(state=_UNKNOWN))
            self._approvals.ask(attempt, event.message)
        else:
            self._end(attempt, event)
            self._return(attempt)
        self._runs.advance(run)

    def _return(self, attempt: LiveAttempt) -> None:
        """The task is ready again under the same number, better on another agent."""
        run = attempt.run
        run.numbers[attempt.task] = attempt.number
        run.move(attempt.task, TaskEvent.RETURN)
        self._runs.release(run, [attempt.task])
        self._admission.rest(attempt.agent, attempt.incarnation)

    def _end(self, attempt: LiveAttempt, event: Finished) -> None:
        book, run, task = self._book, attempt.run, attempt.task
        attempt_id = attempt.attempt_id
        del run.live[task]
        del book.attempts[attempt_id]
        del attempt.lane[attempt_id]
        request = run.version.tasks[task].request
        book.fleet.discharge(book.shard, attempt.agent, attempt.incarnation, request)
        day, number = run.key
        book.effects.writes.done.append(
            DoneRow(
                day,
                number,
                task,
                0,
                attempt_id,
                event.state,
                event.started_us or attempt.started_us or None,
                event.finished_us,
                event.exit_code,
                event.signal,
                event.stdout_bytes,
                event.stderr_bytes,
                event.message,
            )
        )

    def _late(self, event: Finished) -> None:
        """A result of an attempt that is not live: of one that was given up it is recorded."""
        known = self._book.late.take(event.attempt_id)
        if known is None:
            self._aftermath.over(event.attempt_id)
            if self._aftermath.holding:
                stray = StrayNote(event.agent, event.attempt_id, ended=True, taken=False)
                self._book.effects.strays.append(stray)
            return
        (day, number), task, run = known
        adopted = event.state is _SUCCEEDED and _decides(run, task, event.attempt_id)
        self._book.effects.writes.late.append(
            LateRow(
                day,
                number,
                task,
                0,
                event.attempt_id,
                event.state,
                event.started_us or None,
                event.finished_us,
                event.exit_code,
                event.signal,
                event.stdout_bytes,
                event.stderr_bytes,
                event.message,
                adopted,
                self._book.now.wall_us,
            )
        )
        if adopted and run is not None:
            self._adopt(run, task)

    def _adopt(self, run: Run, task: int) -> None:
        if run.tasks[task] == TaskState.AWAITING_APPROVAL:
            self._book.drop_wait(run, task, WaitKind.APPROVAL)
        self._runs.release(run, run.end(task, _SUCCEED))
        self._runs.advance(run)


def _decides(run: Run | None, task: int, attempt_id: bytes) -> bool:
    """Whether a late success of an attempt decides its task: it is open, and nothing is newer."""
    if run is None or run.state not in STARTING_RUN:
        return False
    return run.lost.get(task) == attempt_id and not FINAL_TASK[run.tasks[task]]
