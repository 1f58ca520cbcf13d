"""Serves DagService: takes the tenant of the credential and hands over."""

from __future__ import annotations

from typing import Any

from mainspring.v1 import dag_pb2, dag_pb2_grpc

from controlplane.api.credentials import caller
from controlplane.services.dags import DagService


class DagServicer(dag_pb2_grpc.DagServiceServicer):
    """One method for each of the contract."""

    def __init__(self, dags: DagService) -> None:
        self._dags = dags

    async def ApplyDag(  # noqa: N802
        self, request: dag_pb2.ApplyDagRequest, _context: Any
    ) -> dag_pb2.ApplyDagResponse:
        return await self._dags.apply(caller().tenant, request)

    async def GetDag(self, request: dag_pb2.GetDagRequest, _context: Any) -> dag_pb2.Dag:  # noqa: N802
        return await self._dags.get(caller().tenant, request)

    async def ListDags(  # noqa: N802
        self, request: dag_pb2.ListDagsRequest, _context: Any
    ) -> dag_pb2.ListDagsResponse:
        return await self._dags.list_dags(caller().tenant, request)

    async def ListDagVersions(  # noqa: N802
        self, request: dag_pb2.ListDagVersionsRequest, _context: Any
    ) -> dag_pb2.ListDagVersionsResponse:
        return await self._dags.list_versions(caller().tenant, request)

    async def ListInstants(  # noqa: N802
        self, request: dag_pb2.ListInstantsRequest, _context: Any
    ) -> dag_pb2.ListInstantsResponse:
        return await self._dags.list_instants(caller().tenant, request)

    async def PauseDag(self, request: dag_pb2.PauseDagRequest, _context: Any) -> dag_pb2.Dag:  # noqa: N802
        return await self._dags.pause(caller().tenant, request)

    async def ResumeDag(self, request: dag_pb2.ResumeDagRequest, _context: Any) -> dag_pb2.Dag:  # noqa: N802
        return await self._dags.resume(caller().tenant, request)
