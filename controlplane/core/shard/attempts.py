"""Decides the life of attempts: placed, adopted, ended, tried again.

An attempt ends by exactly one event; whatever arrives about one that is not live is acknowledged and
changes nothing. Rejected attempts are final: the task is ready again under the same number and will
get another id. An agent's inventory comes before anything is assigned to it. Does not know how
messages travel.
"""

from __future__ import annotations

from controlplane.core.effects import (
    AssignMessage,
    CancelMessage,
    DoneRow,
    LiveRow,
    ResultAckMessage,
    StartedRow,
    WaitGoneRow,
    WaitKind,
    WaitRow,
)
from controlplane.core.events import AgentGone, Finished, Inventory, Rejected, Started
from controlplane.core.fleet.placement import Room
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.book import BackoffDue, Book, StartedDue
from controlplane.core.shard.queue import Entry
from controlplane.core.shard.runs import Runs
from controlplane.core.states import AttemptState, TaskEvent
from controlplane.core.time.deadlines import to_monotonic
from controlplane.core.time.retry import backoff_ms

# Starts of short attempts are not worth a row: their result says it.
STARTED_AFTER_MS = 1_000
RETRIED = (AttemptState.FAILED, AttemptState.TIMED_OUT)


class Attempts:
    """Attempts of one shard."""

    def __init__(self, book: Book, runs: Runs) -> None:
        self._book = book
        self._runs = runs

    def assign_ready(self) -> None:
        """Places ready tasks until no ready task finds room or no attempt id is left."""
        book = self._book
        while book.attempt_ids and (entry := book.queue.pop()) is not None:
            request = entry.run.version.tasks[entry.task].request
            room = book.fleet.place(book.shard, request)
            if room is None:
                book.queue.park(entry)
            else:
                self._assign(entry, room)

    def _assign(self, entry: Entry, room: Room) -> None:
        book, run, task = self._book, entry.run, entry.task
        attempt = LiveAttempt(
            run,
            task,
            run.next_number(task),
            book.attempt_ids.popleft(),
            room.agent,
            room.incarnation,
            book.now.wall_us,
        )
        run.move(task, TaskEvent.ASSIGN)
        self.keep(attempt)
        if (timer := run.waits.pop(task, None)) is not None:
            book.wheel.cancel(timer)
            book.effects.writes.waits_gone.append(
                WaitGoneRow(run.key.run, task, 0, WaitKind.BACKOFF)
            )
        book.effects.writes.live.append(
            LiveRow(
                *run.key,
                task,
                0,
                attempt.attempt_id,
                attempt.number,
                attempt.agent,
                attempt.incarnation,
                attempt.assigned_us,
            )
        )
        self._send(attempt)

    def keep(self, attempt: LiveAttempt) -> None:
        """Keeps a live attempt in memory and charges its request."""
        run = attempt.run
        run.live[attempt.task] = attempt
        self._book.attempts[attempt.attempt_id] = attempt
        request = run.version.tasks[attempt.task].request
        self._book.fleet.charge(self._book.shard, attempt.agent, request)

    def _send(self, attempt: LiveAttempt) -> None:
        run, definition = attempt.run, attempt.run.version.tasks[attempt.task]
        self._book.effects.messages.append(
            AssignMessage(
                attempt.agent,
                attempt.incarnation,
                attempt.attempt_id,
                attempt.number,
                *run.version.key,
                run.run_id,
                definition.task,
                run.logical_us,
                definition.exec_spec,
            )
        )

    def started(self, event: Started) -> None:
        """A process was spawned."""
        attempt = self._book.attempts.get(event.attempt_id)
        if attempt is None or attempt.started_us:
            return
        attempt.started_us = event.started_us
        attempt.run.move(attempt.task, TaskEvent.START)
        deadline = self._book.now.mono_ms + STARTED_AFTER_MS
        self._book.wheel.insert(deadline, StartedDue(event.attempt_id))

    def store_start(self, attempt_id: bytes) -> None:
        """The start of an attempt that still runs is made durable."""
        attempt = self._book.attempts.get(attempt_id)
        if attempt is not None:
            row = StartedRow(attempt.run.key.run, attempt.task, 0, attempt.started_us)
            self._book.effects.writes.started.append(row)

    def finished(self, event: Finished) -> None:
        """A result arrived; it is acknowledged in any case, once what it says is durable."""
        book = self._book
        book.effects.messages.append(ResultAckMessage(event.agent, event.attempt_id))
        attempt = book.attempts.get(event.attempt_id)
        if attempt is None:
            return
        self._end(attempt, event)
        run, task = attempt.run, attempt.task
        if event.state is AttemptState.SUCCEEDED:
            self._release(run, run.end(task, TaskEvent.SUCCEED))
        elif event.state is AttemptState.CANCELLED and not run.state.starts_tasks:
            self._release(run, run.end(task, TaskEvent.CANCEL))
        elif attempt.number < run.version.tasks[task].retry.max_attempts:
            self._retry(attempt, event)
        else:
            self._release(run, run.end(task, TaskEvent.FAIL))
        self._runs.advance(run)

    def rejected(self, event: Rejected) -> None:
        """The agent refused an attempt: another one with the same number takes its place."""
        attempt = self._book.attempts.get(event.attempt_id)
        if attempt is None:
            return
        now_us = self._book.now.wall_us
        refusal = Finished(
            event.agent,
            event.attempt_id,
            AttemptState.REJECTED,
            0,
            now_us,
            None,
            0,
            0,
            0,
            event.message,
        )
        self._end(attempt, refusal)
        run = attempt.run
        run.numbers[attempt.task] = attempt.number
        run.move(attempt.task, TaskEvent.RETURN)
        self._release(run, [attempt.task])
        self._runs.advance(run)

    def _end(self, attempt: LiveAttempt, event: Finished) -> None:
        book, run = self._book, attempt.run
        del run.live[attempt.task]
        del book.attempts[attempt.attempt_id]
        request = run.version.tasks[attempt.task].request
        book.fleet.discharge(book.shard, attempt.agent, request)
        book.effects.writes.done.append(
            DoneRow(
                *run.key,
                attempt.task,
                0,
                attempt.attempt_id,
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

    def _release(self, run: Run, tasks: list[int]) -> None:
        now_us = self._book.now.wall_us
        for task in tasks:
            self._book.queue.push(run, task, now_us)

    def _retry(self, attempt: LiveAttempt, event: Finished) -> None:
        """Backoff before the next attempt. A run that is being stopped needs no row for it."""
        run, task = attempt.run, attempt.task
        run.move(task, TaskEvent.RETRY)
        run.numbers[task] = attempt.number + 1
        if not run.state.starts_tasks:
            return
        policy = run.version.tasks[task].retry
        wait_ms = backoff_ms(policy, attempt.number, run.run_id + task.to_bytes(4, "big"))
        due_us = self._book.now.wall_us + wait_ms * 1_000
        reason = event.message or f"attempt {attempt.number} ended as {event.state.name}"
        self.wait(run, task, due_us)
        self._book.effects.writes.waits.append(
            WaitRow(*run.key, task, 0, WaitKind.BACKOFF, due_us, attempt.number + 1, reason)
        )

    def wait(self, run: Run, task: int, due_us: int) -> None:
        """Arms the timer of a backoff."""
        deadline = to_monotonic(due_us, self._book.now)
        run.waits[task] = self._book.wheel.insert(deadline, BackoffDue(run.key.run, task))

    def due(self, number: int, task: int) -> None:
        """A backoff is over: its row stays until the next attempt is assigned."""
        run = self._book.runs_by_number[number]
        run.move(task, TaskEvent.DUE)
        self._release(run, [task])

    def inventory(self, event: Inventory) -> None:
        """What an agent holds: adopted, taken, sent again or cancelled; then it may get more."""
        book = self._book
        held = dict(event.live)
        for finished in event.finished:
            self.finished(finished)
        for attempt_id, started_us in held.items():
            attempt = book.attempts.get(attempt_id)
            if attempt is None:
                book.effects.messages.append(CancelMessage(event.agent, attempt_id))
            elif started_us:
                self.started(Started(event.agent, attempt_id, started_us))
        for attempt in self._of_incarnation(event):
            if not attempt.run.state.starts_tasks:
                message = CancelMessage(event.agent, attempt.attempt_id)
                book.effects.messages.append(message)
            elif attempt.attempt_id not in held:
                self._send(attempt)
        book.fleet.admit(book.shard, event.agent)

    def _of_incarnation(self, event: Inventory) -> list[LiveAttempt]:
        return [
            attempt
            for attempt in self._book.attempts.values()
            if attempt.agent == event.agent and attempt.incarnation == event.incarnation
        ]

    def gone(self, event: AgentGone) -> None:
        """The agent's session ended. Its attempts stay live: nothing says that they are over."""
        self._book.fleet.expel(self._book.shard, event.agent)
