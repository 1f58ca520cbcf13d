import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from controlplane.coordination.candidacy import LossReason
from controlplane.coordination.errors import EtcdUnavailable
from controlplane.coordination.rendezvous import preferred
from tests.contract.coordination.harness import PATIENCE_S, Node, running, short_settings

ALL = 6
SHARDS = range(ALL)
NAMES = ["a", "b"]
OF = {name: [s for s in SHARDS if preferred(s, NAMES) == name] for name in NAMES}


class Cluster:
    """Starts nodes of one cluster; all end with the test."""

    def __init__(self, endpoint, name, stack):
        self._endpoint = endpoint
        self._name = name
        self._stack = stack

    async def node(self, name, *, shards=ALL, stack=None, **changes):
        settings = short_settings(self._name, self._endpoint, **changes)
        node = Node(settings, name, shards=shards)
        await (stack or self._stack).enter_async_context(running(node.coordination.run()))
        return node

    def leader(self, shard):
        return f"/mainspring/{self._name}/shards/{shard}/leader"


@asynccontextmanager
async def nodes_on(server, cluster):
    async with AsyncExitStack() as stack:
        yield Cluster(server.endpoint, cluster, stack)


@pytest.fixture
async def nodes(shared_etcd, cluster):
    async with nodes_on(shared_etcd, cluster) as made:
        yield made


@pytest.fixture
async def fragile(own_etcd, cluster):
    """Nodes on an etcd that the test may hurt."""
    async with nodes_on(own_etcd, cluster) as made:
        yield made


NEVER_MS = 3_600_000


async def test_one_node_wins_everything(nodes):
    node = await nodes.node("a")
    await node.holds(*SHARDS)
    assert {leader.address for leader in node.election.leaders.values()} == {"a:1"}


async def test_of_two_nodes_one_wins(nodes):
    both = [await nodes.node(name, shards=1, handover_after_ms=NEVER_MS) for name in NAMES]
    async with asyncio.timeout(PATIENCE_S):
        wins = [asyncio.ensure_future(node.holds(0)) for node in both]
        done, pending = await asyncio.wait(wins, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    assert len(done) == 1
    winner = next(node for node in both if node.election.held)
    loser = next(node for node in both if node is not winner)
    await loser.journal.until(lambda _: loser.election.leaders)
    assert loser.election.leaders[0].node == winner.name
    assert not loser.election.held


async def test_free_shards_spread_over_the_nodes_that_are_there(client, nodes):
    block = await client.grant_lease(60)
    for shard in SHARDS:
        await client.put(nodes.leader(shard), b"", lease=block)
    both = [await nodes.node(n, handover_after_ms=NEVER_MS, campaign_pause_ms=5_000) for n in NAMES]
    for node in both:
        await node.sees(*NAMES)
    await client.revoke_lease(block)
    for node in both:
        await node.holds(*OF[node.name])


async def test_shards_move_to_a_preferred_node_that_joins(nodes):
    first = await nodes.node("a")
    await first.holds(*SHARDS)
    second = await nodes.node("b")
    await second.holds(*OF["b"])
    await first.holds(*OF["a"])
    lost = {entry[1:] for entry in first.journal.entries if entry[0] == "lost"}
    assert lost == {(shard, LossReason.HANDED_OVER) for shard in OF["b"]}


async def test_a_resigned_shard_is_led_by_another_at_once(nodes):
    """The lease of the one that resigns lives on for an hour: only the resignation frees."""
    first = await nodes.node("a", shards=1, lease_ttl_ms=NEVER_MS)
    await first.holds(0)
    second = await nodes.node("b", shards=1, handover_after_ms=NEVER_MS)
    await second.sees("a", "b")
    await first.election.resign(0, pause_ms=NEVER_MS)
    await second.holds(0)
    assert not first.election.held


async def test_a_graceful_stop_frees_everything_at_once(nodes):
    async with AsyncExitStack() as stack:
        first = await nodes.node("a", lease_ttl_ms=NEVER_MS, stack=stack)
        await first.holds(*SHARDS)
        second = await nodes.node("b", handover_after_ms=NEVER_MS)
        await second.sees("a", "b")
        await first.election.resign_all()
        await second.holds(*SHARDS)
        assert not first.election.held
    await second.sees("b")


async def test_a_node_that_dies_is_followed_after_its_lease(client, nodes):
    first = await nodes.node("a", handover_after_ms=NEVER_MS)
    await first.holds(*SHARDS)
    second = await nodes.node("b", handover_after_ms=NEVER_MS)
    await second.sees("a", "b")
    await client.revoke_lease(first.lease.current)
    assert await first.lost(OF["b"][0]) in {LossReason.LOST_LEASE, LossReason.KEY_GONE}
    await second.journal.until(lambda _: set(OF["b"]) <= set(second.election.held))


async def test_a_lease_lost_by_a_paused_server_is_reported_and_won_back(fragile, own_etcd):
    node = await fragile.node("a")
    await node.holds(*SHARDS)
    before = dict(node.election.held)
    own_etcd.pause()
    for shard in SHARDS:
        assert await node.lost(shard) is LossReason.LOST_LEASE
    assert not node.election.held
    with pytest.raises(EtcdUnavailable):
        await node.election.verify(before[0])
    own_etcd.resume()
    await node.holds(*SHARDS)
    assert not await node.election.verify(before[0])
    assert await node.election.verify(node.election.held[0])


async def test_a_deleted_key_is_reported_and_won_back(client, nodes):
    node = await nodes.node("a", shards=1)
    await node.holds(0)
    before = node.election.held[0]
    await client.delete(nodes.leader(0))
    assert await node.lost(0) is LossReason.KEY_GONE
    await node.holds(0)
    assert not await node.election.verify(before)


async def test_a_key_of_somebody_else_is_reported_as_taken(client, nodes):
    node = await nodes.node("a", shards=1)
    await node.holds(0)
    key = node.election.held[0]
    async with asyncio.timeout(PATIENCE_S):
        while await client.delete(key.key):
            taken = await client.put_if_absent(key.key, b"", lease=0)
            if taken.done:
                break
    assert await node.lost(0) in {LossReason.KEY_TAKEN, LossReason.KEY_GONE}
    await node.journal.until(lambda _: not node.election.held)


async def test_a_node_that_may_not_lead_keeps_out_and_hands_over(nodes):
    first = await nodes.node("a")
    await first.holds(*SHARDS)
    first.membership.publish(eligible=False)
    second = await nodes.node("b")
    await second.holds(*SHARDS)
    for shard in SHARDS:
        assert await first.lost(shard) is LossReason.HANDED_OVER


async def test_a_resignation_without_a_server_is_made_good_later(fragile, own_etcd):
    first = await fragile.node("a", shards=1, lease_ttl_ms=30_000)
    await first.holds(0)
    second = await fragile.node("b", shards=1, lease_ttl_ms=30_000, handover_after_ms=NEVER_MS)
    await second.sees("a", "b")
    own_etcd.pause()
    await first.election.resign(0, pause_ms=NEVER_MS)
    own_etcd.resume()
    await second.holds(0)
    assert not [e for e in first.journal.entries if e[0] == "lost"]


async def test_a_wiped_server_is_campaigned_for_anew(fragile, own_etcd):
    both = [await fragile.node(name, handover_after_ms=NEVER_MS) for name in NAMES]
    for node in both:
        await node.sees(*NAMES)
    await both[0].journal.until(lambda _: len(both[0].election.leaders) == len(SHARDS))
    held = {node.name: dict(node.election.held) for node in both}
    own_etcd.stop()
    own_etcd.wipe()
    own_etcd.start()
    for node in both:
        for shard in held[node.name]:
            assert await node.lost(shard) in {LossReason.LOST_LEASE, LossReason.KEY_GONE}
    await both[0].journal.until(
        lambda _: {s for node in both for s in node.election.held} == set(SHARDS)
    )


async def test_a_restarted_server_costs_nothing(fragile, own_etcd):
    node = await fragile.node("a", lease_ttl_ms=10_000)
    await node.holds(*SHARDS)
    held = dict(node.election.held)
    own_etcd.kill()
    own_etcd.start()
    async with asyncio.timeout(PATIENCE_S):
        while not await verified(node, held[0]):
            pass
    assert dict(node.election.held) == held
    assert not [e for e in node.journal.entries if e[0] == "lost"]


async def verified(node, key):
    try:
        return await node.election.verify(key)
    except EtcdUnavailable:
        return False
