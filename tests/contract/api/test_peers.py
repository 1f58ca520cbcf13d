from __future__ import annotations

from collections.abc import Collection

from controlplane.api.peers import Peers
from controlplane.store.errors import StoreUnavailable
from controlplane.store.records import ShardState
from controlplane.telemetry.clock import SystemClock
from tests.contract.api.harness import TOKEN


class Nobody:
    """A node that leads nothing."""

    async def poke(
        self, shards: Collection[int], commands: Collection[int], wait_ms: int
    ) -> frozenset[int]:
        return frozenset()


class Rows:
    """Where leaders are, as the test says."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def read_shard(self, shard: int) -> ShardState:
        self.asked += 1
        if not self.addresses:
            raise StoreUnavailable("away")
        return ShardState(shard, 1, 1, b"", "node", self.addresses[shard], 0)


async def poke(world, rows: Rows, token: str = TOKEN, times: int = 1) -> frozenset[int]:
    peers = Peers(Nobody(), rows, SystemClock(), token=token)
    for _ in range(times):
        heard = await peers.poke([0, 1], [1], 100)
    await peers.close()
    return heard


async def test_a_leader_elsewhere_is_poked_at_the_address_of_its_shard(world) -> None:
    rows = Rows(world.address, world.address)
    assert await poke(world, rows, times=3) == {0, 1}
    assert rows.asked == 2


async def test_a_leader_that_cannot_be_reached_is_no_error(world) -> None:
    rows = Rows(world.address, "127.0.0.1:1")
    assert await poke(world, rows, times=2) == {0}
    assert rows.asked == 3
    assert await poke(world, Rows("", "")) == set()
    assert await poke(world, Rows()) == set()


async def test_a_peer_that_refuses_the_token_is_no_error(world) -> None:
    assert await poke(world, Rows(world.address, world.address), token="wrong") == set()


async def test_a_leader_here_is_not_asked_for_elsewhere(world) -> None:
    peers = Peers(world.leader, Rows(), SystemClock(), token=TOKEN)
    assert await peers.poke([0, 1], (), 0) == {0, 1}
    await peers.close()
