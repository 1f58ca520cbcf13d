"""Decides the life of attempts: placed, adopted, ended, tried again.

An attempt ends by exactly one event; whatever arrives about one that is not live is acknowledged
and changes nothing. Rejected and lost attempts are final and say nothing about their task: it is
ready again under the same number and will get another id. An agent's inventory comes before
anything is assigned to it. Does not know how messages travel.
"""

from __future__ import annotations

from controlplane.core.effects import (
    AssignMessage,
    CancelMessage,
    DoneRow,
    LiveRow,
    ResultAckMessage,
    StartedRow,
    WaitKind,
    WaitRow,
)
from controlplane.core.events import AgentGone, Finished, Inventory, Rejected, Started
from controlplane.core.fleet.placement import Room
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.book import BackoffDue, Book, RefusalOver, StartedDue
from controlplane.core.shard.runs import Runs
from controlplane.core.states import STARTING_RUN, AttemptState, TaskEvent
from controlplane.core.time.deadlines import to_monotonic
from controlplane.core.time.retry import backoff_ms

# Starts of short attempts are not worth a row: their result says it.
STARTED_AFTER_MS = 1_000
# How long an agent that refused an attempt is left alone, so that no refusal follows another at the
# speed of commits.
REFUSAL_PAUSE_MS = 500
UNASKED = "the agent stopped the attempt without being asked"

# Looked up once: members of an enum cost more than the rest of a comparison.
_ASSIGN, _SUCCEED = TaskEvent.ASSIGN, TaskEvent.SUCCEED
_SUCCEEDED, _CANCELLED = AttemptState.SUCCEEDED, AttemptState.CANCELLED
_LOST = AttemptState.LOST


class Attempts:
    """Attempts of one shard."""

    def __init__(self, book: Book, runs: Runs) -> None:
        self._book = book
        self._runs = runs
        self._claiming = False

    def assign_ready(self) -> None:
        """Places ready tasks until no ready task finds room or no attempt id is left.

        Room that fits an older task of another shard of the node is left to it.
        """
        book = self._book
        fleet, queue, shard = book.fleet, book.queue, book.shard
        place, contested = fleet.place, fleet.claims.contested(shard)
        yielded = False
        while book.attempt_ids and (entry := queue.pop()) is not None:
            run, task = entry[3], entry[4]
            request = run.version.tasks[task].request
            room = place(shard, request)
            if room is None:
                queue.park(entry)
            elif contested and fleet.yields(shard, room, request, entry[1]):
                yielded = True
                queue.park(entry)
            else:
                self._assign(run, task, room)
        if queue.parked or self._claiming:
            self._claiming = queue.parked
            fleet.claim(shard, queue.claims(), yielded=yielded)

    def _assign(self, run: Run, task: int, room: Room) -> None:
        book = self._book
        now_us = book.now.wall_us
        number, attempt_id = run.next_number(task), book.attempt_ids.popleft()
        agent, incarnation = room.agent, room.incarnation
        attempt = LiveAttempt(run, task, number, attempt_id, agent, incarnation, now_us)
        run.move(task, _ASSIGN)
        self.keep(attempt)
        if run.waits and (wait := run.waits.pop(task, None)) is not None:
            book.wheel.cancel(wait[0])
            book.drop_wait(run, task)
        day, run_number = run.key
        book.effects.writes.live.append(
            LiveRow(day, run_number, task, 0, attempt_id, number, agent, incarnation, now_us)
        )
        self._send(attempt)

    def keep(self, attempt: LiveAttempt) -> None:
        """Keeps a live attempt in memory and charges its request."""
        run, task, book = attempt.run, attempt.task, self._book
        run.live[task] = attempt
        book.keep(attempt)
        request = run.version.tasks[task].request
        book.fleet.charge(book.shard, attempt.agent, attempt.incarnation, request)

    def _send(self, attempt: LiveAttempt) -> None:
        run = attempt.run
        version = run.version
        tenant, dag = version.key
        definition = version.tasks[attempt.task]
        self._book.effects.messages.append(
            AssignMessage(
                attempt.agent,
                attempt.incarnation,
                attempt.attempt_id,
                attempt.number,
                tenant,
                dag,
                run.run_id,
                definition.task,
                run.logical_us,
                definition.exec_spec,
            )
        )

    def started(self, event: Started) -> None:
        """A process was spawned; only the first report of it counts."""
        attempt = self._book.attempts.get(event.attempt_id)
        if attempt is None or attempt.started_us:
            return
        attempt.started_us = event.started_us or self._book.now.wall_us
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
        run, task = attempt.run, attempt.task
        if event.state is _CANCELLED and run.state.starts_tasks:
            # Nobody decided that the task shall not run: it counts as a failure of the attempt.
            event = event._replace(state=AttemptState.FAILED, message=event.message or UNASKED)
        self._end(attempt, event)
        if event.state is _SUCCEEDED:
            self._release(run, run.end(task, _SUCCEED))
        elif event.state is _LOST and run.state.starts_tasks:
            self._return(attempt)
        elif event.state in (_CANCELLED, _LOST):
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
        state = AttemptState.FAILED if attempt.started_us else AttemptState.REJECTED
        at_us = self._book.now.wall_us
        refusal = Finished(
            event.agent, event.attempt_id, state, 0, at_us, None, 0, 0, 0, event.message
        )
        if attempt.started_us:
            # It said before that it runs: the try is used up.
            self.finished(refusal)
            return
        self._end(attempt, refusal)
        self._return(attempt)
        self._runs.advance(attempt.run)

    def _return(self, attempt: LiveAttempt) -> None:
        """The task is ready again under the same number, better on another agent."""
        run = attempt.run
        run.numbers[attempt.task] = attempt.number
        run.move(attempt.task, TaskEvent.RETURN)
        self._release(run, [attempt.task])
        self._leave_alone(attempt)

    def _leave_alone(self, attempt: LiveAttempt) -> None:
        book = self._book
        if book.fleet.room(attempt.agent).incarnation != attempt.incarnation:
            return
        if book.fleet.admitted(book.shard, attempt.agent):
            book.fleet.expel(book.shard, attempt.agent)
            pause_over = RefusalOver(attempt.agent, attempt.incarnation)
            book.wheel.insert(book.now.mono_ms + REFUSAL_PAUSE_MS, pause_over)

    def admit(self, agent: str, incarnation: bytes) -> None:
        """The shard may assign to an agent, unless that is another incarnation by now."""
        book = self._book
        if book.fleet.room(agent).incarnation == incarnation:
            book.fleet.admit(book.shard, agent)

    def _end(self, attempt: LiveAttempt, event: Finished) -> None:
        book, run, task = self._book, attempt.run, attempt.task
        attempt_id = attempt.attempt_id
        del run.live[task]
        book.drop(attempt)
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

    def _release(self, run: Run, tasks: list[int]) -> None:
        if tasks and run.state in STARTING_RUN:
            now_us, push = self._book.now.wall_us, self._book.queue.push
            for task in tasks:
                push(run, task, now_us)

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
        self._book.add_wait(
            WaitRow(*run.key, task, 0, WaitKind.BACKOFF, due_us, attempt.number + 1, reason)
        )

    def wait(self, run: Run, task: int, due_us: int) -> None:
        """Arms the timer of a backoff."""
        deadline = to_monotonic(due_us, self._book.now)
        timer = self._book.wheel.insert(deadline, BackoffDue(run.key.run, task))
        run.waits[task] = timer, due_us

    def arm_again(self) -> None:
        """Sets the timers of all backoffs that are not over by the clock as it is now."""
        for run in self._book.runs.values():
            for task, (timer, due_us) in list(run.waits.items()):
                if self._book.wheel.cancel(timer):
                    self.wait(run, task, due_us)

    def due(self, number: int, task: int) -> None:
        """A backoff is over: its row stays until the next attempt is assigned."""
        run = self._book.runs_by_number.get(number)
        # A run that reached its timeout at the same moment waits for nothing any more.
        if run is not None and task in run.waits:
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
        for attempt in book.attempts_of.get(event.agent, {}).values():
            if not attempt.run.state.starts_tasks:
                # Asked again of any incarnation: it may have been away when the run was stopped.
                message = CancelMessage(event.agent, attempt.attempt_id)
                book.effects.messages.append(message)
            elif attempt.incarnation == event.incarnation and attempt.attempt_id not in held:
                self._send(attempt)
        self.admit(event.agent, event.incarnation)

    def gone(self, event: AgentGone) -> None:
        """The agent's session ended. Its attempts stay live: nothing says that they are over."""
        self._book.fleet.expel(self._book.shard, event.agent)
