"""A store in memory with leaderships over it, on virtual time."""

import asyncio
from contextlib import asynccontextmanager

from controlplane.codec import commands
from controlplane.coordination.candidacy import LeaderKey
from controlplane.coordination.membership import LiveNode, NodeInfo
from controlplane.core.effects import CommandOutcome
from controlplane.core.fleet.placement import Fleet
from controlplane.core.types import Resources, bucket_of
from controlplane.leader.leadership import Surroundings
from controlplane.leader.mailbox import Delivery
from controlplane.telemetry.stats import Stats
from tests.sim.memory_store import MemoryDatabase, MemoryStore
from tests.unit.leader.harness import (
    KEY,
    TIMES,
    CountedIds,
    Journal,
    LoopClock,
    Session,
    inventory,
    spec,
)

WON = LeaderKey("/mainspring/test/shards/0/leader", 5, 7)


class Candidate:
    """The election: `holds` the keys of this node, `fails` the next verifications."""

    def __init__(self):
        self.holds = True
        self.fails = []
        self.resigned = []

    async def verify(self, key):
        if self.fails:
            raise self.fails.pop()
        return self.holds

    async def resign(self, shard, *, pause_ms=None):
        self.resigned.append((shard, pause_ms))


class Members:
    """Membership as a table."""

    def __init__(self):
        self.members = {}
        self.published = []

    def publish(self, *, committed_at_ms=None):
        self.published.append(committed_at_ms)

    def add(self, node, committed_at_ms):
        info = NodeInfo(node, f"{node}:1", 1, committed_at_ms=committed_at_ms)
        self.members[node] = LiveNode(info, 1, 0.0)


class Cluster:
    """One database, one node."""

    def __init__(self, faults=None, times=TIMES):
        self.database = MemoryDatabase(1, lambda: asyncio.get_running_loop().wall_us)
        self.store = MemoryStore(self.database, faults)
        self.candidate, self.journal, self.members = Candidate(), Journal(), Members()
        self.fleet, self.stats, self.clock = Fleet(), Stats(), LoopClock()
        self.around = Surroundings(
            "n1",
            "n1:1",
            self.store,
            self.candidate,
            self.fleet,
            self.journal,
            self.clock,
            CountedIds(),
            self.stats,
            times,
        )

    def command(self, body, **more):
        """Appends a command; returns its number."""
        return self.database.append_command(KEY.tenant, bucket_of(KEY), body, **more).command

    def apply(self, tasks=1):
        stored, digest = spec(KEY.dag, tasks)
        body = commands.apply_dag(KEY.dag, digest, "")
        return self.command(body, version=(digest, stored))

    def trigger(self, run_id):
        return self.command(commands.trigger_run(KEY.dag, run_id, 0))

    def outcome(self, number):
        found = self.database.read_command(number).outcome
        return None if found is None else CommandOutcome(found)

    async def leads(self, epoch):
        await self.journal.until(
            lambda: self.journal.claims and self.journal.claims[0].epoch == epoch
        )

    async def applied(self, *numbers):
        await self.journal.until(lambda: all(self.outcome(number) for number in numbers))

    def connect(self, cpu_millis=4_000):
        """An agent that grants all it has, with a session of its own."""
        room = Resources(cpu_millis, 1 << 30)
        self.fleet.connect("a", b"i" * 16, room)
        self.fleet.grant("a", room)
        session = Session()
        self.journal.mailbox.put(Delivery((inventory(),), session))
        return session


@asynccontextmanager
async def led(cluster, leadership):
    """Runs a leadership beside the block and stops it."""
    task = asyncio.ensure_future(leadership.run())
    try:
        yield task
    finally:
        leadership.stop()
        async with asyncio.timeout(60):
            await task
