"""Everything of coordination that one node runs, put together.

Decides the order of starting and stopping. Promises that a graceful stop frees the shards of the
node at once: first the keys, then the lease with the membership record. Knows nothing of leaders.
"""

from __future__ import annotations

import asyncio

from controlplane.coordination.client import EtcdClient
from controlplane.coordination.election import Election, ElectionListener
from controlplane.coordination.lease import NodeLease
from controlplane.coordination.membership import Membership, NodeInfo
from controlplane.coordination.settings import CoordinationSettings


class NodeCoordination:
    """Make it inside the event loop, `run` it for the life of the node.

    For a graceful stop: stop the leaders, `await election.resign_all()`, cancel `run`.
    """

    def __init__(
        self,
        settings: CoordinationSettings,
        me: NodeInfo,
        *,
        shards: int,
        listener: ElectionListener,
    ) -> None:
        self.client = EtcdClient.from_settings(settings)
        self.lease = NodeLease(settings)
        self.membership = Membership(self.client, self.lease, settings, me)
        self.election = Election(
            self.client, self.lease, self.membership, settings, shards=shards, listener=listener
        )

    async def run(self) -> None:
        async with self.client, asyncio.TaskGroup() as group:
            group.create_task(self.lease.run())
            group.create_task(self.membership.run())
            group.create_task(self.election.run())
