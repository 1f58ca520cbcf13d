"""The leadership of one shard by this node, from the won key to the end.

The takeover, in this order:

1. Put before the store what agents remember of the shard, and read its epoch E.
2. Ask etcd, linearizably, whether the key is still the one that this node won.
3. Compare and set the epoch from E to a higher one, with a new holder. Any refusal: the key is
   given up and the campaign starts over.
4. Read all live rows and let a new core recover from them.
5. Announce the claim to the agents and run the loop.

Decides when to start over: after a batch that is known not to be stored, which leaves memory ahead
of the store. Promises that nothing of the shard stays in the fleet or in the sessions when it ends,
and that a source which failed alone is set aside, once. Does not know who else wants to lead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from controlplane.coordination.candidacy import LeaderKey
from controlplane.coordination.errors import EtcdError
from controlplane.core.events import RestoredRecord
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.book import SetAside
from controlplane.core.shard.shard import Shard
from controlplane.leader.caution import Caution, Failure, Key, key_of, text_of
from controlplane.leader.claim import Claim, LeaderClock, Speaker
from controlplane.leader.committer import Committer
from controlplane.leader.inbox import Inbox
from controlplane.leader.loop import LeaderLoop, LoopParts
from controlplane.leader.mailbox import Mailbox
from controlplane.leader.news import RunNews
from controlplane.leader.patience import GivenUp, Patience
from controlplane.leader.recovery import compiled_rows
from controlplane.leader.testimony import testify
from controlplane.leader.times import LeaderTimes
from controlplane.store.errors import StoreUnavailable, TakeoverRefused
from controlplane.store.ports import ShardStore
from controlplane.store.records import RecoveredRows, ShardWord
from controlplane.telemetry.clock import Entropy
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)


class Candidate(Protocol):
    """The election as a leader sees it."""

    async def verify(self, key: LeaderKey) -> bool: ...
    async def resign(self, shard: int, *, pause_ms: int | None = None) -> None: ...


class LeaderStore(ShardStore, Protocol):
    """The store of a leader that may go."""

    def release(self, shard: int) -> None:
        """The shard is not led here any more: nothing of it need be kept open."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all leaders of a node share. `node`, `address`: what the shard's row shall say."""

    node: str
    address: str
    store: LeaderStore
    candidate: Candidate
    fleet: Fleet
    speaker: Speaker
    clock: LeaderClock
    entropy: Entropy
    stats: Stats
    times: LeaderTimes
    news: RunNews = field(default_factory=RunNews)


class Leadership:
    """`run` once; `key` may be replaced by a later one of the same node meanwhile."""

    def __init__(self, shard: int, key: LeaderKey, around: Surroundings) -> None:
        self.shard = shard
        self.key = key
        self._around = around
        self._patience = Patience(around.times, around.entropy.holder())
        self._aside: frozenset[Key] = frozenset()
        self._committer: Committer | None = None
        self._inbox: Inbox | None = None
        self._mailbox: Mailbox | None = None
        self._since_ms = around.clock.now().mono_ms

    def stop(self) -> None:
        """Ends the leadership once the batch that is being committed is done."""
        self._patience.give_up()
        if self._mailbox is not None:
            self._mailbox.nudge()

    @property
    def inbox(self) -> Inbox | None:
        """The inbox of the epoch that is led; None: none is."""
        return self._inbox

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._patience.over

    @property
    def committed_wall_us(self) -> int:
        """When the last batch of the epoch was committed; 0: none was."""
        return self._committer.committed_wall_us if self._committer else 0

    @property
    def without_commit_ms(self) -> int:
        """How long there was no commit."""
        since_ms = self._committer.sent_ms if self._committer else self._since_ms
        return self._around.clock.now().mono_ms - since_ms

    async def run(self) -> None:
        """Leads until stopped, refused or deposed."""
        failure: Failure | None = None
        try:
            while not self._patience.over:
                failure = await self._reign(failure)
                if failure is None:
                    return
                await self._patience.pause()
        except TakeoverRefused as error:
            _log.info("takeover_refused", shard=self.shard, epoch=error.epoch)
        except GivenUp:
            return
        finally:
            self._around.store.release(self.shard)

    async def _reign(self, before: Failure | None) -> Failure | None:
        """One epoch. `before`: why the last one ended."""
        around = self._around
        taken = await self._take_over()
        if taken is None:
            _log.info("key_no_longer_held", shard=self.shard)
            return None
        claim, sent_ms = taken
        rows = await self._read_rows()
        claim = claim._replace(restored_epoch=rows.restored.epoch)
        self._warn(claim, rows.restored)
        stored = await compiled_rows(rows)
        try:
            now = around.clock.now()
            core = Shard(self.shard, around.fleet, now, around.times.leases)
            aside = core.recover(stored, now)
            _log.info("recovered", shard=claim.shard, epoch=claim.epoch, runs=core.live_runs)
            return await self._lead(claim, core, sent_ms, before, aside)
        finally:
            around.speaker.withdraw(claim)
            around.news.withdraw(self.shard)
            around.fleet.forget(self.shard)
            self._inbox = self._mailbox = self._committer = None
            self._since_ms = around.clock.now().mono_ms

    async def _lead(
        self,
        claim: Claim,
        core: Shard,
        sent_ms: int,
        before: Failure | None,
        aside: Sequence[SetAside],
    ) -> Failure | None:
        around = self._around
        mailbox = self._mailbox = Mailbox()
        committer = self._committer = Committer(
            claim, around.store, around.clock, around.stats, around.times, self._patience, sent_ms
        )
        inbox = self._inbox = Inbox(self.shard, around.store, mailbox, around.times)
        parts = LoopParts(
            core,
            around.store,
            committer,
            mailbox,
            inbox,
            around.speaker,
            around.clock,
            around.entropy,
            around.stats,
            self._patience,
            around.news,
        )
        loop = self._loop_after(before, claim, parts)
        for source, reason in aside:
            loop.quarantine(source, reason)
        around.speaker.lead(claim, mailbox, committer)
        around.news.lead(self.shard)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(inbox.run())
            try:
                failure = await loop.run()
            finally:
                looking.cancel()
        if loop.deposed:
            await self._testify(ShardWord(*claim[:3], committer.batch))
        return failure

    async def _testify(self, own: ShardWord) -> None:
        """What was committed here must be in the store, whoever leads now. Before the key is given
        up: who leads next may not know it.
        """
        while not self._patience.over:
            try:
                await testify(self._around.store, [own], self._around.stats)
            except StoreUnavailable as error:
                _log.warning("not_testified", shard=self.shard, error=str(error))
                await self._patience.pause()
            else:
                return

    def _warn(self, claim: Claim, restored: RestoredRecord) -> None:
        if not restored.hold:
            return
        if restored.epoch == claim.epoch:
            # The takeover itself found it out.
            self._around.stats.count("stores_went_back")
            _log.error("store_went_back", reason=restored.reason, shards=[self.shard])
        _log.warning("shard_recovers", shard=self.shard, epoch=claim.epoch, hold=restored.hold)

    def _loop_after(self, before: Failure | None, claim: Claim, parts: LoopParts) -> LeaderLoop:
        """A loop that is careful after a failure, and begins by setting aside what failed alone."""
        if before is None:
            return LeaderLoop(claim, parts, aside=self._aside)
        if before.alone:
            keys = {key for event in before.events if (key := key_of(event)) is not None}
            self._aside |= keys
        until_ms = parts.clock.now().mono_ms + self._around.times.caution_ms
        caution = Caution(before.events, until_ms)
        loop = LeaderLoop(claim, parts, caution=caution, aside=self._aside)
        if before.alone:
            for event in before.events:
                loop.quarantine(text_of(event), before.reason)
        return loop

    async def _take_over(self) -> tuple[Claim, int] | None:
        """The claim and when it was sent; None: the key is not this node's any more."""
        around = self._around
        while True:
            try:
                await testify(around.store, around.speaker.memories.words(self.shard), around.stats)
                state = await around.store.read_shard(self.shard)
                if not await around.candidate.verify(self.key):
                    return None
                holder, sent_ms = around.entropy.holder(), around.clock.now().mono_ms
                epoch = await around.store.take_over(
                    self.shard, state.epoch, holder, around.node, around.address
                )
            except (StoreUnavailable, EtcdError) as error:
                _log.info("takeover_failed", shard=self.shard, error=str(error))
                await self._patience.pause()
            else:
                self._patience.reset()
                _log.info("taken_over", shard=self.shard, epoch=epoch)
                return Claim(self.shard, epoch, holder), sent_ms

    async def _read_rows(self) -> RecoveredRows:
        while True:
            try:
                return await self._around.store.recover(self.shard)
            except StoreUnavailable as error:
                _log.warning("recovery_failed", shard=self.shard, error=str(error))
                await self._patience.pause()
