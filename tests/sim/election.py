"""The election of a simulated node: all of the production's, on an etcd in memory.

Decides the times of coordination, and what it means that a shard is handed over on purpose. Does
not know who leads.
"""

from __future__ import annotations

import asyncio
import dataclasses
from random import Random

from controlplane.coordination.candidacy import LossReason
from controlplane.coordination.election import Election
from controlplane.coordination.keys import Keyspace
from controlplane.coordination.membership import Membership, NodeInfo
from controlplane.coordination.records import Record
from controlplane.coordination.settings import CoordinationSettings
from controlplane.leader.leaderships import Leaderships
from tests.sim.etcd import MemoryEtcd
from tests.sim.etcd_client import MemoryClient, MemoryLease
from tests.sim.virtual import VirtualLoop

LEASE_TTL_S = 3.0
CLUSTER = "sim"
KEYSPACE = Keyspace(CLUSTER)
# How long a shard that was handed over is left to others.
HAND_OVER_S = 1.0


class Keys(MemoryEtcd):
    """The etcd of one cluster of so many shards."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self.shards = shards
        # Shards move to nodes that should rather lead them; a story says when itself.
        self.moves = True

    @property
    def holders(self) -> dict[int, Record]:
        """Leader keys by shard."""
        keys = {shard: KEYSPACE.leader(shard) for shard in range(self.shards)}
        return {shard: self.records[key] for shard, key in keys.items() if key in self.records}

    def remove(self, shard: int) -> None:
        """The leader key of a shard is lost."""
        self.delete(KEYSPACE.leader(shard))


class SimElection(Election):
    """The election of one start of a node, and what it stands on."""

    def __init__(self, node: str, keys: Keys, leaderships: Leaderships, random: Random) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        settings = settings_of(random, moves=keys.moves)
        self.client = MemoryClient(keys, settings, random)
        self.lease = MemoryLease(settings, self.client)
        me = NodeInfo(node=node, address=node, started_at_ms=loop.wall_us // 1_000)
        self.membership = Membership(self.client, self.lease, settings, me)
        super().__init__(
            self.client,
            self.lease,
            self.membership,
            settings,
            shards=keys.shards,
            listener=leaderships,
        )

    @property
    def sees_etcd(self) -> bool:
        """Without etcd a node keeps leading, and does not hear that its keys are another's."""
        return self.client.sees_etcd

    @sees_etcd.setter
    def sees_etcd(self, sees: bool) -> None:
        self.client.sees_etcd = sees

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.lease.run())
            group.create_task(self.membership.run())
            group.create_task(super().run())

    def hand_over(self, shard: int) -> None:
        """Gives a key up for a better node; who leads goes on."""
        barred_until = self._now() + HAND_OVER_S
        if self._candidacy.resign(shard, barred_until=barred_until) is not None:
            self._listener.on_lost(shard, LossReason.HANDED_OVER)
            self._wake.set()


def settings_of(random: Random, *, moves: bool) -> CoordinationSettings:
    """Those of a node with a short lease, with jitter from its dice."""
    usual = CoordinationSettings.of_lease(CLUSTER, ("etcd:2379",), round(LEASE_TTL_S * 1_000))
    handover_after_ms = usual.handover_after_ms if moves else 3_600_000
    return dataclasses.replace(usual, draw=random.uniform, handover_after_ms=handover_after_ms)
