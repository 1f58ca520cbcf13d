"""Serves nodes: pokes for the leaders here, and the counters of this node."""

from __future__ import annotations

from typing import Any

from mainspring.internal.v1 import node_pb2, node_pb2_grpc

from controlplane.services.ports import Leaders
from controlplane.services.requests import check_range
from controlplane.telemetry.stats import Stats, TimeSummary

MAX_WAIT_MS = 10_000
MAX_ITEMS = 10_000


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    """`local`: the leaders of this node only."""

    def __init__(self, local: Leaders, stats: Stats) -> None:
        self._local = local
        self._stats = stats

    async def PokeShards(  # noqa: N802
        self, request: node_pb2.PokeShardsRequest, _context: Any
    ) -> node_pb2.PokeShardsResponse:
        check_range("wait_ms", request.wait_ms, 0, MAX_WAIT_MS)
        check_range("shards", len(request.shards), 0, MAX_ITEMS)
        check_range("commands", len(request.commands), 0, MAX_ITEMS)
        led = await self._local.poke(request.shards, request.commands, request.wait_ms)
        return node_pb2.PokeShardsResponse(led=sorted(led))

    async def GetNodeStats(  # noqa: N802
        self, request: node_pb2.GetNodeStatsRequest, _context: Any
    ) -> node_pb2.GetNodeStatsResponse:
        answer = node_pb2.GetNodeStatsResponse(
            counters=self._stats.counters(),
            times={name: _quantiles(each) for name, each in self._stats.times().items()},
        )
        if request.reset:
            self._stats.reset()
        return answer


def _quantiles(time: TimeSummary) -> node_pb2.Quantiles:
    return node_pb2.Quantiles(
        count=time.count,
        p50_us=time.p50_us,
        p95_us=time.p95_us,
        p99_us=time.p99_us,
        max_us=time.max_us,
        sum_us=time.sum_us,
    )
