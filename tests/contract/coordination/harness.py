"""What the tests of coordination share: short times, waiting with a deadline, a node in small."""

import asyncio
import dataclasses
from contextlib import asynccontextmanager

from controlplane.coordination.membership import NodeInfo
from controlplane.coordination.node import NodeCoordination
from controlplane.coordination.settings import CoordinationSettings

# One deadline for everything that a test waits for: generous, because it is met only by failures.
PATIENCE_S = 20.0


def short_settings(cluster, *endpoints, **changes):
    """Settings with a lease of 1 s, and everything else in proportion."""
    settings = CoordinationSettings(
        cluster=cluster,
        endpoints=endpoints,
        lease_ttl_ms=1_000,
        renew_ms=200,
        deadline_ms=400,
        tick_ms=50,
        max_stall_ms=400,
        poll_ms=500,
        campaign_pause_ms=100,
        handover_after_ms=300,
        report_ms=50,
        backoff_min_ms=20,
        backoff_max_ms=100,
    )
    return dataclasses.replace(settings, **changes)


@asynccontextmanager
async def running(coroutine):
    """Run it beside the test, which fails if it fails; cancel it and see it end."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


class Journal:
    """What happened, in order; tests wait for entries instead of sleeping."""

    def __init__(self):
        self.entries = []
        self._news = asyncio.Event()

    def note(self, entry):
        self.entries.append(entry)
        self._news.set()

    async def until(self, holds):
        """Wait until holds(entries); returns what it returned."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (found := holds(self.entries)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain; so far: {self.entries}") from None
        return found

    async def has(self, entry):
        await self.until(lambda entries: entry in entries)


class Node:
    """One node's coordination with everything it says in a journal."""

    def __init__(self, settings, name, *, shards):
        self.name = name
        self.journal = Journal()
        me = NodeInfo(node=name, address=f"{name}:1", started_at_ms=1)
        self.coordination = NodeCoordination(settings, me, shards=shards, listener=self)
        self.coordination.lease.add_listener(lambda change: self.journal.note(("lease", change)))
        self.coordination.membership.add_listener(self._note_members)

    @property
    def lease(self):
        return self.coordination.lease

    @property
    def membership(self):
        return self.coordination.membership

    @property
    def election(self):
        return self.coordination.election

    def _note_members(self):
        self.journal.note(("members", *sorted(self.membership.members)))

    def on_elected(self, shard, key):
        self.journal.note(("elected", shard, key))

    def on_lost(self, shard, reason):
        self.journal.note(("lost", shard, reason))

    async def holds(self, *shards):
        """Wait until the node holds exactly these shards."""
        await self.journal.until(lambda _: set(self.election.held) == set(shards))

    async def sees(self, *names):
        await self.journal.until(lambda _: set(self.membership.members) == set(names))

    async def lost(self, shard):
        """Wait for the loss of a shard; returns the reason."""
        found = await self.journal.until(
            lambda entries: [e for e in entries if e[:2] == ("lost", shard)]
        )
        return found[-1][2]
