"""Serves RunService: takes the tenant of the credential and hands over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from mainspring.v1 import run_pb2, run_pb2_grpc

from controlplane.api.credentials import caller
from controlplane.services.log_reading import LogService
from controlplane.services.runs import RunService
from controlplane.services.watching import WatchService


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """One method for each of the contract."""

    def __init__(self, runs: RunService, watches: WatchService, logs: LogService) -> None:
        self._runs = runs
        self._watches = watches
        self._logs = logs

    async def TriggerRun(  # noqa: N802
        self, request: run_pb2.TriggerRunRequest, _context: Any
    ) -> run_pb2.Run:
        return await self._runs.trigger(caller().tenant, request)

    async def GetRun(self, request: run_pb2.GetRunRequest, _context: Any) -> run_pb2.Run:  # noqa: N802
        return await self._runs.get(caller().tenant, request)

    async def ListRuns(  # noqa: N802
        self, request: run_pb2.ListRunsRequest, _context: Any
    ) -> run_pb2.ListRunsResponse:
        return await self._runs.list_runs(caller().tenant, request)

    async def ListTaskInstances(  # noqa: N802
        self, request: run_pb2.ListTaskInstancesRequest, _context: Any
    ) -> run_pb2.ListTaskInstancesResponse:
        return await self._runs.list_task_instances(caller().tenant, request)

    async def ListAttempts(  # noqa: N802
        self, request: run_pb2.ListAttemptsRequest, _context: Any
    ) -> run_pb2.ListAttemptsResponse:
        return await self._runs.list_attempts(caller().tenant, request)

    async def WatchRun(  # noqa: N802
        self, request: run_pb2.WatchRunRequest, _context: Any
    ) -> AsyncIterator[run_pb2.WatchRunResponse]:
        async with aclosing(self._watches.watch(caller().tenant, request)) as steps:
            async for step in steps:
                yield step

    async def WaitRun(self, request: run_pb2.WaitRunRequest, _context: Any) -> run_pb2.Run:  # noqa: N802
        return await self._watches.wait(caller().tenant, request)

    async def CancelRun(self, request: run_pb2.CancelRunRequest, _context: Any) -> run_pb2.Run:  # noqa: N802
        return await self._runs.cancel(caller().tenant, request)

    async def ReadLogs(  # noqa: N802
        self, request: run_pb2.ReadLogsRequest, _context: Any
    ) -> AsyncIterator[run_pb2.ReadLogsResponse]:
        async with aclosing(self._logs.read(caller().tenant, request)) as pieces:
            async for piece in pieces:
                yield piece
