"""A simulated agent: the production AgentCore behind a shell of virtual time.

Actions are performed in their order by the production queue, with the production group commit
between them and the simulated disk. Frames pass through the production codecs of both sides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mainspring.agent.v1 import session_pb2 as pb

from agent.core import actions, events
from agent.core.agent import AgentConfig, AgentCore
from agent.core.entries import Result
from agent.core.types import NOTHING
from agent.journal.group import GroupCommit
from agent.journal.order import InOrder
from agent.stream import codec
from tests.sim.disk import JournalWiped, OpenJournal
from tests.sim.network import Link
from tests.sim.violation import hold

if TYPE_CHECKING:
    from tests.sim.hosts import SimHost
    from tests.sim.supervisors import SimSupervisor

SOCKET_S = 0.0002
TICK = events.Tick(NOTHING)


class DiskThread:
    """The loop as the group commit sees it: writes take their time, and end with their process."""

    def __init__(self, host: SimHost, journal: OpenJournal) -> None:
        self._host = host
        self._journal = journal

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._host.loop.call_outside(delay_s, self._if_open, callback)

    def run_in_executor(self, _thread: object, write: Callable[[], int]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._host.loop.create_future()
        try:
            count = write()
        except JournalWiped as error:
            done.set_exception(error)
            return done
        synced = write.__name__ == "sync"
        random = self._host.random
        took_s = random.uniform(0.0005, 0.004) if random.random() < 0.98 else 0.3
        self._host.loop.call_outside(took_s, self._written, done, count if synced else 0)
        return done

    def _written(self, done: asyncio.Future[None], synced: int) -> None:
        if self._journal.open:
            self._journal.synced(synced)
            done.set_result(None)

    def _if_open(self, callback: Callable[[], None]) -> None:
        if self._journal.open:
            callback()


class Connection:
    """Of an agent to a supervisor."""

    def __init__(self) -> None:
        self.supervisor: SimSupervisor | None = None


class SimAgent:
    """One start of an agent."""

    def __init__(self, host: SimHost) -> None:
        self._host = host
        self._loop = host.loop
        self.alive = True
        self.stopped = False
        now = host.now()
        journal, state = host.disk.open_journal(host.boot_id, now.wall_us)
        self.incarnation = state.incarnation
        for held in state.held.values():
            if held.result is not None:
                host.witness.journalled(held.result)
        self._journal = journal
        # A journal of virtual time is not a file, and its thread is no thread.
        thread: Any = DiskThread(host, journal)
        self._records = GroupCommit(thread, journal, self._go_on, self._broken)  # type: ignore[arg-type]
        self._order = InOrder(self._records, self._perform)
        config = AgentConfig(host.name, host.capacity, tuple(host.nodes), state)
        self.core = AgentCore(config, now)
        self._links: dict[tuple[str, int], Link] = {}
        self._events: deque[events.Event] = deque()
        self._busy = False
        # When it looks at its deadlines next, on its own clock.
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms: int | None = None
        # How many supervisors have answered, and the connection to the last.
        self._supervisors = 0
        self._connection = Connection()
        self._performers: dict[type, Callable[[Any], None]] = {
            actions.OpenSession: self._open,
            actions.CloseSession: self._close,
            actions.Send: self._send,
            actions.Record: self._recorded,
            actions.Spawn: self._spawn,
            actions.ExtendLeases: self._ask,
            actions.Stop: self._ask,
            actions.Forget: self._ask,
            actions.EndSupervisor: lambda _: host.end_supervisor(),
            actions.Adopted: lambda _: None,
            actions.Note: lambda _: None,
            actions.Refused: lambda _: self._exit("refused"),
            actions.Exit: lambda _: self._exit("exit"),
        }
        self._dial()
        self.feed(events.Tick(NOTHING))

    # Its life

    def die(self) -> None:
        """At once; its streams end."""
        self.alive = False
        self._journal.close()
        self._order.drop()
        self._host.hang_up()
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links.values():
            link.break_off()
        self._links.clear()

    def durable_epoch(self, shard: int) -> int:
        """The highest epoch of a shard that its journal has for good."""
        return self._journal.epoch(shard)

    def recount(self) -> None:
        """What its nodes are charged with is what it holds."""
        charged = held = NOTHING
        for holding in self.core.grants._nodes.values():
            charged = charged.plus(holding.running).plus(holding.unacked)
        for attempt in self.core.work.attempts:
            held = held.plus(attempt.assign.request)
        hold(charged == held, "I15", f"{self._host.host} charges {charged} and holds {held}")

    def _exit(self, why: str) -> None:
        if not self.alive:
            return
        self._host.witness.note(".", self._host.host, "agent ends:", why)
        self._host.crash_agent()
        self._host.loop.call_outside(self._host.random.uniform(0.5, 2.0), self._host.start_agent)

    def _broken(self, error: BaseException) -> None:
        assert isinstance(error, JournalWiped), error
        self._exit("its journal was deleted")

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        self.stopped = False
        self._go_on()

    def ask_to_end(self, *, handing_over: bool) -> None:
        """SIGTERM, or what leaves the tasks to the next start."""
        self.feed(events.StopRequested(handing_over))

    # Events and actions

    def feed(self, event: events.Event) -> None:
        """Something happened."""
        if not self.alive:
            return
        self._events.append(event)
        self._go_on()

    def _go_on(self) -> None:
        if self._busy or self.stopped or not self.alive:
            return
        self._busy = True
        host, acted = self._host, False
        self._order.perform()
        while self._events and self.alive:
            event = self._events.popleft()
            if type(event) is events.SupervisorReady:
                self._supervisors += 1
            done = self.core.handle(event, host.now())
            if done:
                acted = True
                self._order.add(done)
                self._order.perform()
        self._busy = False
        if self.alive:
            if acted:
                host.witness.granted(host.host, self.core.grants.total(), host.capacity)
            self._arm()

    def _perform(self, action: actions.Action) -> None:
        if self.alive:
            self._host.trip(type(action).__name__)
        if self.alive:
            self._performers[type(action)](action)

    def _arm(self) -> None:
        deadline_ms = self.core.next_deadline()
        if deadline_ms == self._armed_ms:
            return
        self._armed_ms = deadline_ms
        if self._timer is not None:
            self._timer.cancel()
        if deadline_ms is not None:
            due_ms = max(deadline_ms, self._host.now().mono_ms + 1)
            self._timer = self._host.later(due_ms, self._look)

    def _look(self) -> None:
        self._armed_ms = None
        self.feed(TICK)

    def clock_changed(self) -> None:
        """The clock of the host goes at another rate."""
        self._armed_ms = None
        if self.alive:
            self._arm()

    def _recorded(self, action: actions.Record) -> None:
        record = action.record
        if isinstance(record, Result) and self._journal.has_durably(record):
            self._host.witness.journalled(record)

    # The supervisor

    def _dial(self) -> None:
        self._connection = connection = Connection()
        self._host.hang_up()

        def hear(event: events.Event) -> None:
            if self._connection is connection:
                self.feed(event)

        self._host.dial(connection, hear)

    def supervisor_gone(self, gone: events.SupervisorGone) -> None:
        """The connection is over: what was under way to it is lost."""
        self._dial()
        self.feed(gone)

    def _spawn(self, spawn: actions.Spawn) -> None:
        if spawn.supervisor == self._supervisors:
            self._ask(spawn)

    def _ask(self, request: Any) -> None:
        supervisor = self._connection.supervisor
        if supervisor is not None:
            ask = partial(supervisor.ask, self._connection, request)
            self._loop.call_outside(SOCKET_S, ask)

    # The streams

    def _open(self, action: actions.OpenSession) -> None:
        key, host = (action.address, action.session), self._host

        def answer() -> None:
            node = host.nodes.get(action.address)
            reached = host.network.reaches(host.host, action.address)
            if not self.alive:
                return
            if node is None or not node.alive or not reached:
                self.feed(events.NodeLost(*key, "nobody answers"))
                return
            link = self._links[key] = host.network.connect(
                host.host,
                action.address,
                lambda frame: self._receive(key, frame),
                lambda: self._lost(key),
            )
            node.accept(link)
            self.feed(events.NodeConnected(*key))

        self._loop.call_outside(host.network.delay_s(), answer)

    def _receive(self, key: tuple[str, int], frame: pb.SessionResponse) -> None:
        decoded = codec.decode(frame)
        for assign in decoded.assigns:
            self._host.witness.assigned(self._host.host, assign)
        self.feed(events.Frame(*key, decoded))

    def _lost(self, key: tuple[str, int]) -> None:
        if self._links.pop(key, None) is not None:
            self.feed(events.NodeLost(*key, "the stream broke"))

    def _close(self, action: actions.CloseSession) -> None:
        link = self._links.pop((action.address, action.session), None)
        if link is not None:
            link.break_off()

    def _send(self, action: actions.Send) -> None:
        link = self._links.get((action.address, action.session))
        if link is not None:
            self._host.witness.sent(self._host.host, link.node, action.entries)
        pending = deque(action.entries)
        while link is not None and pending:
            link.send_to_node(codec.encode(pending))
