import asyncio
import dataclasses
from contextlib import asynccontextmanager

from controlplane.coordination.candidacy import LeaderKey, LossReason
from controlplane.leader.leaderships import CRASH_PAUSE_MS, Leaderships
from controlplane.store.errors import BatchRefused, StoreUnavailable
from tests.sim.memory_store import ConnectionLost, Faults, Point
from tests.sim.virtual import pass_time
from tests.unit.leader.cluster import WON, Cluster
from tests.unit.leader.harness import virtual

LATER = dataclasses.replace(WON, create_revision=9)


class Broken(Faults):
    """Cuts every write while it is set."""

    def __init__(self):
        self.now = False

    async def at(self, point, shard):
        if self.now and point is Point.OPEN:
            raise ConnectionLost


def refusing(reason):
    async def read_shard(_shard):
        raise reason

    return read_shard


@asynccontextmanager
async def running(cluster):
    leaderships = Leaderships()
    task = asyncio.ensure_future(leaderships.run(cluster.around, cluster.members))
    await pass_time(0)
    try:
        yield leaderships
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@virtual
async def test_an_elected_shard_is_led_and_reported():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        assert leaderships.led == {0}
        await pass_time(3)
        assert cluster.members.published
        newest = cluster.members.published[-1]
        assert cluster.clock.now().wall_us // 1_000 - newest < 2_500


@virtual
async def test_what_was_won_before_the_start_is_led_too():
    cluster = Cluster()
    leaderships = Leaderships()
    leaderships.on_elected(0, WON)
    task = asyncio.ensure_future(leaderships.run(cluster.around, cluster.members))
    await cluster.leads(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert cluster.journal.claims == []


@virtual
async def test_a_lost_lease_ends_nothing_and_a_new_key_keeps_the_epoch():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        leaderships.on_lost(0, LossReason.LOST_LEASE)
        await pass_time(10)
        assert leaderships.led == {0}
        leaderships.on_elected(0, LATER)
        await pass_time(10)
        assert cluster.database.shards[0].epoch == 1


@virtual
async def test_a_shard_is_led_until_the_next_leader_is_there():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        for reason in (LossReason.KEY_TAKEN, LossReason.HANDED_OVER):
            leaderships.on_elected(0, WON)
            await cluster.leads(1)
            leaderships.on_lost(0, reason)
            await pass_time(60)
            assert leaderships.led == {0}
        await cluster.store.take_over(0, 1, b"o" * 16, "n2", "n2:1")
        await pass_time(2)
        assert leaderships.led == frozenset()
        assert cluster.candidate.resigned == []


@virtual
async def test_a_key_that_is_won_again_while_the_leader_stops_is_led_again():
    faults = Broken()
    cluster = Cluster(faults)
    async with running(cluster) as leaderships:

        def win_again(_shard):
            faults.now = False
            leaderships.on_elected(0, LATER)

        cluster.store.release = win_again
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        leaderships.on_lost(0, LossReason.LOST_LEASE)
        faults.now = True
        await pass_time(30)
        cluster.members.add("n2", cluster.clock.now().wall_us // 1_000)
        await cluster.leads(2)
        assert leaderships.led == {0}
        assert cluster.candidate.resigned == []


@virtual
async def test_a_deposed_leader_gives_its_key_up():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        await cluster.store.take_over(0, 1, b"o" * 16, "n2", "n2:1")
        await pass_time(2)
        assert cluster.candidate.resigned == [(0, None)]


@virtual
async def test_a_shard_that_crashes_is_left_to_others():
    cluster = Cluster()

    async def recover(_shard):
        raise KeyError("a row")

    cluster.store.recover = recover
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await pass_time(1)
        assert cluster.candidate.resigned == [(0, CRASH_PAUSE_MS)]
        assert leaderships.led == frozenset()


@virtual
async def test_who_cannot_commit_while_another_can_resigns():
    faults = Broken()
    cluster = Cluster(faults)
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        faults.now = True
        await pass_time(30)
        assert leaderships.led == {0}
        cluster.members.add("n2", cluster.clock.now().wall_us // 1_000)
        await pass_time(5)
        assert cluster.candidate.resigned == [(0, None)]


@virtual
async def test_who_commits_a_moment_later_than_others_after_an_outage_keeps_its_key():
    faults = Broken()
    cluster = Cluster(faults)
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        for _ in range(2):
            faults.now = True
            await pass_time(30)
            cluster.members.add("n2", cluster.clock.now().wall_us // 1_000)
            await pass_time(2)
            faults.now = False
            await pass_time(10)
        assert cluster.database.shards[0].epoch == 1
        assert leaderships.led == {0}


@virtual
async def test_a_node_without_a_shard_tells_the_others_that_the_store_answers():
    faults = Broken()
    cluster = Cluster(faults)
    async with running(cluster) as leaderships:
        await pass_time(3)
        assert leaderships.led == frozenset()
        assert cluster.clock.now().wall_us // 1_000 - cluster.members.published[-1] < 2_500

        async def silent(_shard):
            await asyncio.Event().wait()

        cluster.store.read_shard = silent
        before = len(cluster.members.published)
        await pass_time(30)
        for reason in (StoreUnavailable("no connection"), BatchRefused("no table shard", "42P01")):
            cluster.store.read_shard = refusing(reason)
            await pass_time(30)
            assert len(cluster.members.published) == before


@virtual
async def test_who_commits_keeps_its_key():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        for _ in range(30):
            cluster.members.add("n2", cluster.clock.now().wall_us // 1_000)
            await pass_time(1)
        assert leaderships.led == {0}


@virtual
async def test_a_poke_waits_until_the_commands_are_applied():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        await pass_time(0.5)
        number = cluster.apply()
        assert await leaderships.poke([0, 7], [number], 5_000) == {0}
        assert cluster.outcome(number) is not None
        assert await leaderships.poke([0], [], 5_000) == {0}
        assert await leaderships.poke([7], [number], 5_000) == frozenset()


@virtual
async def test_a_stop_ends_all_and_begins_nothing():
    cluster = Cluster()
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        await leaderships.stop()
        assert cluster.journal.claims == []
        leaderships.on_elected(0, LeaderKey("k", 10, 7))
        await pass_time(2)
        assert leaderships.led == frozenset()


@virtual
async def test_a_stop_waits_until_the_keys_are_given_up():
    cluster = Cluster()
    resign = cluster.candidate.resign

    async def slowly(shard, *, pause_ms=None):
        await pass_time(0.5)
        await resign(shard, pause_ms=pause_ms)

    cluster.candidate.resign = slowly
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        await leaderships.stop()
        assert cluster.candidate.resigned == [(0, None)]


@virtual
async def test_a_stop_waits_no_longer_than_its_deadline():
    class Stalled(Faults):
        now = False

        async def at(self, point, shard):
            if self.now and point is Point.WRITE:
                await pass_time(100)

    faults = Stalled()
    cluster = Cluster(faults)
    async with running(cluster) as leaderships:
        leaderships.on_elected(0, WON)
        await cluster.leads(1)
        faults.now = True
        await pass_time(2)
        begun = asyncio.get_running_loop().time()
        await leaderships.stop()
        assert asyncio.get_running_loop().time() - begun == cluster.around.times.drain_ms / 1_000


@virtual
async def test_a_stop_before_the_start_is_nothing():
    await Leaderships().stop()
