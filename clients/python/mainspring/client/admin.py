"""Calls of AdminService."""

from __future__ import annotations

from mainspring.client.connection import Connection
from mainspring.client.paging import gather
from mainspring.v1 import admin_pb2


class Admin:
    """What runs where. Every method raises a `MainspringError` of the connection."""

    def __init__(self, connection: Connection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    def server_info(self) -> admin_pb2.ServerInfo:
        """What serves the address that answers."""
        request = admin_pb2.GetServerInfoRequest()
        return self._connection.call(
            lambda node: node.admin.GetServerInfo, request, deadline_s=self._deadline_s
        )

    def shards(self) -> admin_pb2.ListShardsResponse:
        """All shards with their leaders."""
        request = admin_pb2.ListShardsRequest()
        return self._connection.call(
            lambda node: node.admin.ListShards, request, deadline_s=self._deadline_s
        )

    def nodes(self) -> admin_pb2.ListNodesResponse:
        """The nodes that are members now."""
        request = admin_pb2.ListNodesRequest()
        return self._connection.call(
            lambda node: node.admin.ListNodes, request, deadline_s=self._deadline_s
        )

    def agents(self, limit: int | None = None) -> admin_pb2.ListAgentsResponse:
        """The first `limit` agents (None: all) in the order of their names."""
        answer = admin_pb2.ListAgentsResponse()

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = admin_pb2.ListAgentsRequest(page_size=page_size, page_token=page_token)
            page = self._connection.call(
                lambda node: node.admin.ListAgents, request, deadline_s=self._deadline_s
            )
            answer.agents.extend(page.agents)
            return len(page.agents), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer
