"""Decides where attempts go, and what an agent's inventory means.

Ready tasks are placed where there is room. An agent's inventory comes before anything is assigned
to it: what it runs is adopted, what it never saw is sent again under the same id, what nobody knows
is stopped, unless the store may have forgotten it. Does not know what the end of an attempt means,
nor how messages travel.
"""

from __future__ import annotations

from controlplane.core.effects import (
    AssignMessage,
    CancelMessage,
    LiveRow,
    StrayNote,
    WaitKind,
)
from controlplane.core.events import AgentGone, Inventory, Started
from controlplane.core.fleet.placement import Room
from controlplane.core.run.run import LiveAttempt, Run
from controlplane.core.shard.admission import Admission
from controlplane.core.shard.book import Book, ResultDue, StartedDue
from controlplane.core.shard.leases import Leases
from controlplane.core.shard.outcomes import Outcomes
from controlplane.core.shard.queue import Entry
from controlplane.core.shard.restored import Aftermath, Stray
from controlplane.core.states import TaskEvent, TaskState

# Starts of short attempts are not worth a row: their result says it.
STARTED_AFTER_MS = 2_000

# Looked up once: a member of an enum costs more than the rest of a step.
_ASSIGN = TaskEvent.ASSIGN


class Attempts:
    """Live attempts of one shard."""

    def __init__(
        self,
        book: Book,
        admission: Admission,
        leases: Leases,
        outcomes: Outcomes,
        aftermath: Aftermath,
    ) -> None:
        self._book = book
        self._aftermath = aftermath
        self._admission = admission
        self._leases = leases
        self._outcomes = outcomes
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
            if book.restored_us and self._passed_over(entry):
                continue
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

    def _passed_over(self, entry: Entry) -> bool:
        """Whether a ready task is held back after a restore, or has an attempt that runs."""
        stray = self._aftermath.stray_of(entry[3], entry[4])
        if stray is not None and self._take_in(stray):
            return True
        return self._aftermath.keeps(entry)

    def _take_in(self, stray: Stray) -> bool:
        """Makes an attempt that the store had forgotten the live one of its task instance."""
        place = self._aftermath.place_of(stray.subject)
        if place is None or stray.subject is None:
            return False
        book, (run, task) = self._book, place
        self._aftermath.over(stray.attempt_id)
        if run.tasks[task] == TaskState.AWAITING_APPROVAL:
            book.drop_wait(run, task, WaitKind.APPROVAL)
            run.move(task, TaskEvent.APPROVE)
        if (wait := run.waits.pop(task, None)) is not None:
            book.wheel.cancel(wait[0])
            book.drop_wait(run, task, WaitKind.BACKOFF)
            if run.tasks[task] == TaskState.BACKOFF:
                run.move(task, TaskEvent.DUE)
        run.lost.pop(task, None)
        run.move(task, _ASSIGN)
        book.clear(run, task)
        self._revive(run, task, stray, stray.subject.number)
        return True

    def _revive(self, run: Run, task: int, stray: Stray, number: int) -> None:
        agent, incarnation, attempt_id, started_us, _ = stray
        book, now_us = self._book, self._book.now.wall_us
        run.numbers[task] = number
        book.revived.add(attempt_id)
        self.keep(LiveAttempt(run, task, number, attempt_id, agent, incarnation, now_us))
        book.effects.writes.live.append(
            LiveRow(*run.key, task, 0, attempt_id, number, agent, incarnation, now_us)
        )
        if started_us:
            self.started(Started(agent, attempt_id, started_us))

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
            book.drop_wait(run, task, WaitKind.BACKOFF)
        if run.lost:
            run.lost.pop(task, None)
        day, run_number = run.key
        book.effects.writes.live.append(
            LiveRow(day, run_number, task, 0, attempt_id, number, agent, incarnation, now_us)
        )
        self._send(attempt)

    def keep(self, attempt: LiveAttempt) -> None:
        """Keeps a live attempt in memory, charges its request and watches its lease."""
        run, task, book = attempt.run, attempt.task, self._book
        run.live[task] = attempt
        book.attempts[attempt.attempt_id] = attempt
        self._leases.keep(attempt)
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
            self._book.note_start(attempt)

    def inventory(self, event: Inventory) -> None:
        """What an agent holds: adopted, taken, sent again or stopped; then it may get more."""
        book, agent = self._book, event.agent
        held = {attempt_id for attempt_id, _ in event.live}
        if self._aftermath.holding:
            held |= self._take_strays(event)
        for finished in event.finished:
            if finished.attempt_id not in held:
                self._outcomes.told(finished)
        for attempt_id, started_us in event.live:
            if attempt_id in book.attempts:
                if started_us:
                    self.started(Started(agent, attempt_id, started_us))
            elif not self._aftermath.holding and attempt_id not in book.attempts_aside:
                book.effects.messages.append(CancelMessage(agent, attempt_id))
        for attempt in self._leases.attempts_of(agent):
            if attempt.incarnation != event.incarnation:
                # What this one says of it proves nothing: its time has to pass.
                continue
            mine = attempt.attempt_id in held
            if attempt.restored and not mine:
                self._outcomes.forgotten(attempt)
            elif not attempt.run.state.starts_tasks:
                # Asked again: it may have been away when the run was stopped.
                book.effects.messages.append(CancelMessage(agent, attempt.attempt_id))
            elif not mine:
                self._leases.sent_again(attempt)
                self._send(attempt)
        if self._admission.adopt(agent, event.incarnation):
            self._leases.answer(agent, event.incarnation)

    def _take_strays(self, event: Inventory) -> set[bytes]:
        """What the store has forgotten becomes live where it has a place; else it is remembered.

        Returns those that became live and have ended: their results follow in a batch of their own.
        """
        book, agent, incarnation = self._book, event.agent, event.incarnation
        subjects = {subject.attempt_id: subject for subject in event.subjects}
        self._aftermath.told_anew(agent, incarnation)
        ended: set[bytes] = set()
        for finished in event.finished:
            attempt_id = finished.attempt_id
            if attempt_id in book.attempts or book.late.knows(attempt_id):
                continue
            subject = subjects.get(attempt_id)
            if self._take_in(Stray(agent, incarnation, attempt_id, 0, subject)):
                book.wheel.insert(book.now.mono_ms + 1, ResultDue(finished))
                book.effects.strays.append(StrayNote(agent, attempt_id, ended=True, taken=True))
                ended.add(attempt_id)
        for attempt_id, started_us in event.live:
            if attempt_id in book.attempts:
                continue
            stray = Stray(agent, incarnation, attempt_id, started_us, subjects.get(attempt_id))
            taken = self._take_in(stray)
            if not taken:
                self._aftermath.keep(stray)
            book.effects.strays.append(StrayNote(agent, attempt_id, ended=False, taken=taken))
        return ended

    def gone(self, event: AgentGone) -> None:
        """The agent's session ended. Its attempts stay live: nothing says that they are over."""
        self._admission.release(event.agent)
