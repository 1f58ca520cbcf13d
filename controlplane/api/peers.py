"""Pokes leaders wherever they are: here directly, elsewhere by a call to their node.

The address of a leader is that of its row, read again when a poke did not reach it. Promises
never to raise for a leader that cannot be reached; leaders look by themselves as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

import grpc
from mainspring.internal.v1 import node_pb2
from mainspring.internal.v1.node_pb2_grpc import NodeServiceStub

from controlplane.services.ports import Leaders
from controlplane.store.errors import StoreError
from controlplane.store.records import ShardState
from controlplane.telemetry.clock import Clock

_ADDRESSES_FOR_MS = 2_000
_CALL_MS = 1_000
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 1_000))


class ShardRows(Protocol):
    """Where the leaders of shards were when they took over."""

    async def read_shard(self, shard: int) -> ShardState: ...


class Peers:
    """The other nodes. `token` is the credential that they ask for."""

    def __init__(
        self,
        local: Leaders,
        shards: ShardRows,
        clock: Clock,
        *,
        token: str,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._local = local
        self._shards = shards
        self._clock = clock
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._addresses: dict[int, tuple[str, int]] = {}

    async def poke(
        self, shards: Collection[int], commands: Collection[int], wait_ms: int
    ) -> frozenset[int]:
        """See the port of the services."""
        led = await self._local.poke(shards, commands, wait_ms)
        left = set(shards) - led
        if not left:
            return led
        places = await self._places(left)
        answers = await asyncio.gather(
            *(self._poke(place, here, commands, wait_ms) for place, here in places.items())
        )
        heard = led.union(*answers)
        for shard in left - heard:
            self._addresses.pop(shard, None)
        return heard

    async def close(self) -> None:
        """Closes all channels."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    async def _places(self, shards: Collection[int]) -> dict[str, set[int]]:
        places: dict[str, set[int]] = {}
        for shard in shards:
            if address := await self._address(shard):
                places.setdefault(address, set()).add(shard)
        return places

    async def _address(self, shard: int) -> str:
        now_ms = self._clock.now().mono_ms
        known = self._addresses.get(shard)
        if known is None or known[1] <= now_ms:
            try:
                row = await self._shards.read_shard(shard)
            except StoreError:
                return ""
            known = self._addresses[shard] = (row.address, now_ms + _ADDRESSES_FOR_MS)
        return known[0]

    async def _poke(
        self, address: str, shards: Collection[int], commands: Collection[int], wait_ms: int
    ) -> frozenset[int]:
        request = node_pb2.PokeShardsRequest(shards=shards, commands=commands, wait_ms=wait_ms)
        timeout_s = (wait_ms + _CALL_MS) / 1_000
        try:
            stub = NodeServiceStub(self._channel(address))
            answer = await stub.PokeShards(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return frozenset()
        return frozenset(answer.led)

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open(address)
        return channel

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, _OPTIONS)
        return grpc.aio.secure_channel(address, self._credentials, _OPTIONS)
