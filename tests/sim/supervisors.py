"""A simulated supervisor: claims on disk, processes, deadlines by the production rules.

It does what it was asked in order, looks at its deadlines when they come, and tells what happened
after it wrote it down. Dead, it takes its processes along; stopped, it does nothing, while they go
on. What it is told, and what it tells, is lost with the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent.core import actions, events
from agent.core.entries import Assign
from agent.core.types import Containment, EndCause, Now
from agent.supervisor.attempts import FAR_MS
from agent.supervisor.attempts import Attempt as Deadlines
from tests.sim.disk import Claim, SimDisk
from tests.sim.processes import KILL_S, Plan, SimProcess

LOOK_MS = 1_000
SIGKILL = 9
Feed = Callable[[events.Event], None]
Request = actions.Spawn | actions.ExtendLeases | actions.Stop | actions.Forget


class Host(Protocol):
    """Where a supervisor runs."""

    disk: SimDisk
    boot: int

    def now(self) -> Now: ...
    def later(self, mono_ms: int, function: Callable[[], None]) -> asyncio.TimerHandle: ...
    def plan(self, assign: Assign) -> Plan: ...
    def trip(self, point: str, attempt_id: bytes) -> None: ...
    def spawned(self, assign: Assign) -> None: ...
    def ended(self, process: SimProcess) -> None: ...


class SimSupervisor:
    """One supervisor, from its start to its death."""

    def __init__(self, host: Host) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = host
        self.claims = host.disk.claims
        self.alive = True
        self.stopped = False
        self.processes: dict[bytes, SimProcess] = {}
        self._deadlines: dict[bytes, Deadlines] = {}
        self._shards: dict[int, int] = {}
        self._known = {key: claim.read() for key, claim in self.claims.items()}
        self._requests: deque[Request] = deque()
        self._reaped: deque[SimProcess] = deque()
        # Whom it talks to, and whose requests it does: of one that has hung up it still does those
        # that were under way, until another one comes.
        self._feed: Feed | None = None
        self._heeded: object = None
        self._timer: asyncio.TimerHandle | None = None

    # Its life

    def die(self, delay_s: float = KILL_S) -> None:
        """SIGKILL, or the end of its namespace: nothing of it stays."""
        self.alive = False
        self._requests.clear()
        for process in list(self.processes.values()):
            process.kill(delay_s)
        self.hang_up()

    def hang_up(self) -> None:
        """The connection is over; what was not read of it is lost."""
        self._feed = None

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        self.stopped = False
        self._turn()

    # What an agent wants

    def welcome(self, connection: object, feed: Feed) -> None:
        """An agent has connected: it is told all, and the news from now on."""
        self._feed = feed
        self._heeded = connection
        self._requests.clear()
        ready = events.SupervisorReady(Containment.NAMESPACE, tuple(self._known.values()))
        self._tell(ready)

    def ask(self, connection: object, request: Request) -> None:
        """A request came over a connection."""
        if connection is self._heeded:
            self._requests.append(request)
            self._turn()

    def _tell(self, event: events.Event) -> None:
        feed = self._feed
        if feed is not None:
            self._loop.call_later(0.0002, self._deliver, feed, event)

    def _deliver(self, feed: Feed, event: events.Event) -> None:
        if self._feed is feed:
            feed(event)

    # What it does

    def _turn(self) -> None:
        if self.stopped or not self.alive:
            return
        while self._requests and self.alive:
            self._perform(self._requests.popleft())
        if self.alive:
            self._enforce()
            while self._reaped and self.alive:
                self._reap(self._reaped.popleft())
            self._arm()

    def _perform(self, request: Request) -> None:
        match request:
            case actions.Spawn():
                self._spawn(request)
            case actions.ExtendLeases():
                before = self._shards.get(request.shard, 0)
                self._shards[request.shard] = max(before, request.until_ms)
            case actions.Stop():
                self._stop(request)
            case actions.Forget():
                if request.attempt_id not in self.processes:
                    self._known.pop(request.attempt_id, None)
                    self.claims.pop(request.attempt_id, None)

    def _spawn(self, request: actions.Spawn) -> None:
        assign, host = request.assign, self._host
        attempt_id, spec = assign.attempt_id, assign.spec
        assert spec is not None
        now = host.now()
        until_ms = max(request.lease_until_ms, self._shards.get(assign.shard, 0))
        if not self._may_claim(attempt_id, until_ms > now.mono_ms, now):
            return
        claimed = events.Claimed(attempt_id, now.wall_us)
        self.claims[attempt_id] = Claim(claimed, host.boot)
        self._known[attempt_id] = events.Supervised(claimed)
        host.trip("claimed", attempt_id)
        if not self.alive:
            return
        plan = host.plan(assign)
        if not plan.starts:
            text = "the program cannot be started"
            self._failed(attempt_id, events.SpawnFailed(attempt_id, text, now.wall_us))
            return
        limits = Deadlines(attempt_id.hex(), assign.shard, request.lease_until_ms, spec.overtime_ms)
        limits.began(now.mono_ms, spec.timeout_ms, spec.grace_ms)
        self._deadlines[attempt_id] = limits
        self.processes[attempt_id] = SimProcess(assign, plan, self._gone)
        host.spawned(assign)
        host.trip("spawned", attempt_id)
        if self.alive:
            spawned = events.ProcessSpawned(attempt_id, now.wall_us, len(self._known), now.mono_ms)
            self.claims[attempt_id].spawned = spawned
            self._known[attempt_id] = events.Supervised(claimed, spawned)
            self._tell(spawned)

    def _may_claim(self, attempt_id: bytes, leased: bool, now: Now) -> bool:
        """Whether it may be begun; if not, it is said what is known instead."""
        known = self._known.get(attempt_id)
        if known is not None:
            told = [item for item in (known.spawned, known.failed, known.ended) if item]
            text = "nobody knows what became of it"
            unknown = events.SpawnFailed(attempt_id, text, now.wall_us, EndCause.LEASE)
            for event in told or [unknown]:
                self._tell(event)
        elif not leased:
            text = "its attempt lease was over"
            self._tell(events.SpawnFailed(attempt_id, text, now.wall_us, EndCause.LEASE))
        return known is None and leased

    def _failed(self, attempt_id: bytes, failed: events.SpawnFailed) -> None:
        claim = self.claims[attempt_id]
        claim.failed = failed
        self._known[attempt_id] = events.Supervised(claim.claimed, failed=failed)
        self._tell(failed)

    def _stop(self, request: actions.Stop) -> None:
        limits = self._deadlines.get(request.attempt_id)
        if limits is not None:
            now_ms = self._host.now().mono_ms
            number = limits.stop(request.cause.value, request.grace_ms, now_ms)
            self._signal(request.attempt_id, number)

    def _enforce(self) -> None:
        now_ms = self._host.now().mono_ms
        for attempt_id, limits in self._deadlines.items():
            self._signal(attempt_id, limits.due(now_ms, self._shards.get(limits.shard, 0)))

    def _signal(self, attempt_id: bytes, number: int) -> None:
        if number == SIGKILL:
            self.processes[attempt_id].kill()
        elif number:
            self.processes[attempt_id].terminate()

    def _gone(self, process: SimProcess) -> None:
        """A process has ended; it is noticed when the supervisor looks."""
        self._host.ended(process)
        self._reaped.append(process)
        if self.alive:
            self._loop.call_later(0.0001, self._turn)

    def _reap(self, process: SimProcess) -> None:
        attempt_id, known = process.assign.attempt_id, self._known
        del self.processes[attempt_id]
        cause = EndCause(self._deadlines.pop(attempt_id).cause)
        at_us = self._host.now().wall_us
        ended = events.ProcessExited(attempt_id, process.code, process.signal, at_us, cause=cause)
        was = known[attempt_id]
        known[attempt_id] = events.Supervised(was.claimed, was.spawned, ended)
        claim = self.claims.get(attempt_id)
        if claim is not None:
            claim.ended = ended
        self._host.trip("ended", attempt_id)
        self._tell(ended)

    def _arm(self) -> None:
        """Looks again at the next deadline, and once a second while anything runs."""
        if self._timer is not None:
            self._timer.cancel()
        if self._deadlines:
            now_ms = self._host.now().mono_ms
            shards = self._shards
            next_ms = [each.next_ms(shards.get(each.shard, 0)) for each in self._deadlines.values()]
            due_ms = min([now_ms + LOOK_MS, *(ms for ms in next_ms if ms != FAR_MS)])
            self._timer = self._host.later(max(due_ms, now_ms + 1), self._turn)
