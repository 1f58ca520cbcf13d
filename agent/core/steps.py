"""The steps in the life of an attempt, each with all that goes with it.

Decides: what is recorded, which slot is taken or given free, and who is told, when an attempt is
accepted, begins, is made to end, ends, or is handed back.

Promises: what is taken over is recorded before it is spawned or told, and its end before that is
told; news of an attempt goes to whoever leads its shard now, and if nobody does, the next inventory
says it.

Does not know: why a step is taken; how a supervisor ends a process, which it does by itself at the
end of a lease or at the timeout of a task.
"""

from __future__ import annotations

from agent.core import adoption
from agent.core.actions import Record, Stop
from agent.core.attempts import Attempt, AttemptTable, State
from agent.core.entries import Entry, Rejected, Result, Started
from agent.core.events import ProcessSpawned
from agent.core.grants import Grants
from agent.core.leases import Leases
from agent.core.records import AcceptedRecord, AckedRecord, JournalState, StartedRecord
from agent.core.session import Sessions
from agent.core.turn import Turn
from agent.core.types import EndCause, Outcome, RejectReason

# When the agent stops, what runs gets no longer grace than this.
STOP_GRACE_MS = 1_500
CANCELLED_BEFORE = "cancelled before it was started"


class Steps:
    """All attempts of an agent of one incarnation, and what can be done with one of them.
    `stopping`: the agent ends, and its tasks with it.
    """

    def __init__(self, journal: JournalState, sessions: Sessions, grants: Grants) -> None:
        self.attempts = AttemptTable()
        self.leases = Leases()
        self.stopping = False
        self._boot_id = journal.start.boot_id
        self._sessions = sessions
        self._grants = grants
        for attempt in adoption.restore(journal):
            self.attempts.hold(attempt)
        self._charge_restored()

    def accept(self, attempt: Attempt, turn: Turn) -> None:
        self.attempts.hold(attempt)
        self._grants.occupy(attempt.node, attempt.assign.request)
        turn.act(Record(AcceptedRecord(attempt.assign, attempt.lease_until_ms), synced=True))

    def begin(self, attempt: Attempt, event: ProcessSpawned, turn: Turn) -> None:
        """The process of an attempt is there. That may be said twice."""
        if attempt.state is not State.STARTED:
            self.attempts.spawned(attempt, event.started_at_us)
            attempt_id, at_us = event.attempt_id, event.started_at_us
            record = StartedRecord(attempt_id, event.pid, at_us, event.start_ticks, self._boot_id)
            turn.act(Record(record, synced=False))
            self._tell(attempt, Started(attempt.assign.shard, attempt_id, at_us), turn)
        if attempt.stop is not None:
            self.terminate(attempt, attempt.stop, turn)

    def stop(self, attempt: Attempt, cause: EndCause, turn: Turn) -> None:
        """Makes an attempt end, gently first. What was not spawned yet ends here; what is being
        spawned is ended when its process is there; what ends already goes on doing so.
        """
        if attempt.stop is not None or attempt.result is not None:
            return
        attempt.stop = cause
        if attempt.state is State.STARTED:
            self.terminate(attempt, cause, turn)
        elif attempt.state is State.ACCEPTED:
            self.end(attempt, Outcome.CANCELLED, CANCELLED_BEFORE, turn)

    def terminate(self, attempt: Attempt, cause: EndCause, turn: Turn) -> None:
        """Has the supervisor end it. Asked again it keeps the first cause and hurries at most."""
        grace_ms = attempt.assign.spec.grace_ms if attempt.assign.spec else 0
        if self.stopping:
            grace_ms = min(grace_ms, STOP_GRACE_MS)
        turn.act(Stop(attempt.assign.attempt_id, cause, grace_ms))

    def hand_back(self, attempt: Attempt, turn: Turn) -> None:
        """An attempt that was not spawned is refused after all: its try is not used up. That is on
        disk before it is told, or else the next start would spawn it.
        """
        assign = attempt.assign
        self.attempts.drop(attempt)
        self._grants.withdraw(attempt.node, assign.request)
        turn.act(Record(AckedRecord(assign.attempt_id), synced=True))
        reason, text = RejectReason.STOPPING, "the agent is stopping; nothing was started"
        self._tell(attempt, Rejected(assign.shard, assign.attempt_id, reason, text), turn)

    def fail_without_program(self, attempt: Attempt, turn: Turn) -> None:
        message = f"the specification of the task {attempt.program_missing}"
        self.end(attempt, Outcome.FAILED, message, turn)

    def end(
        self, attempt: Attempt, outcome: Outcome, message: str, turn: Turn, started_at_us: int = 0
    ) -> None:
        at_us = turn.now.wall_us
        result = self.attempts.end(attempt, outcome, at_us, message, started_at_us)
        self.over(attempt, result, turn)

    def over(self, attempt: Attempt, result: Result, turn: Turn) -> None:
        turn.act(Record(result, synced=True))
        self._grants.finish(attempt.node, attempt.assign.request)
        self._tell(attempt, result, turn)

    def _charge_restored(self) -> None:
        """What earlier starts took over occupies capacity as that of a node that has vanished."""
        if not len(self.attempts):
            return
        grants, nobody = self._grants, adoption.NOBODY
        grants.connect(nobody)
        for attempt in self.attempts:
            grants.occupy(nobody, attempt.assign.request)
            if attempt.result is not None:
                grants.finish(nobody, attempt.assign.request)
        grants.disconnect(nobody)

    def _tell(self, attempt: Attempt, entry: Entry, turn: Turn) -> None:
        link = self._sessions.leader(attempt.assign.shard)
        if link is not None:
            turn.send(link.stream, entry)
