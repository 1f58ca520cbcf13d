"""The machine around an agent's core, on paper: a disk, supervisors, processes, one node.

What is asked of it is performed in order, as the duties of a shell say: a record that is to be
synced holds back what follows until `sync`. Each party can die at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.core import actions, entries, events
from agent.core.agent import AgentConfig, AgentCore
from agent.core.records import JournalState, Record, StartOfAgent
from agent.core.types import NOTHING, Containment, EndCause, Now
from tests.unit.agent.core.driver import LEASE_MS, WALL_US, cores

ADDRESS, NODE, SHARD = "h:1", "n1", 0


@dataclass
class Claim:
    """The claim file of an attempt, and whether its process runs."""

    claimed: events.Claimed
    until_ms: int
    spawned: events.ProcessSpawned | None = None
    ended: events.ProcessExited | None = None
    failed: events.SpawnFailed | None = None
    runs: bool = False

    def known(self) -> events.Supervised:
        """As a supervisor tells it; a process that ended with an earlier one has no known end."""
        told = self.spawned if self.runs or self.ended else None
        return events.Supervised(self.claimed, told, self.ended, self.failed)


@dataclass
class Node:
    """The leader of the one shard. `acked` and `rejected`: what it will never send again."""

    epoch: int = 1
    session: int = 0
    beat: int = 0
    taking: bool = False
    results: dict[bytes, entries.Result] = field(default_factory=dict)
    accepted: set[bytes] = field(default_factory=set)
    rejected: set[bytes] = field(default_factory=set)


class Host:
    """One machine. `slow`: the disk syncs only when told to. `watch` sees each action as it is
    performed.
    """

    def __init__(self, watch: Callable[[actions.Action], None] = lambda _: None) -> None:
        self.watch = watch
        self.now_ms = 1_000
        self.wall_us = WALL_US
        self.boot = 1
        self.slow = False
        self.incarnations = 0
        self.node = Node()
        self.core: AgentCore | None = None
        self.claims: dict[bytes, Claim] = {}
        self.spawns: list[bytes] = []
        self.supervisor_lives = False
        self.lose_journal()

    # Parties that live and die

    def lose_journal(self) -> None:
        self.incarnations += 1
        self.incarnation = bytes([self.incarnations]) * 16
        self.disk: list[Record] = []

    def start_agent(self) -> None:
        state = JournalState(self.incarnation)
        state.read(self.disk)
        start = StartOfAgent(state.start.number + 1, f"boot-{self.boot}", self.wall_us)
        self.disk.append(start)
        state.read([start])
        self.buffer: list[Record] = []
        self.queue: deque[actions.Action] = deque()
        self.news: deque[events.Event] = deque()
        self.generation = 0
        self.connected = False
        self.core = AgentCore(AgentConfig("a-1", cores(64), (ADDRESS,), state), self.now())

    def kill_agent(self) -> None:
        """What was not synced is gone."""
        self.core = None
        self.connected = False
        self.node.session = 0

    def kill_supervisor(self, reason: str = "killed") -> None:
        self.supervisor_lives = False
        for claim in self.claims.values():
            claim.runs = False
        if self.core is not None and self.connected:
            self.connected = False
            self.news.append(events.SupervisorGone(reason))

    def reboot(self) -> None:
        self.kill_agent()
        self.kill_supervisor()
        self.boot += 1
        self.now_ms = 500

    def answer(self) -> None:
        """A supervisor, a new one if there is none, tells the agent all that it knows."""
        self.supervisor_lives = True
        if self.core is None or self.connected:
            return
        self.connected = True
        self.generation += 1
        known = tuple(claim.known() for claim in self.claims.values())
        self.news.append(events.SupervisorReady(Containment.NAMESPACE, known))

    # Time and news

    def now(self) -> Now:
        return Now(self.wall_us, self.now_ms)

    def feed(self, event: events.Event) -> None:
        assert self.core is not None
        self.queue.extend(self.core.handle(event, self.now()))
        self.perform()

    def deliver(self) -> bool:
        """Hands the next news over."""
        if self.core is None or not self.news:
            return False
        self.feed(self.news.popleft())
        return True

    def settle(self) -> None:
        """Until there is nothing to be done now."""
        while self.deliver() or self.sync():
            pass

    def wait(self, ms: int) -> None:
        """Time passes; the supervisor ends what has no lease any more."""
        self.now_ms += ms
        self.wall_us += ms * 1_000
        for attempt_id, claim in list(self.claims.items()):
            if claim.runs and self.supervisor_lives and claim.until_ms <= self.now_ms:
                self.end(attempt_id, -1, EndCause.LEASE)
        if self.core is not None:
            self.feed(events.Tick(NOTHING))

    def end(self, attempt_id: bytes, code: int, cause: EndCause = EndCause.NONE) -> None:
        claim = self.claims[attempt_id]
        claim.runs = False
        ended_by = 15 if code < 0 else 0
        claim.ended = events.ProcessExited(attempt_id, code, ended_by, self.wall_us, cause=cause)
        self._tell(claim.ended)

    def running(self) -> list[bytes]:
        return [attempt_id for attempt_id, claim in self.claims.items() if claim.runs]

    def _tell(self, event: events.Event) -> None:
        if self.core is not None and self.connected:
            self.news.append(event)

    # What the agent asks for

    def perform(self) -> None:
        while self.core is not None and self.queue:
            action = self.queue[0]
            if isinstance(action, actions.Record):
                self.buffer.append(action.record)
                if action.synced and self.slow:
                    return
                if action.synced:
                    self._flush()
            self.queue.popleft()
            self._do(action)

    def sync(self) -> bool:
        """The disk has written what was to be synced; False: nothing was."""
        if self.core is None or not self.queue:
            return False
        self._flush()
        self._do(self.queue.popleft())
        self.perform()
        return True

    def _flush(self) -> None:
        self.disk += self.buffer
        self.buffer = []

    def _do(self, action: actions.Action) -> None:
        self.watch(action)
        match action:
            case actions.Spawn():
                self._spawn(action)
            case actions.Stop():
                claim = self.claims.get(action.attempt_id)
                if self.connected and claim is not None and claim.runs:
                    self.end(action.attempt_id, -1, action.cause)
            case actions.ExtendLeases():
                for claim in self.claims.values() if self.connected else ():
                    claim.until_ms = max(claim.until_ms, action.until_ms)
            case actions.Forget():
                claim = self.claims.get(action.attempt_id)
                if self.connected and claim is not None and not claim.runs:
                    del self.claims[action.attempt_id]
            case actions.EndSupervisor():
                self.kill_supervisor()
            case actions.Exit() | actions.Refused():
                self._flush()
                self.kill_agent()
            case actions.Send() if action.session == self.node.session:
                self._hear(action.entries)

    def _spawn(self, action: actions.Spawn) -> None:
        attempt_id, until_ms = action.assign.attempt_id, action.lease_until_ms
        if not self.connected or action.supervisor != self.generation:
            return
        assert attempt_id not in self.claims, "asked for an attempt that was claimed"
        claim = Claim(events.Claimed(attempt_id, self.wall_us), until_ms)
        self.claims[attempt_id] = claim
        if until_ms <= self.now_ms:
            text = "the attempt lease was over"
            claim.failed = events.SpawnFailed(attempt_id, text, self.wall_us, EndCause.LEASE)
            self._tell(claim.failed)
            return
        claim.spawned = events.ProcessSpawned(attempt_id, self.wall_us, 100, 7)
        claim.runs = True
        self.spawns.append(attempt_id)
        self._tell(claim.spawned)

    # The node

    def connect(self) -> None:
        """Has the session that is due opened and welcomed, if the agent lives that long."""
        opened: list[tuple[str, int]] = []
        while not opened:
            deadline_ms = self.core.next_deadline() if self.core is not None else None
            if deadline_ms is None:
                return
            self.wait(max(0, deadline_ms - self.now_ms))
            opened = list(self._opened())
        self.node.session, self.node.beat = opened[0][1], 0
        self.node.taking = False
        self.feed(events.NodeConnected(*opened[0]))
        claims = (entries.Leadership(SHARD, self.node.epoch, b"h" * 16, 0),)
        self.frame(
            welcome=entries.Welcome(NODE, claims, (), 1_000, self.node.session, LEASE_MS),
        )

    def _opened(self) -> Iterator[tuple[str, int]]:
        """The sessions that the core has opened just now."""
        for link in self.core.sessions._links.values() if self.core is not None else ():
            if link.open and link.number > self.node.session:
                yield link.stream

    def frame(self, **fields) -> None:
        if self.core is not None and self.node.session:
            self.feed(events.Frame(ADDRESS, self.node.session, entries.NodeFrame(**fields)))

    def cut(self) -> None:
        """The stream breaks."""
        if self.core is not None and self.node.session:
            session, self.node.session = self.node.session, 0
            self.feed(events.NodeLost(ADDRESS, session, "the stream broke"))

    def _hear(self, said: tuple[entries.Entry, ...]) -> None:
        node = self.node
        for entry in said:
            match entry:
                case entries.Heartbeat():
                    node.beat = entry.beat
                case entries.Inventory():
                    node.taking = True
                    node.results.update({r.attempt_id: r for r in entry.finished})
                case entries.Accepted():
                    node.accepted.add(entry.attempt_id)
                case entries.Rejected():
                    node.rejected.add(entry.attempt_id)
                case entries.Result():
                    node.results[entry.attempt_id] = entry
