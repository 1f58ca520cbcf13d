"""What the agent does about assignments: takes them over, refuses them, ends them, reports them.

Decides: whether an assignment is taken, what is answered when one is seen again, when a process is
signalled, to whom each piece of news goes.

Promises: an answer goes only to the session that carried the question; news of an attempt goes to
whoever leads its shard now, and if nobody does, the next inventory says it.

Does not know: streams and their life; the share of the capacity that a node gets.
"""

from __future__ import annotations

from agent.core.actions import Kill, Note, Signal, Spawn
from agent.core.attempts import Attempt, AttemptTable, State, Stop
from agent.core.entries import (
    Accepted,
    Assign,
    Cancel,
    Entry,
    Inventory,
    Rejected,
    Result,
    Started,
)
from agent.core.events import ProcessExited, ProcessSpawned, SpawnFailed
from agent.core.grants import Grants
from agent.core.session import Link, Sessions
from agent.core.turn import Turn
from agent.core.types import RejectReason

# When the agent stops, what runs gets no longer grace than this.
STOP_GRACE_MS = 1_500

Refusal = tuple[RejectReason, str]


class Work:
    """The attempts of an agent of one incarnation, between its sessions and its grants."""

    def __init__(self, incarnation: bytes, sessions: Sessions, grants: Grants) -> None:
        self.attempts = AttemptTable()
        self._incarnation = incarnation
        self._sessions = sessions
        self._grants = grants
        self._stopping = False

    def adopt(self, link: Link, newly: list[int], turn: Turn) -> None:
        """Charges the attempts of newly led shards to their node and sends it the inventories."""
        shards = set(newly)
        for attempt in self.attempts:
            if attempt.assign.shard in shards and attempt.node != link.node:
                running, request = attempt.result is None, attempt.assign.request
                self._grants.move(attempt.node, link.node, request, running=running)
                attempt.node = link.node
        for shard, (live, finished) in self.attempts.inventory(newly).items():
            inventory = Inventory(shard, link.leads[shard], tuple(live), tuple(finished))
            turn.send(link.stream, inventory)

    def assign(self, link: Link, assign: Assign, turn: Turn) -> None:
        """Takes an assignment over, answers it again, or refuses it. One of an epoch that is not in
        force has no answer: whoever leads the shard learns from the inventory what is held of it.
        """
        if not self._may_assign(link, assign, turn):
            return
        refusal = self._refusal_of_sender(assign)
        if refusal is None and self._answer_known(link, assign.attempt_id, turn):
            return
        refusal = refusal or self._refusal_of_work(link, assign)
        if refusal is not None:
            turn.send(link.stream, Rejected(assign.shard, assign.attempt_id, *refusal))
            return
        attempt = self.attempts.accept(assign, link.node)
        self._grants.occupy(link.node, assign.request)
        turn.send(link.stream, Accepted(assign.shard, assign.attempt_id))
        if assign.spec is None or not assign.spec.argv:
            what = "names no program" if assign.spec else "could not be read"
            message = f"the specification of the task {what}"
            self._over(attempt, self.attempts.never_started(attempt, _wall(turn), message), turn)

    def cancel(self, link: Link, cancel: Cancel, turn: Turn) -> None:
        """Stops an attempt. One that is not known is held as cancelled: it must not start."""
        if not self._sessions.may_speak(link, cancel.shard, cancel.epoch):
            return
        attempt = self.attempts.find(cancel.attempt_id)
        if attempt is not None:
            self._stop(attempt, Stop.CANCELLED, turn)
        elif self.attempts.recent(cancel.attempt_id) is None:
            shard, epoch, attempt_id = cancel.shard, cancel.epoch, cancel.attempt_id
            unseen = Assign(shard, epoch, 0, attempt_id, self._incarnation)
            turn.send(link.stream, self.attempts.bury(unseen, link.node, _wall(turn)))

    def acknowledge(self, attempt_id: bytes) -> None:
        """The result is recorded by the control plane. An unknown id was acknowledged before."""
        attempt = self.attempts.find(attempt_id)
        if attempt is not None and attempt.result is not None:
            self.attempts.acknowledge(attempt)
            self._grants.forget(attempt.node, attempt.assign.request)

    def ask_for_spawns(self, turn: Turn) -> None:
        for attempt in self.attempts.to_spawn():
            turn.act(Spawn(attempt.assign))

    def spawned(self, event: ProcessSpawned, turn: Turn) -> None:
        attempt = self._expect(event.attempt_id, State.SPAWNING)
        self.attempts.spawned(attempt, event.started_at_us, turn.now.mono_ms)
        started = Started(attempt.assign.shard, event.attempt_id, event.started_at_us)
        self._tell(attempt, started, turn)
        if attempt.stop is not None:
            self._terminate(attempt, attempt.stop, turn)

    def spawn_failed(self, event: SpawnFailed, turn: Turn) -> None:
        attempt = self._expect(event.attempt_id, State.SPAWNING)
        self._over(attempt, self.attempts.spawn_failed(attempt, event), turn)

    def exited(self, event: ProcessExited, turn: Turn) -> None:
        attempt = self._expect(event.attempt_id, State.STARTED)
        self._over(attempt, self.attempts.exited(attempt, event), turn)

    def pass_deadlines(self, turn: Turn) -> None:
        """At the timeout an attempt is asked to end; after its grace it is killed."""
        for attempt in self.attempts.due(turn.now.mono_ms):
            if attempt.stop is None:
                self._terminate(attempt, Stop.TIMED_OUT, turn)
            else:
                turn.act(Kill(attempt.assign.attempt_id, Signal.KILL))

    def stop(self, turn: Turn) -> None:
        """Takes nothing more, hands back what was not spawned and ends what runs."""
        self._stopping = True
        for attempt in list(self.attempts):
            if attempt.state is State.ACCEPTED:
                self._hand_back(attempt, turn)
            elif attempt.stop is None:
                self._stop(attempt, Stop.AGENT_STOPPED, turn)
            elif attempt.deadline_ms:
                last_ms = min(attempt.deadline_ms, turn.now.mono_ms + STOP_GRACE_MS)
                self.attempts.stop_by(attempt, attempt.stop, last_ms)

    def _may_assign(self, link: Link, assign: Assign, turn: Turn) -> bool:
        """Whether this session speaks for the shard now; an operator is told if it does not."""
        if self._sessions.may_speak(link, assign.shard, assign.epoch):
            return True
        seen = self._sessions.epochs.get(assign.shard)
        highest = seen.epoch if seen else 0
        text = f"assigned in epoch {assign.epoch}, which is not in force; highest seen: {highest}"
        turn.act(Note(text, link.address, assign.shard))
        return False

    def _refusal_of_sender(self, assign: Assign) -> Refusal | None:
        """Why this may not be assigned here, whatever it is."""
        if assign.incarnation != self._incarnation:
            return RejectReason.INCARNATION, "meant for another incarnation of this agent"
        self._sessions.epochs.note_batch(assign.shard, assign.batch)
        return None

    def _refusal_of_work(self, link: Link, assign: Assign) -> Refusal | None:
        """Why no more work can be taken now."""
        if self._stopping:
            return RejectReason.STOPPING, "the agent is stopping"
        if not self._grants.admits(link.node, assign.request):
            return RejectReason.CAPACITY, "beyond the grant of the node"
        return None

    def _answer_known(self, link: Link, attempt_id: bytes, turn: Turn) -> bool:
        """Answers an assignment that was seen before by its state; never a second spawn."""
        attempt = self.attempts.find(attempt_id)
        result = attempt.result if attempt else self.attempts.recent(attempt_id)
        if result is not None:
            turn.send(link.stream, result)
            return True
        if attempt is None:
            return False
        turn.send(link.stream, Accepted(attempt.assign.shard, attempt_id))
        if attempt.state is State.STARTED:
            started = Started(attempt.assign.shard, attempt_id, attempt.started_at_us)
            turn.send(link.stream, started)
        return True

    def _stop(self, attempt: Attempt, stop: Stop, turn: Turn) -> None:
        """Makes an attempt end, gently first. What was not spawned yet ends here; what is being
        spawned is ended when its process is there; what ends already goes on doing so.
        """
        if attempt.stop is not None or attempt.result is not None:
            return
        if attempt.state is State.STARTED:
            self._terminate(attempt, stop, turn)
            return
        attempt.stop = stop
        if attempt.state is State.ACCEPTED:
            message = "cancelled before it was started"
            self._over(attempt, self.attempts.never_started(attempt, _wall(turn), message), turn)

    def _terminate(self, attempt: Attempt, stop: Stop, turn: Turn) -> None:
        assert attempt.assign.spec is not None, "only what has a specification is spawned"
        grace_ms = attempt.assign.spec.grace_ms
        if self._stopping:
            grace_ms = min(grace_ms, STOP_GRACE_MS)
        self.attempts.stop_by(attempt, stop, turn.now.mono_ms + grace_ms)
        turn.act(Kill(attempt.assign.attempt_id, Signal.TERM if grace_ms > 0 else Signal.KILL))

    def _hand_back(self, attempt: Attempt, turn: Turn) -> None:
        """An attempt that was not spawned is refused after all: its try is not used up."""
        self.attempts.drop(attempt)
        self._grants.withdraw(attempt.node, attempt.assign.request)
        reason, text = RejectReason.STOPPING, "the agent is stopping; nothing was started"
        assign = attempt.assign
        self._tell(attempt, Rejected(assign.shard, assign.attempt_id, reason, text), turn)

    def _expect(self, attempt_id: bytes, state: State) -> Attempt:
        attempt = self.attempts.find(attempt_id)
        assert attempt is not None, "the shell speaks of an attempt that it was given"
        assert attempt.state is state, f"{attempt.state} where {state} was expected"
        return attempt

    def _over(self, attempt: Attempt, result: Result, turn: Turn) -> None:
        self._grants.finish(attempt.node, attempt.assign.request)
        self._tell(attempt, result, turn)

    def _tell(self, attempt: Attempt, entry: Entry, turn: Turn) -> None:
        link = self._sessions.leader(attempt.assign.shard)
        if link is not None:
            turn.send(link.stream, entry)


def _wall(turn: Turn) -> int:
    return turn.now.wall_us
