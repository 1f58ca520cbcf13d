"""What the agent does about the words of shards: takes work over, refuses it, answers, forgets.

Decides: whether an assignment is taken, what is answered when one is seen again, what is cancelled,
which leases go on, when a result need not be told any more.

Promises: an id that is held in any state is never taken over again; an answer goes only to the
session that carried the question; a shard that is not led through a session is not obeyed in it.

Does not know: streams and their life; the share of the capacity that a node gets; supervisors, but
for the processes that are being ended as nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.actions import ExtendLeases, Forget, Note, Record
from agent.core.attempts import Attempt, State
from agent.core.entries import (
    Accepted,
    Assign,
    Cancel,
    Inventory,
    LeaseExtension,
    Rejected,
    Started,
)
from agent.core.grants import Grants
from agent.core.records import AckedRecord
from agent.core.session import Link, Sessions
from agent.core.steps import Steps
from agent.core.supervision import Supervision
from agent.core.turn import Turn
from agent.core.types import EndCause, Outcome, RejectReason

NOT_KNOWN = "the agent has nothing of this attempt and will not start it"

Refusal = tuple[RejectReason, str]


class Work:
    """The attempts of an agent of one incarnation, between its sessions and its grants."""

    def __init__(
        self,
        incarnation: bytes,
        steps: Steps,
        supervision: Supervision,
        sessions: Sessions,
        grants: Grants,
    ) -> None:
        self.attempts = steps.attempts
        self._incarnation = incarnation
        self._steps = steps
        self._supervision = supervision
        self._sessions = sessions
        self._grants = grants

    def adopt(self, link: Link, newly: list[int], turn: Turn) -> None:
        """Charges the attempts of newly led shards to their node and sends it the inventories."""
        shards = set(newly)
        for attempt in self.attempts:
            if attempt.assign.shard in shards and attempt.node != link.node:
                running, request = attempt.result is None, attempt.assign.request
                self._grants.move(attempt.node, link.node, request, running=running)
                attempt.node = link.node
        for shard, held in self.attempts.inventory(newly).items():
            lists = (tuple(held.live), tuple(held.finished), tuple(held.subjects))
            turn.send(link.stream, Inventory(shard, link.leads[shard], *lists))

    def assign(self, link: Link, assign: Assign, turn: Turn) -> None:
        """Takes an assignment over, answers it again, or refuses it. One of an epoch that is not in
        force has no answer: whoever leads the shard learns from the inventory what is held of it.
        """
        if not self._may_assign(link, assign, turn):
            return
        refusal = self._refusal_of_sender(assign)
        if refusal is None and self._answer_known(link, assign.attempt_id, turn):
            return
        until_ms = link.lease_until_ms(assign.beat)
        refusal = refusal or self._refusal_of_work(link, assign, until_ms > turn.now.mono_ms)
        if refusal is not None:
            turn.send(link.stream, Rejected(assign.shard, assign.attempt_id, *refusal))
            return
        attempt = Attempt(assign, link.node, until_ms)
        self._steps.accept(attempt, turn)
        turn.send(link.stream, Accepted(assign.shard, assign.attempt_id))
        if attempt.program_missing:
            self._steps.fail_without_program(attempt, turn)
        else:
            self._steps.leases.watch(attempt)

    def cancel(self, link: Link, cancel: Cancel, turn: Turn) -> None:
        """Stops an attempt. One that is not known is held as cancelled, on disk too: it must not
        start, whatever comes later. If a process of it is being ended, it is over after that.
        """
        if not self._sessions.may_speak(link, cancel.shard, cancel.epoch):
            return
        attempt_id = cancel.attempt_id
        attempt = self.attempts.find(attempt_id)
        if attempt is not None:
            self._steps.stop(attempt, EndCause.CANCELLED, turn)
        elif self.attempts.recent(attempt_id) is None:
            unseen = Assign(cancel.shard, cancel.epoch, 0, attempt_id, self._incarnation)
            began_us = self._supervision.stray(attempt_id)
            state = State.STARTED if began_us else State.FINISHED
            attempt = Attempt(unseen, link.node, 0, state, began_us, EndCause.CANCELLED)
            self._steps.accept(attempt, turn)
            if not began_us:
                self._steps.end(attempt, Outcome.CANCELLED, NOT_KNOWN, turn)

    def extend(self, link: Link, extension: LeaseExtension, turn: Turn) -> None:
        """The attempts of one shard may run on."""
        shard, until_ms = extension.shard, link.lease_until_ms(extension.beat)
        if not self._sessions.may_speak(link, shard, extension.epoch):
            return
        if until_ms > turn.now.mono_ms and self._steps.leases.extend(shard, until_ms):
            turn.act(ExtendLeases(shard, until_ms))

    def acknowledge(self, attempt_ids: Iterable[bytes], turn: Turn) -> list[Attempt]:
        """Results are recorded by the control plane; returns the attempts that are held no more,
        whose slots are to be given free. An unknown id was acknowledged before.
        """
        done = []
        for attempt_id in attempt_ids:
            attempt = self.attempts.find(attempt_id)
            if attempt is not None and attempt.result is not None:
                self.attempts.acknowledge(attempt)
                turn.act(Record(AckedRecord(attempt_id), synced=False))
                turn.act(Forget(attempt_id))
                done.append(attempt)
        return done

    def free(self, done: Iterable[Attempt]) -> None:
        """Gives the slots of acknowledged attempts free."""
        for attempt in done:
            self._grants.forget(attempt.node, attempt.assign.request)

    def stop(self, turn: Turn) -> None:
        """Takes nothing more, hands back what was not spawned and ends what runs."""
        self._steps.stopping = True
        for attempt in list(self.attempts):
            if attempt.state is State.ACCEPTED:
                self._steps.hand_back(attempt, turn)
            elif attempt.stop is None:
                self._steps.stop(attempt, EndCause.AGENT_STOPPED, turn)
            elif attempt.state is State.STARTED:
                self._steps.terminate(attempt, attempt.stop, turn)

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

    def _refusal_of_work(self, link: Link, assign: Assign, leased: bool) -> Refusal | None:
        """Why no more work can be taken now."""
        if self._steps.stopping:
            return RejectReason.STOPPING, "the agent is stopping"
        if not leased:
            return RejectReason.LEASE, "its attempt lease was over when it arrived"
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
