"""What two leading nodes do while etcd is away, and afterwards; and how fast shards move."""

import asyncio
import json
import time
from contextlib import aclosing, asynccontextmanager

import asyncpg
import pytest

from controlplane.codec import commands
from controlplane.codec.dag import canonical
from controlplane.coordination.client import EtcdClient
from controlplane.coordination.records import Snapshot
from controlplane.core.effects import CommandOutcome
from controlplane.core.states import RunState
from controlplane.core.types import DagKey, bucket_of
from controlplane.store.store import migrate_database
from controlplane.telemetry.clock import EntropySource, SystemClock
from tests.contract.leader.harness import (
    PATIENCE_S,
    TIMES,
    ScriptedAgent,
    chain,
    running_node,
)
from tests.servers.postgres import PostgresServer
from tests.servers.until import until

SHARDS = 4
ALL = frozenset(range(SHARDS))


class Pair:
    """Two nodes of one cluster."""

    def __init__(self, north, south):
        self.nodes = [north, south]
        self.store = north.store

    @property
    def led(self):
        return [node.leading.leaderships.led for node in self.nodes]

    @property
    def held(self):
        return [frozenset(node.leading.coordination.election.held) for node in self.nodes]

    def undivided(self):
        """Each shard has one leader, maybe the same."""
        south, north = self.led
        return not south & north and south | north == ALL

    def settled(self):
        """Each shard has one leader, which holds its key."""
        return whole(self.led) and self.led == self.held

    async def command(self, body, **more):
        """Has a command applied by whoever leads its shard; returns the shard."""
        key = DagKey("default", "line")
        appended = await self.store.api.append_command(key.tenant, bucket_of(key), body, **more)
        for node in self.nodes:
            await node.leading.leaderships.poke([appended.shard], [appended.command], 10_000)
        state = await self.store.api.read_command(appended.command)
        assert state.outcome == CommandOutcome.APPLIED
        return appended.shard

    async def epochs(self):
        return [(await self.store.shards.read_shard(shard)).epoch for shard in sorted(ALL)]

    async def holders(self):
        """The shards of each node, as the store says."""
        rows = [await self.store.shards.read_shard(shard) for shard in sorted(ALL)]
        return [
            frozenset(row.shard for row in rows if row.node == node.name) for node in self.nodes
        ]

    async def fences(self, count):
        """Waits until every leader has passed so many more fences; the epochs must not change."""
        before = await self.epochs()
        begun = [(await self.store.shards.read_shard(shard)).batch for shard in sorted(ALL)]
        async with asyncio.timeout(PATIENCE_S):
            for shard, batch in enumerate(begun):
                while True:
                    if (await self.store.shards.read_shard(shard)).batch >= batch + count:
                        break
                    await asyncio.sleep(0.02)
        assert await self.epochs() == before


def whole(parts):
    return all(parts) and not parts[0] & parts[1] and parts[0] | parts[1] == ALL


@asynccontextmanager
async def running_pair(dsn, cluster, etcd):
    async with (
        running_node("north", dsn, cluster, etcd, SHARDS) as north,
        running_node("south", dsn, cluster, etcd, SHARDS) as south,
    ):
        pair = Pair(north, south)
        await until(pair.settled)
        yield pair


def freeze(etcd):
    etcd.pause()


def thaw(etcd):
    etcd.resume()


def crash(etcd):
    etcd.kill()


def restart(etcd):
    etcd.start()


def restart_empty(etcd):
    etcd.wipe()
    etcd.start()


@pytest.mark.parametrize(
    ("hurt", "heal"),
    [(freeze, thaw), (crash, restart), (crash, restart_empty)],
    ids=["paused", "killed", "lost with its data"],
)
async def test_etcd_down_3_x_lease_stops_no_leader_and_keys_come_back(
    dsn, cluster, own_etcd, hurt, heal
):
    async with running_pair(dsn, cluster, own_etcd) as pair:
        led = pair.led
        hurt(own_etcd)
        # Fences are at most idle_fence_ms apart, so this takes three leases or longer.
        await pair.fences(4 * TIMES.lease_ttl_ms // TIMES.idle_fence_ms)
        assert pair.led == led
        await until(lambda: pair.held == [frozenset(), frozenset()])
        await asyncio.to_thread(heal, own_etcd)
        await until(pair.settled)
        await pair.fences(3)
        assert await pair.holders() == pair.led
        await works(pair)


@pytest.mark.parametrize("leases", [0, 3], ids=["at once", "after three leases"])
async def test_etcd_back_in_an_older_state_costs_no_epoch_and_ends_in_order(
    dsn, cluster, own_etcd, tmp_path, leases
):
    """The older state says that the first node holds everything, under leases of then."""
    async with running_node("south", dsn, cluster, own_etcd, SHARDS) as first:
        await first.leads(*ALL)
        await until(lambda: frozenset(first.leading.coordination.election.held) == ALL)
        await asyncio.to_thread(keep, own_etcd, tmp_path / "older")
        async with running_node("north", dsn, cluster, own_etcd, SHARDS) as second:
            pair = Pair(second, first)
            await until(pair.settled)
            before = await pair.epochs()
            own_etcd.kill()
            await pair.fences(1 + leases * TIMES.lease_ttl_ms // TIMES.idle_fence_ms)
            await asyncio.to_thread(restart_older, own_etcd, tmp_path / "older")
            await keys_agree(pair, own_etcd, cluster)
            after = await pair.epochs()
            assert all(now >= then for now, then in zip(after, before, strict=True))
            assert await taken_over(dsn) == {n: list(range(1, e + 1)) for n, e in enumerate(after)}
            await works(pair)


def keep(etcd, folder):
    """Copy what etcd has on its disk; nobody notices so short an absence."""
    etcd.stop()
    etcd.copy_data(folder)
    etcd.start()


def restart_older(etcd, folder):
    etcd.go_back(folder)
    etcd.start()


async def keys_agree(pair, etcd, cluster):
    """Wait until every key in etcd is that of the one leader of its shard, and stays so."""
    names = [node.name for node in pair.nodes]
    prefix = f"/mainspring/{cluster}/shards/"
    agreed = 0
    async with (
        EtcdClient([etcd.endpoint], deadline_ms=2_000) as client,
        aclosing(client.watch_prefix(prefix, poll_ms=200)) as changes,
        asyncio.timeout(PATIENCE_S),
    ):
        async for change in changes:
            if isinstance(change, Snapshot):
                held = [[r.key for r in change.records if name(r) == n] for n in names]
                led = [[f"{prefix}{s}/leader" for s in sorted(shards)] for shards in pair.led]
                agreed = agreed + 1 if held == led and pair.settled() else 0
                if agreed == 3:
                    return


def name(record):
    return json.loads(record.value)["node"]


async def taken_over(dsn):
    """The epochs of every shard, as they were begun."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT shard, epoch FROM shard_epoch ORDER BY shard, epoch")
    finally:
        await connection.close()
    return {shard: [row["epoch"] for row in rows if row["shard"] == shard] for shard in ALL}


async def test_postgresql_away_ends_no_leadership(cluster, etcd):
    with PostgresServer({"fsync": "off"}) as postgres:
        dsn = postgres.fresh_database()
        await migrate_database(dsn)
        async with running_pair(dsn, cluster, etcd) as pair:
            await pair.fences(1)
            led, epochs = pair.led, await pair.epochs()
            await asyncio.to_thread(postgres.kill)
            await until(lambda: all(retried(node) >= 5 for node in pair.nodes))
            await asyncio.to_thread(postgres.restart)
            await pair.fences(3)
            assert (pair.led, await pair.epochs()) == (led, epochs)
            await works(pair)


def retried(node):
    return node.stats.counters().get("commits_retried", 0)


async def works(pair):
    """A run passes, whoever leads its shard."""
    stored, digest = canonical(chain("line", 1))
    body = commands.apply_dag("line", digest, "")
    shard = await pair.command(body, version=(digest, stored))
    run_id = EntropySource().run_id(SystemClock().now().wall_us)
    await pair.command(commands.trigger_run("line", run_id, 0), run_id=run_id)
    leader = next(node for node, led in zip(pair.nodes, pair.led, strict=True) if shard in led)
    async with ScriptedAgent(leader.address) as agent:
        await agent.adopt(shard)
        await agent.work(1)
        await leader.run_is(run_id, RunState.SUCCEEDED)


async def test_etcd_lying_about_a_key_costs_neither_the_leader_nor_the_epoch(
    dsn, cluster, own_etcd
):
    async with (
        running_node("north", dsn, cluster, own_etcd) as node,
        EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as client,
    ):
        await node.leads(0)
        election = node.leading.coordination.election
        await until(lambda: 0 in election.held)
        lost = election.held[0]
        assert await client.delete(lost.key)
        await until(lambda: 0 in election.held and election.held[0] != lost)
        assert node.leading.leaderships.led == {0}
        assert (await node.store.shards.read_shard(0)).epoch == 1


async def test_etcd_dying_in_the_middle_of_a_handover_leaves_no_shard_without_a_leader(
    dsn, cluster, own_etcd
):
    async with running_node("south", dsn, cluster, own_etcd, SHARDS) as first:
        await first.leads(*ALL)
        async with running_node("north", dsn, cluster, own_etcd, SHARDS) as second:
            pair = Pair(second, first)
            held = first.leading.coordination.election
            await until(lambda: frozenset(held.held) != ALL)
            own_etcd.kill()
            # A takeover may be under way; whoever is deposed hears it at its next fence.
            await until(pair.undivided)
            await pair.fences(4 * TIMES.lease_ttl_ms // TIMES.idle_fence_ms)
            assert pair.undivided()
            await asyncio.to_thread(own_etcd.start)
            await until(pair.settled)
            await works(pair)


async def test_a_graceful_stop_hands_over_in_less_than_a_second(dsn, cluster, etcd):
    async with running_node("south", dsn, cluster, etcd, SHARDS) as second:
        await second.leads(*ALL)
        async with running_node("north", dsn, cluster, etcd, SHARDS) as first:
            pair = Pair(first, second)
            await until(pair.settled)
            begun = time.monotonic()
            await first.leading.stop()
            await second.leads(*ALL)
            assert time.monotonic() - begun < 1.0


async def test_a_node_that_joins_gets_its_part_of_the_shards(dsn, cluster, etcd):
    async with running_node("south", dsn, cluster, etcd, SHARDS) as first:
        await first.leads(*ALL)
        async with running_node("north", dsn, cluster, etcd, SHARDS) as second:
            await until(Pair(second, first).settled)
        await first.leads(*ALL)
