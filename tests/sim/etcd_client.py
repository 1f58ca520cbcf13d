"""How a simulated node reaches the etcd in memory: late, in vain, or with the answer lost.

Keeps the promises of the ports of coordination, as the client over gRPC does. Everything random is
drawn from dice of the node.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable
from random import Random
from typing import TypeVar

from controlplane.coordination.errors import EtcdUnavailable, LeaseNotFound
from controlplane.coordination.keeper import LeaseKeeper
from controlplane.coordination.records import (
    Change,
    DeleteOutcome,
    Grant,
    LeaseChange,
    LeaseGranted,
    PutOutcome,
    Record,
    Snapshot,
)
from controlplane.coordination.settings import CoordinationSettings
from controlplane.coordination.watch import PrefixWatch
from tests.sim.etcd import MemoryEtcd, MemoryStream
from tests.sim.virtual import pass_time

Answer = TypeVar("Answer")

WAY_S = (0.0002, 0.002)


class MemoryClient:
    """The client of one start of a node. `lossy`: share of answers that are lost on their way."""

    def __init__(self, etcd: MemoryEtcd, settings: CoordinationSettings, random: Random) -> None:
        self.sees_etcd = True
        self.lossy = 0.0
        self._etcd = etcd
        self._settings = settings
        self._random = random
        self._closed = False

    def close(self) -> None:
        """The process is dead: what its code still does reaches nobody."""
        self._closed = True

    # Keys

    async def get(self, key: str) -> Record | None:
        return await self._call(lambda: self._etcd.get(key))

    async def get_prefix(self, prefix: str) -> Snapshot:
        return await self._call(lambda: self._etcd.get_prefix(prefix))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return await self._call(lambda: self._etcd.put(key, value, lease))

    async def put_if(
        self, key: str, value: bytes, *, create_revision: int, lease: int
    ) -> PutOutcome:
        return await self._call(lambda: self._etcd.put_if(key, value, create_revision, lease))

    async def put_if_absent(self, key: str, value: bytes, *, lease: int) -> PutOutcome:
        outcome = await self.put_if(key, value, create_revision=0, lease=lease)
        found = outcome.record
        ours = found is not None and (found.lease, found.value) == (lease, value)
        return dataclasses.replace(outcome, done=outcome.done or ours)

    async def delete(self, key: str) -> bool:
        return await self._call(lambda: self._etcd.delete(key))

    async def delete_if(self, key: str, create_revision: int, lease: int) -> DeleteOutcome:
        return await self._call(lambda: self._etcd.delete_if(key, create_revision, lease))

    async def compact(self, revision: int) -> None:
        await self._call(lambda: self._etcd.compact(revision))

    def watch_prefix(self, prefix: str, *, poll_ms: int) -> AsyncGenerator[Change, None]:
        backoff = self._settings.backoff
        return PrefixWatch(self, prefix, poll_ms=poll_ms, backoff=backoff).changes()

    async def open_watch(self, prefix: str, start_revision: int) -> MemoryStream:
        stream = await self._call(lambda: self._etcd.open_watch(prefix, start_revision))
        stream.cut = lambda: not self.sees_etcd
        return stream

    # Leases

    async def grant(self, ttl_s: int) -> Grant:
        return await self._call(lambda: self._etcd.grant(ttl_s))

    async def grant_lease(self, ttl_s: int) -> int:
        return (await self.grant(ttl_s)).lease

    async def renew(self, lease: int) -> int:
        return await self._call(lambda: self._etcd.renew(lease))

    async def revoke_lease(self, lease: int) -> None:
        await self._call(lambda: self._etcd.revoke(lease))

    async def lease_ttl_s(self, lease: int) -> int:
        return await self._call(lambda: self._etcd.lease_ttl_s(lease))

    async def _call(self, do: Callable[[], Answer]) -> Answer:
        """There and back; who gets no answer does not know what became of it."""
        if self._closed:
            raise EtcdUnavailable("CANCELLED", "closed")
        await pass_time(self._random.uniform(*WAY_S))
        if self._etcd.down and self.sees_etcd:
            raise EtcdUnavailable("UNAVAILABLE", "connection refused")
        if self._etcd.paused or not self.sees_etcd:
            await pass_time(self._settings.deadline_ms / 1_000)
            raise EtcdUnavailable("DEADLINE_EXCEEDED", "no answer")
        answer = do()
        if self.lossy and self._random.random() < self.lossy:
            await pass_time(self._settings.deadline_ms / 1_000)
            raise EtcdUnavailable("DEADLINE_EXCEEDED", "the answer was lost")
        await pass_time(self._random.uniform(*WAY_S))
        return answer


class MemoryLease:
    """The lease of one start of a node: the production keeper, with no thread of its own."""

    def __init__(self, settings: CoordinationSettings, client: MemoryClient) -> None:
        self.current: int | None = None
        self._client = client
        self._listeners: list[Callable[[LeaseChange], None]] = []
        now = asyncio.get_running_loop().time
        self._keeper = LeaseKeeper(settings, now=now, tell=self._deliver)

    def add_listener(self, listener: Callable[[LeaseChange], None]) -> None:
        self._listeners.append(listener)

    async def run(self) -> None:
        await self._keeper.run(self)

    # The lease service of the keeper

    async def grant(self, ttl_s: int) -> Grant:
        return await self._client.grant(ttl_s)

    async def renew(self, lease: int) -> int:
        return await self._client.renew(lease)

    async def revoke(self, lease: int) -> None:
        try:
            await self._client.revoke_lease(lease)
        except LeaseNotFound:
            return

    async def pause(self, seconds: float) -> bool:
        await pass_time(seconds)
        # One loop does everything here: when this goes on, so does the rest of it.
        self._keeper.tick()
        return False

    def _deliver(self, change: LeaseChange) -> None:
        self.current = change.lease if isinstance(change, LeaseGranted) else None
        for listener in self._listeners:
            listener(change)
