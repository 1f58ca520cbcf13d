"""Serves AdminService: hands over, with the tenant of the credential where it is asked for."""

from __future__ import annotations

from typing import Any

from mainspring.v1 import admin_pb2, admin_pb2_grpc

from controlplane.api.credentials import caller
from controlplane.services.cluster import ClusterService


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """One method for each of the contract."""

    def __init__(self, cluster: ClusterService) -> None:
        self._cluster = cluster

    async def ListShards(  # noqa: N802
        self, request: admin_pb2.ListShardsRequest, _context: Any
    ) -> admin_pb2.ListShardsResponse:
        return await self._cluster.list_shards(request)

    async def ListNodes(  # noqa: N802
        self, request: admin_pb2.ListNodesRequest, _context: Any
    ) -> admin_pb2.ListNodesResponse:
        return await self._cluster.list_nodes(request)

    async def ListAgents(  # noqa: N802
        self, request: admin_pb2.ListAgentsRequest, _context: Any
    ) -> admin_pb2.ListAgentsResponse:
        return await self._cluster.list_agents(request)

    async def GetServerInfo(  # noqa: N802
        self, request: admin_pb2.GetServerInfoRequest, _context: Any
    ) -> admin_pb2.ServerInfo:
        return await self._cluster.server_info(caller().tenant, request)
