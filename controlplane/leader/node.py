"""What a node leads with, put together: fleet, sessions, leaderships, coordination.

Decides the order of a graceful stop: the leaders finish their batches, and each gives up its key as
it ends, while the node says that it campaigns no more: other nodes wait neither for the lease nor
for this one. Promises that all tasks end with `run`. Does not know the doors of the node.
"""

from __future__ import annotations

import asyncio

from controlplane.coordination.membership import NodeInfo
from controlplane.coordination.node import NodeCoordination
from controlplane.coordination.settings import CoordinationSettings
from controlplane.core.fleet.placement import Fleet
from controlplane.leader.claim import LeaderClock
from controlplane.leader.leadership import LeaderStore, Surroundings
from controlplane.leader.leaderships import Leaderships
from controlplane.leader.news import RunNews
from controlplane.leader.sessions.hub import SessionHub
from controlplane.leader.sessions.roster import AgentRows, Roster
from controlplane.leader.sessions.servicer import AgentSessions
from controlplane.leader.times import LeaderTimes
from controlplane.telemetry.clock import Entropy
from controlplane.telemetry.stats import Stats


class LeadingNode:
    """Make it inside the event loop; `run` it; `stop`, then cancel `run`."""

    def __init__(
        self,
        me: NodeInfo,
        shards: int,
        store: LeaderStore,
        agents: AgentRows,
        settings: CoordinationSettings,
        clock: LeaderClock,
        entropy: Entropy,
        stats: Stats,
        times: LeaderTimes | None = None,
    ) -> None:
        self.fleet = Fleet()
        self.leaderships = Leaderships()
        self.news = RunNews()
        self.times = times or LeaderTimes.of_leader_lease(settings.lease_ttl_ms)
        self.hub = SessionHub(
            me.node,
            self.fleet,
            Roster(agents, entropy.holder()),
            clock,
            stats,
            heartbeat_ms=self.times.heartbeat_ms,
            attempt_lease_ms=self.times.attempt_lease_ms,
        )
        self.sessions = AgentSessions(self.hub, clock, stats)
        self.coordination = NodeCoordination(settings, me, shards=shards, listener=self.leaderships)
        self._around = Surroundings(
            me.node,
            me.address,
            store,
            self.coordination.election,
            self.fleet,
            self.hub,
            clock,
            entropy,
            stats,
            self.times,
            self.news,
        )
        self.coordination.membership.add_listener(self._tell_peers)

    async def run(self) -> None:
        """Campaigns, leads and serves agents until cancelled."""
        membership = self.coordination.membership
        async with asyncio.TaskGroup() as group:
            group.create_task(self.hub.run())
            group.create_task(self.leaderships.run(self._around, membership))
            group.create_task(self.coordination.run())

    async def stop(self) -> None:
        """Hands all shards over; nothing is led here afterwards."""
        await asyncio.gather(self.coordination.membership.retire(), self.leaderships.stop())
        await self.coordination.election.resign_all()
        self.hub.close_all("the node stops")

    def _tell_peers(self) -> None:
        members = self.coordination.membership.members.values()
        self.hub.set_peers(member.info.address for member in members)
