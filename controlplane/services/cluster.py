"""Use cases of the cluster itself: shards, nodes, agents, and who answers."""

from __future__ import annotations

from dataclasses import dataclass

from mainspring.v1 import admin_pb2

from controlplane.codec.dags import AgentView, agent_message
from controlplane.codec.durations import timestamp
from controlplane.core.fleet.placement import Room
from controlplane.services.ports import Membership, Rooms
from controlplane.services.requests import page_key, page_size, page_token, question
from controlplane.store.api import ApiStore
from controlplane.store.records import AgentItem, ShardItem

DEFAULT_PAGE, MOST_PAGE = 100, 1_000


@dataclass(frozen=True, slots=True)
class Server:
    """The node that answers."""

    version: str
    cluster: str
    node: str
    shards: int


class ClusterService:
    """Every method raises a ServiceError or an error of the store."""

    def __init__(
        self, store: ApiStore, rooms: Rooms, membership: Membership, server: Server
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._membership = membership
        self._server = server

    async def list_shards(
        self, _request: admin_pb2.ListShardsRequest
    ) -> admin_pb2.ListShardsResponse:
        """All shards with their leaders."""
        items = await self._store.list_shards()
        return admin_pb2.ListShardsResponse(shards=map(_shard, items))

    async def list_nodes(self, _request: admin_pb2.ListNodesRequest) -> admin_pb2.ListNodesResponse:
        """The nodes that are members now, as this node sees them."""
        members = sorted(self._membership.members.items())
        return admin_pb2.ListNodesResponse(
            nodes=[
                admin_pb2.Node(
                    name=f"nodes/{node}",
                    address=member.info.address,
                    start_time=timestamp(member.info.started_at_ms * 1_000),
                )
                for node, member in members
            ]
        )

    async def list_agents(
        self, request: admin_pb2.ListAgentsRequest
    ) -> admin_pb2.ListAgentsResponse:
        """A page of agents, in the order of their names."""
        size = page_size(request.page_size, DEFAULT_PAGE, MOST_PAGE)
        asked = question("agents")
        key = page_key(asked, request.page_token, (str,))
        items = await self._store.list_agents(str(key[0]) if key else "", size + 1)
        rooms = {room.agent: room for room in self._rooms.rooms()}
        return admin_pb2.ListAgentsResponse(
            agents=[agent_message(_agent(item, rooms.get(item.agent))) for item in items[:size]],
            next_page_token=page_token(asked, [items[size - 1].agent]) if len(items) > size else "",
        )

    async def server_info(
        self, tenant: str, _request: admin_pb2.GetServerInfoRequest
    ) -> admin_pb2.ServerInfo:
        """Who answers, and for which tenant."""
        server, standbys = self._server, await self._store.list_asynchronous_standbys()
        return admin_pb2.ServerInfo(
            version=server.version,
            cluster=server.cluster,
            node=server.node,
            shards=server.shards,
            tenant=tenant,
            asynchronous_standbys=standbys,
        )


def _shard(item: ShardItem) -> admin_pb2.Shard:
    return admin_pb2.Shard(
        name=f"shards/{item.shard}",
        epoch=item.epoch,
        node=item.node,
        address=item.address,
        batch=item.batch,
        takeover_time=timestamp(item.taken_over_us or None),
        live_runs=item.live_runs,
        live_attempts=item.live_attempts,
        quarantined=item.quarantined,
        recovering_until=timestamp(item.hold_until_us or item.taken_over_us) if item.hold else None,
        recovering_reason=item.restored_reason if item.hold else "",
    )


def _agent(item: AgentItem, room: Room | None) -> AgentView:
    return AgentView(
        agent=item.agent,
        connected=room is not None and room.connected,
        cpu_millis=item.cpu_millis,
        memory_bytes=item.memory_bytes,
        live_attempts=item.live_attempts,
        incarnation=item.incarnation,
        connected_us=item.connected_us,
        granted_cpu_millis=0 if room is None else room.grant_cpu,
        containment=item.containment,
    )
