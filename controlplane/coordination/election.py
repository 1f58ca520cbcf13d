"""Campaigns for all shards of the cluster on behalf of one node.

Decides nothing by itself: `candidacy` plans, this module reads, acts and reports. Promises: a shard
is reported as elected after its key is seen bound to this node's lease; a lost key is reported with
its reason; a resigned key is deleted even if etcd is away for a while. Knows nothing of epochs: who
is elected may *try* to lead, and who lost its key goes on until the fence says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Protocol

import structlog

from controlplane.coordination.candidacy import (
    Candidacy,
    Electorate,
    LeaderKey,
    LossReason,
    Plan,
    ShardLeader,
    key_of,
    leader_value,
)
from controlplane.coordination.errors import EtcdError
from controlplane.coordination.keys import Keyspace
from controlplane.coordination.membership import Membership
from controlplane.coordination.ports import HeldLease, Keys
from controlplane.coordination.records import LeaseChange
from controlplane.coordination.settings import CoordinationSettings

_log = structlog.get_logger(__name__)

_CALLS_AT_ONCE = 32


class ElectionListener(Protocol):
    """Whom the election tells. Called by the main loop, must not block or raise.

    After `on_lost` a leader goes on until it is deposed; `on_elected` may follow while it still
    leads: then it has a new key and the same epoch.
    """

    def on_elected(self, shard: int, key: LeaderKey) -> None:
        """The shard may be taken over."""

    def on_lost(self, shard: int, reason: LossReason) -> None:
        """The key is no longer this node's. Not called for a key that `resign` gave up."""


class Election:
    """`run` for the life of the node; `resign_all` before it is cancelled in a graceful stop."""

    def __init__(
        self,
        client: Keys,
        lease: HeldLease,
        membership: Membership,
        settings: CoordinationSettings,
        *,
        shards: int,
        listener: ElectionListener,
    ) -> None:
        self._client = client
        self._lease = lease
        self._membership = membership
        self._settings = settings
        self._listener = listener
        self._keyspace = Keyspace(settings.cluster)
        self._candidacy = Candidacy(settings.cluster, shards)
        self._wake = asyncio.Event()
        self._leaving = False
        lease.add_listener(self._on_lease)
        membership.add_listener(self._wake.set)

    @property
    def held(self) -> Mapping[int, LeaderKey]:
        """Keys of this node, by shard."""
        return self._candidacy.held

    @property
    def leaders(self) -> Mapping[int, ShardLeader]:
        """Holders of the keys of all shards: where to poke, not who has authority."""
        return self._candidacy.leaders

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._campaign())

    async def verify(self, key: LeaderKey) -> bool:
        """Linearizable: is the key still the one that this node won? EtcdUnavailable = unknown."""
        record = await self._client.get(key.key)
        return record is not None and key_of(record) == key

    async def resign(self, shard: int, *, pause_ms: int | None = None) -> None:
        """Give up the shard's key and do not campaign for it during the pause.

        Without an answer of etcd the deletion is repeated in the background.
        """
        pause_ms = 2 * self._settings.campaign_pause_ms if pause_ms is None else pause_ms
        key = self._candidacy.resign(shard, barred_until=self._now() + pause_ms / 1_000)
        self._wake.set()
        if key is not None:
            await self._delete(key)

    async def resign_all(self) -> None:
        """Give up all keys for good: other nodes need not wait for the lease to end."""
        self._leaving = True
        keys = [self._candidacy.resign(n, barred_until=float("inf")) for n in self.held]
        await self._at_once([key for key in keys if key is not None])

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _at_once(self, keys: Sequence[LeaderKey]) -> None:
        remaining = iter(keys)
        while chunk := list(islice(remaining, _CALLS_AT_ONCE)):
            async with asyncio.TaskGroup() as group:
                for key in chunk:
                    group.create_task(self._delete(key))

    async def _delete(self, key: LeaderKey) -> None:
        try:
            outcome = await self._client.delete_if(key.key, key.create_revision, key.lease)
        except EtcdError as error:
            _log.info("leader_key_not_resigned", key=key.key, error=str(error))
            return
        if outcome.done:
            _log.info("leader_key_resigned", key=key.key)
            self._candidacy.saw_absent(key.key, outcome.revision)
            self._wake.set()

    def _on_lease(self, _change: LeaseChange) -> None:
        self._wake.set()

    async def _watch(self) -> None:
        changes = self._client.watch_prefix(self._keyspace.shards, poll_ms=self._settings.poll_ms)
        async with aclosing(changes):
            async for change in changes:
                self._candidacy.apply(change)
                self._wake.set()

    async def _campaign(self) -> None:
        backoff = self._settings.backoff
        while True:
            self._wake.clear()
            plan = self._review()
            self._report(plan)
            clean = await self._act(plan)
            if clean:
                backoff.reset()
            await self._pause(plan.review_at if clean else self._now() + backoff.next_s())

    def _review(self) -> Plan:
        pause_s = self._settings.campaign_pause_ms / 1_000
        return self._candidacy.review(
            self._now(),
            lease=None if self._leaving else self._lease.current,
            electorate=self._electorate(),
            pause_s=pause_s * self._settings.draw(1, 2),
            keep_s=self._settings.handover_after_ms / 1_000,
        )

    def _electorate(self) -> Electorate:
        old_enough = self._now() - self._settings.handover_after_ms / 1_000
        campaigning = {n: m for n, m in self._membership.members.items() if m.info.eligible}
        me = self._membership.me
        return Electorate(
            me=me.node,
            # Before the members are known every node would take itself for the only one.
            eligible=me.eligible and self._membership.known and not self._leaving,
            live=frozenset(campaigning),
            stable=frozenset(n for n, m in campaigning.items() if m.since <= old_enough),
        )

    def _report(self, plan: Plan) -> None:
        for shard, reason in plan.lost:
            log = _log.info if reason is LossReason.HANDED_OVER else _log.warning
            log("leader_key_lost", shard=shard, reason=reason.value)
            self._listener.on_lost(shard, reason)
        for shard, key in plan.elected:
            _log.info("leader_key_won", shard=shard, create_revision=key.create_revision)
            self._listener.on_elected(shard, key)

    async def _act(self, plan: Plan) -> bool:
        """Campaign and delete what was resigned; False = something failed and is to be retried."""
        await self._at_once(plan.resignations)
        lease = self._lease.current
        if lease is None:
            return True
        results: list[bool] = []
        remaining = iter(plan.campaigns)
        while chunk := list(islice(remaining, _CALLS_AT_ONCE)):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._try_for(shard, lease)) for shard in chunk]
            results += (task.result() for task in tasks)
        return all(results) and not plan.resignations

    async def _try_for(self, shard: int, lease: int) -> bool:
        """Campaign once. True = the key is known now, ours or not."""
        me = self._membership.me
        value = leader_value(me.node, me.address)
        try:
            outcome = await self._client.put_if_absent(
                self._keyspace.leader(shard), value, lease=lease
            )
        except EtcdError as error:
            _log.info("campaign_failed", shard=shard, error=str(error))
            return False
        if outcome.record is not None:
            self._candidacy.saw(outcome.record)
            self._wake.set()
        return outcome.record is not None

    async def _pause(self, until: float | None) -> None:
        """Wait for news, or for the moment, or for the next poll."""
        at_most_s = self._settings.poll_ms / 1_000
        timeout_s = at_most_s if until is None else min(at_most_s, until - self._now())
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._wake.wait()
        except TimeoutError:
            return
