"""What the tests of the leader share: virtual time, a core and a store that follow a script."""

import asyncio
import itertools
from collections import deque

from mainspring.v1 import dag_pb2

from controlplane.codec import commands
from controlplane.codec.dag import canonical
from controlplane.core.effects import (
    AppliedRow,
    CommandOutcome,
    Effects,
    ResultAckMessage,
    StartedRow,
    Writes,
)
from controlplane.core.events import Finished, Inventory, TriggerRun
from controlplane.core.shard.queue import NO_WANT
from controlplane.core.states import AttemptState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import DagKey
from controlplane.leader.claim import Claim
from controlplane.leader.committer import Committer
from controlplane.leader.inbox import Inbox
from controlplane.leader.loop import LeaderLoop, LoopParts
from controlplane.leader.mailbox import Mailbox
from controlplane.leader.news import RunNews
from controlplane.leader.patience import Patience
from controlplane.leader.times import LeaderTimes
from controlplane.store.records import ShardState
from controlplane.telemetry.stats import Stats
from tests.sim.virtual import run_virtual

CLAIM = Claim(0, 7, b"h" * 16)
TIMES = LeaderTimes()
KEY = DagKey("default", "line")
PATIENCE_S = 60.0


def virtual(test):
    """Runs an asynchronous test on virtual time."""

    def on_virtual_time(*args, **kwargs):
        return run_virtual(test(*args, **kwargs))

    on_virtual_time.__name__ = test.__name__
    return on_virtual_time


class LoopClock:
    """The clock of the virtual loop."""

    def now(self):
        loop = asyncio.get_running_loop()
        return Now(loop.wall_us, int(loop.time() * 1_000 + 0.001))

    def ticks_us(self):
        return int(asyncio.get_running_loop().time() * 1_000_000)


class CountedIds:
    """Entropy that counts."""

    def __init__(self):
        self._numbers = itertools.count(1)

    def attempt_ids(self, count):
        return [next(self._numbers).to_bytes(16, "big") for _ in range(count)]

    def holder(self):
        return next(self._numbers).to_bytes(16, "big")

    def run_id(self, wall_us):
        return wall_us.to_bytes(16, "big")


class ScriptedStore:
    """Takes every batch unless the script says otherwise.

    `outcomes`: for the next commits an exception to raise, a Future to wait for, or False (it was
    there already). `batches`: what was sent, in order.
    """

    def __init__(self):
        self.outcomes = deque()
        self.batches = []
        self.commands = []
        self.versions = []
        self.failing_reads = deque()
        self.reads = []
        self.set_aside = []
        self.released = []
        self.run_keys = itertools.count(1)

    async def commit(self, fence, writes, *, settle=False):
        self.batches.append((fence, writes, settle))
        return await self._outcome()

    async def quarantine(self, fence, source, reason, *, settle=False):
        self.batches.append((fence, None, settle))
        self.set_aside.append((source, reason))
        return await self._outcome()

    async def _outcome(self):
        outcome = self.outcomes.popleft() if self.outcomes else True
        if isinstance(outcome, asyncio.Future):
            outcome = await outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _read(self, what):
        self.reads.append(what)
        if self.failing_reads:
            raise self.failing_reads.popleft()

    async def read_commands(self, shard, limit, after_failed):
        self._read("commands")
        found = [row for row in self.commands if row.command not in after_failed]
        return sorted(found)[:limit]

    async def read_versions(self, wanted):
        self._read("versions")
        return [row for row in self.versions if (DagKey(row.tenant, row.dag), row.digest) in wanted]

    async def reserve_run_keys(self, count):
        self._read("run_keys")
        return [next(self.run_keys) for _ in range(count)]

    async def read_shard(self, shard):
        self._read("shard")
        return ShardState(shard, 6, 0, b"", "", "", 0)

    def release(self, shard):
        self.released.append(shard)


class ScriptedCore:
    """Answers each finished attempt by a row and an acknowledgement, each command by a row.

    `poison`: attempts and commands at which it breaks; `silent`: events that make no rows.
    """

    def __init__(self):
        self.steps = []
        self.poison = set()
        self.broken_timers = 0
        self.deadline_ms = None
        self.attempt_ids_wanted = 0
        self.run_keys_wanted = 0
        self.offered = []
        self.missing = set()
        self.want = NO_WANT

    def step(self, events, now):
        self.steps.append(list(events))
        if self.deadline_ms is not None and self.deadline_ms <= now.mono_ms:
            self.deadline_ms = None
            if self.broken_timers:
                self.broken_timers -= 1
                raise KeyError("a timer")
        effects = Effects()
        for event in events:
            self._take(event, effects)
        return effects

    def _take(self, event, effects):
        for ended in getattr(event, "finished", ()):
            self._take(ended, effects)
        if isinstance(event, Finished):
            assert event.attempt_id not in self.poison, "poisoned"
            effects.writes.started.append(StartedRow(1, 1, 0, 1))
            effects.messages.append(ResultAckMessage(event.agent, event.attempt_id))
        elif isinstance(event, TriggerRun):
            assert event.command not in self.poison, "poisoned"
            row = AppliedRow(event.command, CommandOutcome.APPLIED, "", 1)
            effects.writes.applied.append(row)

    def next_deadline(self):
        return self.deadline_ms

    def missing_versions(self, events):
        return self.missing

    def offer_versions(self, versions):
        self.offered += versions
        self.missing = set()

    def offer_attempt_ids(self, ids):
        self.attempt_ids_wanted = 0
        self.offered += ids

    def offer_run_keys(self, keys):
        self.run_keys_wanted = 0
        self.offered += keys


class Remembered(list):
    """What agents remember, of any shard; put before no store."""

    def words(self, shard):
        return list(self)

    async def run(self, store):
        await asyncio.Event().wait()


class Journal:
    """A speaker that keeps what it is told."""

    def __init__(self):
        self.said = []
        self.claims = []
        self.decided_ms = []
        self.steps = 0
        self.memories = Remembered()
        self._news = asyncio.Event()

    def lead(self, claim, mailbox, batches):
        self.mailbox = mailbox
        self._note(self.claims, claim)

    def withdraw(self, claim):
        if claim in self.claims:
            self.claims.remove(claim)
        self._news.set()

    def speak(self, claim, batch, messages, sessions, received_us, decided_ms):
        at_ms = LoopClock().now().mono_ms
        self._note(self.said, (batch, list(messages), dict(sessions), received_us, at_ms))
        self.decided_ms.append(decided_ms)

    def stepped(self, shard, want):
        self.steps += 1
        self._news.set()

    def _note(self, entries, entry):
        entries.append(entry)
        self._news.set()

    async def until(self, holds):
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    @property
    def acknowledged(self):
        return [each.attempt_id for said in self.said for each in said[1]]


class Session:
    """A source that can end."""

    def __init__(self):
        self.live = True


class Shell:
    """A loop with everything that it works with."""

    def __init__(self, **more):
        clock = LoopClock()
        self.store, self.core, self.journal = ScriptedStore(), ScriptedCore(), Journal()
        self.mailbox, self.stats, self.patience = Mailbox(), Stats(), Patience(TIMES, b"seed")
        now_ms = clock.now().mono_ms
        self.committer = Committer(
            CLAIM, self.store, clock, self.stats, TIMES, self.patience, now_ms
        )
        self.inbox = Inbox(0, self.store, self.mailbox, TIMES)
        parts = LoopParts(
            self.core,
            self.store,
            self.committer,
            self.mailbox,
            self.inbox,
            self.journal,
            clock,
            CountedIds(),
            self.stats,
            self.patience,
            RunNews(),
        )
        self.loop = LeaderLoop(CLAIM, parts, **more)

    async def __aenter__(self):
        self.running = asyncio.ensure_future(self.loop.run())
        return self

    async def __aexit__(self, *_):
        self.patience.give_up()
        self.mailbox.nudge()
        async with asyncio.timeout(PATIENCE_S):
            self.end = await self.running

    @property
    def rows(self):
        """The batches that had rows."""
        return [writes for _, writes, _ in self.store.batches if writes]


def ended(number, agent="a"):
    """The end of an attempt."""
    state = AttemptState.SUCCEEDED
    return Finished(agent, number.to_bytes(16, "big"), state, 1, 2, 0, 0, 0, 0, "")


def inventory(*finished, agent="a", live=()):
    return Inventory(agent, b"i" * 16, live, finished)


def trigger(command):
    return TriggerRun(command, KEY, b"r" * 16, 0)


def trigger_body():
    return commands.trigger_run(KEY.dag, b"r" * 16, 0)


def some_writes():
    return Writes(started=[StartedRow(1, 1, 0, 1)])


def spec(dag="line", tasks=1):
    """The stored bytes and the digest of a small definition."""
    process = dag_pb2.ProcessSpec(argv=["true"])
    made = [
        dag_pb2.TaskSpec(task=f"t{n}", depends_on=[f"t{n - 1}"] if n else [], process=process)
        for n in range(tasks)
    ]
    return canonical(dag_pb2.DagSpec(dag=dag, tasks=made))
