"""All leaderships of one node: what the election says becomes leaders, and their end resigned keys.

Decides when a leader goes: when it is deposed, when the node stops, and when it could not commit
for a while and another node can. Nothing that etcd says ends a leader: a key that is lost, taken or
handed over lets another node try, and only the fence deposes; so a shard has a leader until the
next one is there, even if etcd goes in between. Promises one leader a shard, and that whoever leads
here can be poked. Does not know epochs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

import structlog

from controlplane.coordination.candidacy import LeaderKey, LossReason
from controlplane.coordination.membership import LiveNode
from controlplane.leader.leadership import Leadership, LeaderStore, Surroundings
from controlplane.store.errors import StoreError

_log = structlog.get_logger(__name__)

UPKEEP_MS = 1_000
# A shard that crashed here is left to others for so long.
CRASH_PAUSE_MS = 5_000
# How long the store has to answer a node that leads nothing.
PROBE_S = 1.0
# Others must commit for as long as this many of a leader's longest pauses before it gives up.
PAUSES_GRANTED = 3
MICROS_PER_MS = 1_000


class Members(Protocol):
    """The nodes of the cluster, and what this one says of itself."""

    @property
    def members(self) -> Mapping[str, LiveNode]: ...

    def publish(self, *, committed_at_ms: int | None = None) -> None: ...


class Leaderships:
    """The listener of the election; `run` for the life of the node, `stop` before its end."""

    def __init__(self) -> None:
        self._around: Surroundings | None = None
        self._group: asyncio.TaskGroup | None = None
        self._leading: dict[int, Leadership] = {}
        self._won: dict[int, LeaderKey] = {}
        # Leaderships that have not ended, or whose keys are still being given up.
        self._ending = 0
        # Since when others commit without a break; None: they do not.
        self._outdone_since_ms: int | None = None
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def led(self) -> frozenset[int]:
        """Shards whose inbox is looked into here."""
        return frozenset(n for n, each in self._leading.items() if each.inbox is not None)

    # What the election says

    def on_elected(self, shard: int, key: LeaderKey) -> None:
        """Takes the shard over; one that is led already goes on in its epoch under a new key."""
        self._won[shard] = key
        leading = self._leading.get(shard)
        if leading is None:
            self._begin(shard, key)
        elif not leading.stopping:
            leading.key = key

    def on_lost(self, shard: int, reason: LossReason) -> None:
        """The key is not this node's any more: a leader goes on until the fence deposes it."""
        if self._won.pop(shard, None) is not None:
            _log.info("leads_without_key", shard=shard, reason=reason.value)

    # What the node does

    async def run(self, around: Surroundings, members: Members) -> None:
        """Leads what is won, until cancelled."""
        self._around = around
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(around.speaker.memories.run(around.store))
            for shard, key in self._won.items():
                self._begin(shard, key)
            while True:
                await asyncio.sleep(UPKEEP_MS / 1_000)
                await self._report(around, members)
                self._end_stuck(members)

    async def stop(self) -> None:
        """Ends all leaderships and gives up their keys, one by one as they end; what is not done by
        the deadline is left to the fence.
        """
        self._closing = True
        for leading in self._leading.values():
            leading.stop()
        if self._around is not None:
            try:
                async with asyncio.timeout(self._around.times.drain_ms / 1_000):
                    await self._idle.wait()
            except TimeoutError:
                _log.warning("leaders_not_drained", shards=sorted(self._leading))

    async def poke(
        self, shards: Collection[int], commands: Collection[int], wait_ms: int
    ) -> frozenset[int]:
        """The leaders here look into the inboxes of these shards; returns which they are.

        Returns once all commands are applied, or after `wait_ms`, or when none is led here.
        """
        inboxes = {
            shard: leading.inbox
            for shard in shards
            if (leading := self._leading.get(shard)) is not None and leading.inbox is not None
        }
        for inbox in inboxes.values():
            inbox.poke()
        if commands and wait_ms > 0:
            # A number that is not in an inbox counts as done with there.
            waits = [each.wait_applied(commands, wait_ms / 1_000) for each in inboxes.values()]
            await asyncio.gather(*waits)
        return frozenset(inboxes)

    def _begin(self, shard: int, key: LeaderKey) -> None:
        if self._group is None or self._around is None or self._closing:
            return
        leading = self._leading[shard] = Leadership(shard, key, self._around)
        self._ending += 1
        self._idle.clear()
        self._group.create_task(self._serve_to_the_end(leading), name=f"shard {shard}")

    async def _serve_to_the_end(self, leading: Leadership) -> None:
        assert self._around is not None, "a leadership begins with its surroundings"
        try:
            await self._serve(leading, self._around)
        finally:
            self._ending -= 1
            if not self._ending:
                self._idle.set()

    async def _serve(self, leading: Leadership, around: Surroundings) -> None:
        """One leadership to its end; then the key is given up, unless a later one was won."""
        shard, pause_ms = leading.shard, None
        try:
            await leading.run()
        except Exception:  # noqa: BLE001  (top of the task: the shard goes, the node stays)
            _log.exception("shard_crashed", shard=shard)
            pause_ms = CRASH_PAUSE_MS
        finally:
            del self._leading[shard]
        if self._won.get(shard) == leading.key:
            del self._won[shard]
            await around.candidate.resign(shard, pause_ms=pause_ms)
        elif shard in self._won:
            self._begin(shard, self._won[shard])

    async def _report(self, around: Surroundings, members: Members) -> None:
        """Tells the other nodes when this one committed last: once a second, none is missed.

        One that leads nothing asks the store instead: a leader that cannot reach it must hear that
        another can.
        """
        if not self._leading:
            if await _reaches(around.store):
                members.publish(committed_at_ms=around.clock.now().wall_us // MICROS_PER_MS)
            return
        last_us = max((each.committed_wall_us for each in self._leading.values()), default=0)
        if last_us:
            members.publish(committed_at_ms=last_us // MICROS_PER_MS)

    def _end_stuck(self, members: Members) -> None:
        assert self._around is not None, "upkeep begins with the surroundings"
        times, now = self._around.times, self._around.clock.now()
        fresh_ms = now.wall_us // MICROS_PER_MS - times.peer_commit_ms
        others = (m.info for name, m in members.members.items() if name != self._around.node)
        if not any(info.committed_at_ms >= fresh_ms for info in others):
            self._outdone_since_ms = None
            return
        if self._outdone_since_ms is None:
            self._outdone_since_ms = now.mono_ms
        # After an outage for all, one node is the first that commits: the next tries of the others
        # are due soon.
        if now.mono_ms - self._outdone_since_ms < PAUSES_GRANTED * times.retry_max_ms:
            return
        for shard, leading in self._leading.items():
            if leading.without_commit_ms > times.stuck_ms and not leading.stopping:
                _log.warning("shard_resigned_without_commits", shard=shard)
                leading.stop()


async def _reaches(store: LeaderStore) -> bool:
    try:
        async with asyncio.timeout(PROBE_S):
            await store.read_shard(0)
    except (StoreError, TimeoutError):
        # While a dump is put back there may be no tables: that must not end a node.
        return False
    return True
