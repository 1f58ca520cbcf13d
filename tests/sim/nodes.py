"""A simulated node: the production leaders and session hub on virtual time.

A crash stops everything between two steps of the event loop: what was not sent is lost, and what
the dying code still does reaches nobody. A node that does not see etcd loses its keys and goes on
in the name of epochs that may be over. One that is stopped and resumed goes on in the middle of
what it did, however long ago that was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.core.fleet.placement import Fleet
from controlplane.core.time.deadlines import Now
from controlplane.core.types import uuid7
from controlplane.leader.leadership import Surroundings
from controlplane.leader.leaderships import Leaderships
from controlplane.leader.sessions.hub import SessionHub
from controlplane.leader.sessions.roster import Roster
from controlplane.leader.sessions.session import Refused
from controlplane.leader.times import LeaderTimes
from controlplane.store.ports import ShardStore
from controlplane.telemetry.stats import Stats
from tests.sim.election import LEASE_TTL_S, Keys, SimElection
from tests.sim.network import Link
from tests.sim.virtual import Stoppable, VirtualLoop

# Short, as all tests of survival have them: a failover fits into an attempt lease.
TIMES = LeaderTimes.of_leader_lease(
    round(LEASE_TTL_S * 1_000),
    heartbeat_ms=1_000,
    attempt_lease_ms=6_000,
    lease_grace_ms=2_000,
    lease_drift_ms=120,
)
# As installed, but for the lease of a leader: what is lost is given up after more than two minutes.
USUAL_TIMES = LeaderTimes.of_leader_lease(TIMES.lease_ttl_ms)


class VirtualClock:
    """The clocks of a simulated process. `rate`: of the monotonic one; `skew_us`: of the other."""

    def __init__(self, loop: VirtualLoop, rate: float = 1.0, skew_us: int = 0) -> None:
        self._loop = loop
        self._rate = rate
        self._skew_us = skew_us
        # The last reading, and when it was read: at one moment the clocks show one time.
        self._read_s, self._reading = -1.0, Now(0, 0)

    def now(self) -> Now:
        loop = self._loop
        now_s = loop.time()
        if now_s != self._read_s:
            mono_ms = round(now_s * self._rate * 1_000)
            self._read_s, self._reading = now_s, Now(loop.wall_us + self._skew_us, mono_ms)
        return self._reading

    def ticks_us(self) -> int:
        return round(self._loop.time() * 1e6)


class SeededEntropy:
    """Ids from the seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def attempt_ids(self, count: int) -> list[bytes]:
        pool = self._random.randbytes(16 * count)
        return [pool[at : at + 16] for at in range(0, len(pool), 16)]

    def holder(self) -> bytes:
        return self._random.randbytes(16)

    def run_id(self, wall_us: int) -> bytes:
        return uuid7(wall_us, self._random.randbytes(16))


class NoRows:
    """Rows of agents are of no interest here."""

    async def put_agent(self, agent: object) -> None:
        """Keeps nothing."""


class SimNode:
    """One start of a node; a restart is another SimNode of the same name."""

    def __init__(
        self,
        name: str,
        store: ShardStore,
        keys: Keys,
        random: Random,
        peers: Iterable[str] = (),
        *,
        rate: float = 1.0,
        skew_us: int = 0,
        times: LeaderTimes = TIMES,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._loop = loop
        self.name = name
        self.alive = True
        self._process = Stoppable()
        self._times = times
        self._clock = VirtualClock(loop, rate, skew_us)
        self.stats = Stats()
        self._fleet = Fleet()
        self.leaderships = Leaderships()
        self.election = SimElection(name, keys, self.leaderships, random)
        self._streams: set[asyncio.Task[None]] = set()
        # What came for a stopped process, and waits in its sockets.
        self._arrived: list[Callable[[], None]] = []
        self._process.run(self._begin, store, random, peers)

    def _begin(self, store: ShardStore, random: Random, peers: Iterable[str]) -> None:
        self.hub = SessionHub(
            self.name,
            self._fleet,
            Roster(NoRows()),
            self._clock,
            self.stats,
            heartbeat_ms=self._times.heartbeat_ms,
            attempt_lease_ms=self._times.attempt_lease_ms,
        )
        self.hub.set_peers(peers)
        self.around = Surroundings(
            self.name,
            self.name,
            store,
            self.election,
            self._fleet,
            self.hub,
            self._clock,
            SeededEntropy(random),
            self.stats,
            self._times,
        )
        self._tasks = [
            self._loop.create_task(self.hub.run()),
            self._loop.create_task(self.leaderships.run(self.around, self.election.membership)),
            self._loop.create_task(self.election.run()),
        ]

    def leads(self, shard: int, epoch: int, holder: bytes) -> bool:
        """Whether it runs and leads a shard by this takeover."""
        led = self.hub.memories._led.get(shard) if self.alive and not self.stopped else None
        return led is not None and led[0][:3] == (shard, epoch, holder)

    @property
    def stopped(self) -> bool:
        """Whether it stands still."""
        return self._process.stopped

    def crash(self) -> None:
        """Dies at once."""
        self.alive = False
        self.election.client.close()
        self._arrived.clear()
        if self.stopped:
            self._process.go_on()
        for task in (*self._tasks, *self._streams):
            task.cancel()

    def hand_over(self, shard: int) -> None:
        """The election wants another leader."""
        self._handle(lambda: self.election.hand_over(shard))

    def stop(self) -> None:
        """As SIGSTOP does."""
        self._process.stop()

    def go_on(self) -> None:
        """As SIGCONT does."""
        if not self.stopped:
            return
        self._process.go_on()
        arrived, self._arrived = self._arrived, []
        for take in arrived:
            self._handle(take)

    def _handle(self, take: Callable[[], None]) -> None:
        """Something comes from outside."""
        if not self.alive:
            return
        if self.stopped:
            self._arrived.append(take)
        else:
            self._process.run(take)

    def accept(self, link: Link) -> None:
        """An agent opened a stream: its first frame is awaited."""
        link.to_node = lambda frame: self._handle(lambda: self._first(link, frame))

    def _first(self, link: Link, frame: pb.SessionRequest) -> None:
        try:
            session = self.hub.open(frame)
        except Refused as refused:
            refusal = pb.Refusal(reason=refused.reason, message=str(refused))
            link.send_to_agent(pb.SessionResponse(refusal=refusal))
            return
        link.to_node = lambda later: self._handle(lambda: self.hub.receive(session, later))
        link.node_ended = lambda: self._handle(lambda: self.hub.close(session, "broken"))

        async def write() -> None:
            while (ready := await session.outbox.take()) is not None and self.alive:
                link.send_to_agent(ready.frame)
            if self.alive:
                link.break_off()

        task = self._loop.create_task(write())
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
