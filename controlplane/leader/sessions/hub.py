"""The hub of all sessions of a node: agents on one side, the shards that are led here on the other.

Decides which of two sessions of one name stays, when a silent one is over, which shard an entry
belongs to, and when agents are told of shards, peers and demand. Promises that nothing of a session
that has ended is handled or answered, that entries for one agent in one turn share a frame, and
that the fleet knows only what agents granted in the session that is in force. Does not know the
core's reasons, nor gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import structlog
from mainspring.agent.v1 import session_pb2 as pb

from controlplane.codec import agents
from controlplane.codec.errors import CodecError
from controlplane.core.effects import (
    AssignMessage,
    CancelMessage,
    LeaseMessage,
    Message,
    ResultAckMessage,
)
from controlplane.core.events import AgentGone, Beat, Event
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.queue import NO_WANT, Want
from controlplane.core.types import Resources
from controlplane.leader.claim import Batches, Claim, LeaderClock
from controlplane.leader.mailbox import Delivery, Mailbox, Source
from controlplane.leader.sessions.absences import Absences
from controlplane.leader.sessions.demand import demand_of, differs
from controlplane.leader.sessions.memories import Memories
from controlplane.leader.sessions.roster import Roster
from controlplane.leader.sessions.session import Refused, Session, greeted, words_of
from controlplane.leader.sessions.tails import Tails
from controlplane.leader.times import ATTEMPT_LEASE_MS, HEARTBEAT_MS
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)

# A session is over when this many beats in a row did not come.
BEATS_MISSED = 3
DEMAND_PAUSE_S = 0.05


class _Led(NamedTuple):
    """A shard that is led here."""

    claim: Claim
    mailbox: Mailbox
    batches: Batches


def _judge(before: Session, session: Session, now_ms: int, silent_after_ms: int) -> None:
    """Whether a second session of a name may take the place of the first; raises Refused."""
    silent_ms = now_ms - before.heard_ms
    alive = silent_ms < silent_after_ms
    if before.incarnation != session.incarnation and alive:
        raise Refused(
            pb.REFUSAL_REASON_NAME_TAKEN,
            f"another agent named {session.agent!r} has a session, heard {silent_ms} ms ago;"
            " give each agent its own name, or wait until the other is gone",
        )
    if before.boot_id != session.boot_id and alive:
        raise Refused(
            pb.REFUSAL_REASON_NAME_TAKEN,
            f"agent {session.agent!r} has a session from another machine, heard {silent_ms} ms"
            " ago, with the same journal: its work folder was copied; start the copy with an"
            " empty work folder and its own name, or, if the machine was rebooted, wait",
        )
    if before.incarnation == session.incarnation and session.number < before.number:
        raise Refused(pb.REFUSAL_REASON_BAD_HELLO, "a newer session of the agent is open")


def _say(session: Session, claim: Claim, message: Message, decided_ms: int) -> None:
    """Everything but an assignment."""
    if type(message) is LeaseMessage:
        beat = session.beat_at(decided_ms)
        if beat is not None:
            session.outbox.extend(claim.shard, claim.epoch, beat)
    elif type(message) is CancelMessage:
        session.outbox.cancel(agents.cancel(message, claim.shard, claim.epoch))
    elif type(message) is ResultAckMessage:
        session.outbox.acknowledge(agents.result_ack(message))


class SessionHub:
    """All on one event loop; `run` for the life of the node."""

    def __init__(
        self,
        node: str,
        fleet: Fleet,
        roster: Roster,
        clock: LeaderClock,
        stats: Stats,
        *,
        heartbeat_ms: int = HEARTBEAT_MS,
        attempt_lease_ms: int = ATTEMPT_LEASE_MS,
    ) -> None:
        self._node = node
        self._fleet = fleet
        self._roster = roster
        self._clock = clock
        self._stats = stats
        self._heartbeat_ms = heartbeat_ms
        self._attempt_lease_ms = attempt_lease_ms
        self.memories = Memories(stats)
        self._sessions: dict[str, Session] = {}
        self._led: dict[int, _Led] = {}
        self._wants: dict[int, Want] = {}
        self._peers: tuple[str, ...] = ()
        self._growth = 0
        self._welcoming = False
        self._demanding: asyncio.TimerHandle | None = None
        self.tails = Tails(self._sessions.get)
        self.absences = Absences()

    async def run(self) -> None:
        """Ends silent sessions and writes the rows of agents, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._roster.run())
            while True:
                await asyncio.sleep(self._heartbeat_ms / 1_000)
                self._end_silent()

    # The node

    def set_peers(self, addresses: Iterable[str]) -> None:
        """Tells agents where all nodes of the cluster are."""
        peers = tuple(sorted(addresses))
        if peers != self._peers:
            self._peers = peers
            self._welcome_all_soon()

    def close_all(self, reason: str) -> None:
        """Ends all sessions."""
        for session in list(self._sessions.values()):
            self.close(session, reason)

    # The leaders

    def lead(self, claim: Claim, mailbox: Mailbox, batches: Batches) -> None:
        """See Speaker."""
        self._led[claim.shard] = _Led(claim, mailbox, batches)
        self.memories.lead(claim, batches)
        self._welcome_all_soon()

    def withdraw(self, claim: Claim) -> None:
        """See Speaker."""
        led = self._led.get(claim.shard)
        if led is not None and led.claim == claim:
            del self._led[claim.shard]
            self.memories.withdraw(claim)
            self._want(claim.shard, NO_WANT)
            self._welcome_all_soon()

    def speak(
        self,
        claim: Claim,
        batch: int,
        messages: Sequence[Message],
        sessions: Mapping[str, Source],
        received_us: int,
        decided_ms: int,
    ) -> None:
        """See Speaker. What is for a session that is over is dropped: its successor asks again."""
        touched: dict[str, Session] = {}
        for message in messages:
            session = sessions.get(message.agent)
            if not isinstance(session, Session) or not session.live:
                continue
            touched[message.agent] = session
            if type(message) is AssignMessage:
                beat = session.beat_at(decided_ms)
                if beat is not None:
                    entry = agents.assign(message, claim.shard, claim.epoch, batch, beat)
                    session.outbox.assign(entry, received_us)
            else:
                _say(session, claim, message, decided_ms)
        for session in touched.values():
            if session.outbox.overfull:
                self.close(session, "the agent does not read what it is sent")

    def stepped(self, shard: int, want: Want) -> None:
        """See Speaker."""
        if want != self._wants.get(shard, NO_WANT):
            self._want(shard, want)
        self._grown(shard)

    # The agents

    def open(self, frame: pb.SessionRequest) -> Session:
        """Begins the session that a first frame asks for; raises Refused."""
        now = self._clock.now()
        session = greeted(frame, now.mono_ms)
        before = self._sessions.get(session.agent)
        if before is not None:
            _judge(before, session, now.mono_ms, BEATS_MISSED * self._heartbeat_ms)
            self.close(before, "a newer session of the agent began")
        self._sessions[session.agent] = session
        self.absences.came(session.agent)
        self._fleet.connect(session.agent, session.incarnation, session.capacity)
        self._roster.connected(session, now.wall_us)
        self.memories.hear(session.words)
        session.outbox.welcome(self._welcome(session))
        self._stats.count("sessions_opened")
        _log.info("session_opened", agent=session.agent, session=session.number)
        return session

    def close(self, session: Session, reason: str) -> None:
        """Ends a session; its agent's attempts stay live. Once is enough."""
        if not session.live:
            return
        session.live = False
        session.outbox.close()
        del self._sessions[session.agent]
        self.absences.left(session.agent, self._clock.now().wall_us)
        self._fleet.disconnect(session.agent)
        self.tails.ended(session)
        for led in self._led.values():
            led.mailbox.put(Delivery((AgentGone(session.agent),)))
        self._stats.count("sessions_closed")
        _log.info("session_closed", agent=session.agent, session=session.number, reason=reason)

    def receive(self, session: Session, frame: pb.SessionRequest) -> None:
        """Takes a frame in."""
        if not session.live:
            return
        session.heard_ms = self._clock.now().mono_ms
        beating = frame.HasField("heartbeat")
        if beating:
            session.beat_came(frame.heartbeat.beat, session.heard_ms)
            session.outbox.answer_beat(frame.heartbeat.beat)
        try:
            # A refusal that shares a frame with an inventory may have been said before it; nothing
            # that the inventory makes its shard send can have been refused yet.
            if frame.rejected:
                self._take_entries(session, rejected=frame.rejected)
            if frame.memories:
                self.memories.hear(words_of(frame.memories))
            for inventory in frame.inventories:
                self._take_inventory(session, inventory)
            if frame.started or frame.results:
                self._take_entries(session, frame.started, frame.results)
            if frame.HasField("grant"):
                self._take_grant(session, frame.grant)
            if frame.HasField("recall"):
                self._give_back(session, frame.recall)
            if beating:
                self._pass_beat_on(session)
        except CodecError as error:
            self.close(session, f"an entry cannot be read: {error}")
        for data in frame.log_data:
            self.tails.take_in(session, data)

    def _pass_beat_on(self, session: Session) -> None:
        """Tells the shards that have attempts there. One that has no room for it misses it: more
        heartbeats come before the attempt leases are over.
        """
        beat = Beat(session.agent, session.incarnation)
        for shard in self._fleet.charged_shards(session.agent, session.incarnation):
            led = self._led.get(shard)
            if led is not None:
                led.mailbox.put(Delivery((beat,), session))

    def _take_inventory(self, session: Session, entry: pb.Inventory) -> None:
        led = self._led.get(entry.shard)
        if led is not None and led.claim.epoch == entry.epoch:
            event = agents.inventory(session.agent, session.incarnation, entry)
            received_us = self._clock.ticks_us() if event.finished else 0
            self._deliver(led, session, [event], received_us)

    def _take_entries(
        self,
        session: Session,
        started: Sequence[pb.Started] = (),
        results: Sequence[pb.Result] = (),
        rejected: Sequence[pb.Rejected] = (),
    ) -> None:
        agent = session.agent
        events: dict[int, list[Event]] = {}
        for start in started:
            events.setdefault(start.shard, []).append(agents.started(agent, start))
        for result in results:
            events.setdefault(result.shard, []).append(agents.finished(agent, result))
        for refusal in rejected:
            events.setdefault(refusal.shard, []).append(agents.rejected(agent, refusal))
        received_us = self._clock.ticks_us() if results else 0
        for shard, mine in events.items():
            led = self._led.get(shard)
            if led is not None:
                self._deliver(led, session, mine, received_us)

    def _deliver(self, led: _Led, session: Session, events: list[Event], received_us: int) -> None:
        """What may be told once the store has said whether it went back is told then."""
        shard = led.claim.shard
        if self.memories.judging(shard):
            self.memories.defer(partial(self._deliver, led, session, events, received_us))
        elif self._led.get(shard) is not led or not session.live:
            return
        elif not led.mailbox.put(Delivery(events, session, received_us)):
            self.close(session, f"shard {shard} cannot keep up")

    def _take_grant(self, session: Session, grant: pb.Grant) -> None:
        session.grant_number = grant.number
        session.regranted = True
        self._fleet.grant(session.agent, agents.resources(grant.amount))
        self._grown(None)
        self._demand_soon()

    def _give_back(self, session: Session, recall: pb.Recall) -> None:
        """Gives room back, and says anew what is wanted with less of it. Nothing is given in answer
        to a recall of another grant.
        """
        given = Resources()
        if recall.number == session.grant_number:
            given = self._fleet.release(session.agent, agents.resources(recall.amount))
        amount = agents.capacity(given)
        session.outbox.release(pb.Release(number=recall.number, amount=amount))
        session.regranted = True
        self._demand_soon()

    def _end_silent(self) -> None:
        oldest_ms = self._clock.now().mono_ms - BEATS_MISSED * self._heartbeat_ms
        for session in list(self._sessions.values()):
            if session.heard_ms < oldest_ms:
                self.close(session, "no sign of life")

    # What agents are told

    def _welcome_all_soon(self) -> None:
        """One Welcome for all that changes in this turn of the event loop."""
        if not self._welcoming:
            self._welcoming = True
            asyncio.get_running_loop().call_soon(self._welcome_all)

    def _welcome_all(self) -> None:
        self._welcoming = False
        for session in self._sessions.values():
            session.outbox.welcome(self._welcome(session))

    def _welcome(self, session: Session) -> pb.Welcome:
        shards = [
            pb.ShardLeadership(
                shard=led.claim.shard,
                epoch=led.claim.epoch,
                holder=led.claim.holder,
                batch=led.batches.batch,
            )
            for led in self._led.values()
        ]
        return pb.Welcome(
            node=self._node,
            shards=shards,
            peers=self._peers,
            heartbeat_ms=self._heartbeat_ms,
            session=session.number,
            attempt_lease_ms=self._attempt_lease_ms,
        )

    def _grown(self, by: int | None) -> None:
        """Shards whose ready tasks found no room look again when there may be more of it."""
        if self._fleet.growth == self._growth:
            return
        self._growth = self._fleet.growth
        for shard, led in self._led.items():
            if shard != by and shard in self._wants:
                led.mailbox.nudge()

    def _want(self, shard: int, want: Want) -> None:
        if want:
            self._wants[shard] = want
        else:
            self._wants.pop(shard, None)
        self._demand_soon()

    def _demand_soon(self) -> None:
        if self._demanding is None:
            loop = asyncio.get_running_loop()
            self._demanding = loop.call_later(DEMAND_PAUSE_S, self._tell_demand)

    def _tell_demand(self) -> None:
        """An agent whose whole capacity is granted already has nothing to add."""
        self._demanding = None
        # Agents of one size are asked for the same.
        by_size: dict[Resources, pb.Demand] = {}
        for agent, session in self._sessions.items():
            size, demand = session.capacity, pb.Demand()
            if self._fleet.room(agent).granted != size:
                if size not in by_size:
                    by_size[size] = demand_of(self._wants.values(), size)
                demand.CopyFrom(by_size[size])
            demand.grant_number = session.grant_number
            if differs(session.told, demand, regranted=session.regranted):
                session.told, session.regranted = demand, False
                session.outbox.demand(demand)
