"""The agent as a value: events in, actions out.

Decides: everything that an agent does, by composing its sessions, its work and its grants.

The duties of its shell:
1. hand over every event with a reading of both clocks, and perform the returned actions in order,
   over all calls; while a record is being synced, later actions wait and events need not;
2. look at `next_deadline` after each event, and hand over a `Tick` when that time has come;
3. answer each OpenSession by NodeConnected or NodeLost; hand over SupervisorReady when a supervisor
   has told all that it knows, then its news in order: each Spawn is answered by ProcessSpawned or
   SpawnFailed and every spawned process by one ProcessExited; after a SupervisorGone all that
   comes in time is the next SupervisorReady;
4. start with the state of a journal in which this start is recorded.

Promises: an attempt that a supervisor claimed is never asked for again, whatever is started anew
in between; what is accepted ends, and its result is told to the leader of its shard in every
session until it is acknowledged; the grants never exceed the capacity; a message of an older
session, a lower epoch or another incarnation has no effect; no session is opened before it is
known what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.core import entries, events
from agent.core.actions import Action, EndSupervisor, Exit, Note, Refused
from agent.core.grants import Grants
from agent.core.records import JournalState
from agent.core.session import HELLO_BEAT, Link, LinkState, Sessions
from agent.core.steps import Steps
from agent.core.supervision import Supervision
from agent.core.tails import Tails
from agent.core.turn import Turn
from agent.core.types import Amount, Containment, Now, RefusalReason
from agent.core.work import Work

# A stop takes no longer than this, whatever has not ended or was not acknowledged by then.
STOP_LIMIT_MS = 2_500
# After its last grants, which are of nothing, an agent stays this long to refuse the assignments
# that were decided before: about as long as a node may take to commit and send them.
FAREWELL_MS = 300
# Session numbers of one start of an agent; no start opens as many.
SESSIONS_A_START = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent is. `journal` is read when the agent is made, and never changed."""

    name: str
    capacity: Amount
    seeds: tuple[str, ...]
    journal: JournalState
    version: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class AgentCore:
    """See the module. Of no more use after `Exit` or `Refused`."""

    def __init__(self, config: AgentConfig, now: Now) -> None:
        self._config = config
        journal = config.journal
        self.sessions = Sessions(
            config.seeds,
            journal.start.number * SESSIONS_A_START,
            now.mono_ms,
            journal.epochs.values(),
        )
        self.grants = Grants(config.capacity)
        self._steps = Steps(journal, self.sessions, self.grants)
        self.supervision = Supervision(self._steps)
        self.work = Work(
            journal.incarnation, self._steps, self.supervision, self.sessions, self.grants
        )
        self._tails = Tails()
        # As the latest supervisor said; None: none has answered, and no session is opened.
        self._containment: Containment | None = None
        self._stop_at_ms: int | None = None
        self._farewell_ms: int | None = None
        self._ended = False
        self._handlers: dict[type[object], Callable[..., None]] = {
            events.NodeConnected: self._on_connected,
            events.Frame: self._on_frame,
            events.NodeLost: self._on_lost,
            events.ProcessSpawned: self.supervision.spawned,
            events.SpawnFailed: self.supervision.spawn_failed,
            events.ProcessExited: self.supervision.exited,
            events.SupervisorReady: self._on_supervisor,
            events.SupervisorGone: self._on_supervisor_gone,
            events.LogPiece: self._tails.piece,
            events.Tick: self._on_tick,
            events.StopRequested: self._on_stop,
        }

    def handle(self, event: events.Event, now: Now) -> list[Action]:
        """Takes one event in and returns what is to be done about it."""
        turn = Turn(now)
        self._handlers[type(event)](event, turn)
        self.supervision.ask_for_spawns(turn)
        untried = self.sessions.untried
        for node, entry in self.grants.settle(now.mono_ms, others_expected=untried):
            link = self.sessions.of_node(node)
            assert link is not None, "grants are settled among connected nodes"
            turn.send(link.stream, entry)
        if self._stop_at_ms is not None:
            self._maybe_exit(self._stop_at_ms, turn)
        return turn.actions()

    def next_deadline(self) -> int | None:
        """When the next Tick is due, on the monotonic clock in milliseconds; None: never."""
        deadlines = (
            self.sessions.next_deadline() if self._containment else None,
            self._steps.leases.next_deadline(),
            self.grants.next_deadline(),
            self._farewell_ms,
            self._stop_at_ms,
        )
        return min([each for each in deadlines if each is not None], default=None)

    def _on_connected(self, event: events.NodeConnected, turn: Turn) -> None:
        link = self.sessions.current(event.address, event.session)
        if link is None:
            return
        assert self._containment is not None, "sessions are opened after a supervisor answered"
        config, journal = self._config, self._config.journal
        hello = entries.Hello(
            config.name,
            journal.incarnation,
            journal.start.boot_id,
            config.capacity,
            config.labels,
            config.version,
            event.session,
            self._containment,
            self.sessions.epochs.told(),
        )
        link.beats(HELLO_BEAT, turn.now.mono_ms)
        turn.send(link.stream, hello)

    def _on_lost(self, event: events.NodeLost, turn: Turn) -> None:
        link = self.sessions.current(event.address, event.session)
        if link is None:
            return
        turn.act(Note(f"session ended: {event.reason}", event.address))
        self._forget(link, turn)
        self.sessions.lost(link, turn)
        if event.denied:
            self._refused(event.address, RefusalReason.DENIED, event.reason, turn)

    def _on_frame(self, event: events.Frame, turn: Turn) -> None:
        link = self.sessions.current(event.address, event.session)
        if link is None:
            return
        self.sessions.heard(link, turn.now.mono_ms)
        refusal = event.frame.refusal
        if refusal is not None:
            self._give_up(link, f"refused: {refusal.message}", turn)
            self._refused(event.address, refusal.reason, refusal.message, turn)
            return
        if event.frame.welcome is not None:
            self._on_welcome(link, event.frame.welcome, turn)
        if link.state is LinkState.WELCOMED:
            self._on_entries(link, event.frame, turn)

    def _on_welcome(self, link: Link, welcome: entries.Welcome, turn: Turn) -> None:
        if welcome.session != link.number:
            return
        if link.state is LinkState.OPENING:
            rival = self.sessions.of_node(welcome.node)
            if rival is not None:
                reason = f"{link.address} reaches the same node"
                turn.act(Note(f"session closed: {reason}", rival.address))
                self._forget(rival, turn)
                self.sessions.give_way(rival, reason, turn)
            self.grants.connect(welcome.node)
        self.work.adopt(link, self.sessions.welcome(link, welcome, turn), turn)

    def _on_entries(self, link: Link, frame: entries.NodeFrame, turn: Turn) -> None:
        """What was assigned was decided before anything was given back: a child finds the slot of
        its parent with its node, though the same frame acknowledges the parent.
        """
        done = self.work.acknowledge(frame.result_acks, turn)
        for assign in frame.assigns:
            self.work.assign(link, assign, turn)
        for cancel in frame.cancels:
            self.work.cancel(link, cancel, turn)
        for extension in frame.lease_extensions:
            self.work.extend(link, extension, turn)
        self.work.free(done)
        if frame.release is not None:
            self.grants.release(link.node, frame.release, turn.now.mono_ms)
        if frame.demand is not None:
            self.grants.demand(link.node, frame.demand)
        for tail in frame.log_tails:
            self._tails.ask(link.stream, tail, turn)

    def _on_supervisor(self, event: events.SupervisorReady, turn: Turn) -> None:
        self._containment = event.containment
        self.supervision.ready(event, turn)

    def _on_supervisor_gone(self, event: events.SupervisorGone, turn: Turn) -> None:
        turn.act(Note(f"the supervisor is gone: {event.reason}"))
        self.supervision.gone()

    def _on_tick(self, event: events.Tick, turn: Turn) -> None:
        if self._containment is not None:
            for link in self.sessions.due(turn, event.used):
                self._give_up(link, "no sign of life", turn)

    def _on_stop(self, event: events.StopRequested, turn: Turn) -> None:
        """With its tasks, or at once without them: the journal and the supervisor have it all."""
        if event.handing_over:
            self._stop_at_ms = None
            turn.end(Exit())
        elif self._stop_at_ms is None and not self._ended:
            self._stop_at_ms = turn.now.mono_ms + STOP_LIMIT_MS
            self._farewell_ms = turn.now.mono_ms + FAREWELL_MS
            self.grants.close()
            self.work.stop(turn)

    def _maybe_exit(self, stop_at_ms: int, turn: Turn) -> None:
        """Ends when all is over and told and nothing is on its way here any more, or when there is
        nobody to tell, or when the time is up.
        """
        if self._farewell_ms is not None and turn.now.mono_ms >= self._farewell_ms:
            self._farewell_ms = None
        attempts = self.work.attempts
        told = not len(attempts) and self._farewell_ms is None
        over = (told or not self.sessions.welcomed()) and not attempts.unfinished
        if over or turn.now.mono_ms >= stop_at_ms:
            # Said once: it may have to wait for the disk, and no deadline is left meanwhile.
            self._stop_at_ms = self._farewell_ms = None
            self._ended = True
            turn.end(EndSupervisor(), Exit())

    def _give_up(self, link: Link, reason: str, turn: Turn) -> None:
        turn.act(Note(f"session closed: {reason}", link.address))
        self._forget(link, turn)
        self.sessions.give_up(link, reason, turn)

    def _forget(self, link: Link, turn: Turn) -> None:
        """What lives and dies with a session: its readings of logs, the grant of its node."""
        self._tails.end_of(link.stream, turn)
        if link.state is LinkState.WELCOMED:
            self.grants.disconnect(link.node)

    def _refused(self, address: str, reason: RefusalReason, message: str, turn: Turn) -> None:
        """A refusal ends an agent that holds nothing and waits for no other answer; one that does
        tries again later. The other session may be the newer one that this one was refused for.
        """
        if not len(self.work.attempts) and not self.sessions.any_open():
            turn.end(EndSupervisor(), Refused(address, reason, message))
