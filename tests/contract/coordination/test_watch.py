import asyncio
from contextlib import aclosing, asynccontextmanager

from controlplane.coordination.client import EtcdClient
from controlplane.coordination.records import Changed, Removed, Snapshot
from controlplane.coordination.settings import Backoff
from tests.contract.coordination.harness import PATIENCE_S
from tests.servers.fault_proxy import FaultProxy

PREFIX = "/test/watched/"
NEVER_MS = 3_600_000


class Watched:
    """A watch whose changes are asked for one by one."""

    def __init__(self, changes):
        self._changes = changes

    async def next(self):
        async with asyncio.timeout(PATIENCE_S):
            return await anext(self._changes)

    async def next_of(self, kind):
        while not isinstance(change := await self.next(), kind):
            pass
        return change


@asynccontextmanager
async def watching(*endpoints, poll_ms=NEVER_MS, prefix=PREFIX):
    backoff = Backoff(10, 50)
    async with (
        EtcdClient(endpoints, deadline_ms=500, backoff=backoff) as client,
        aclosing(client.watch_prefix(prefix, poll_ms=poll_ms)) as changes,
    ):
        yield Watched(changes)


async def test_a_snapshot_then_changes_in_order(client, shared_etcd, cluster):
    prefix = f"/test/{cluster}/"
    await client.put(prefix + "a", b"1")
    async with watching(shared_etcd.endpoint, prefix=prefix) as watched:
        snapshot = await watched.next()
        assert [(r.key, r.value) for r in snapshot.records] == [(prefix + "a", b"1")]
        await client.put(prefix + "b", b"2")
        await client.put(prefix[:-1] + "-other", b"3")
        await client.delete(prefix + "a")
        changed = await watched.next()
        assert (changed.record.key, changed.record.value) == (prefix + "b", b"2")
        removed = await watched.next()
        assert removed == Removed(prefix + "a", changed.record.mod_revision + 2)


async def test_an_ended_lease_removes_its_keys(client, shared_etcd, cluster):
    prefix = f"/test/{cluster}/"
    lease = await client.grant_lease(60)
    await client.put(prefix + "a", b"1", lease=lease)
    async with watching(shared_etcd.endpoint, prefix=prefix) as watched:
        await watched.next()
        await client.revoke_lease(lease)
        assert (await watched.next_of(Removed)).key == prefix + "a"


async def test_a_cut_stream_is_resumed_without_a_gap(own_etcd):
    async with (
        FaultProxy(own_etcd.endpoint) as proxy,
        EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as writer,
        watching(proxy.endpoint) as watched,
    ):
        await watched.next()
        await writer.put(PREFIX + "a", b"1")
        await watched.next()
        pending = asyncio.ensure_future(watched.next())
        proxy.link().refuse()
        await proxy.link().refused()
        for value in (b"2", b"3"):
            await writer.put(PREFIX + "a", value)
        await writer.delete(PREFIX + "a")
        proxy.link().heal()
        assert (await pending).record.value == b"2"
        assert (await watched.next()).record.value == b"3"
        assert isinstance(await watched.next(), Removed)


async def test_a_restarted_server_is_followed_on(own_etcd):
    async with (
        EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as writer,
        watching(own_etcd.endpoint) as watched,
    ):
        await watched.next()
        await writer.put(PREFIX + "a", b"1")
        await watched.next()
        pending = asyncio.ensure_future(watched.next())
        await asyncio.to_thread(own_etcd.kill)
        await asyncio.to_thread(own_etcd.start)
        await write_at_last(writer, PREFIX + "a", b"2")
        change = await pending
        assert isinstance(change, Changed)
        assert change.record.value == b"2"


async def test_a_forgotten_past_is_replaced_by_a_snapshot(own_etcd):
    async with (
        FaultProxy(own_etcd.endpoint) as proxy,
        EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as writer,
        watching(proxy.endpoint) as watched,
    ):
        await watched.next()
        await writer.put(PREFIX + "a", b"1")
        await watched.next()
        pending = asyncio.ensure_future(watched.next())
        proxy.link().refuse()
        await proxy.link().refused()
        for value in (b"2", b"3"):
            revision = await writer.put(PREFIX + "a", value)
        await writer.compact(revision)
        proxy.link().heal()
        snapshot = await pending
        assert isinstance(snapshot, Snapshot)
        assert [record.value for record in snapshot.records] == [b"3"]
        await writer.put(PREFIX + "a", b"4")
        assert (await watched.next()).record.value == b"4"


async def test_a_wiped_store_is_replaced_by_a_snapshot(own_etcd):
    async with (
        EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as writer,
        watching(own_etcd.endpoint) as watched,
    ):
        for value in (b"1", b"2", b"3"):
            await writer.put(PREFIX + "a", value)
        await watched.next()
        pending = asyncio.ensure_future(watched.next())
        await asyncio.to_thread(own_etcd.stop)
        own_etcd.wipe()
        await asyncio.to_thread(own_etcd.start)
        assert await pending == Snapshot(1, ())
        await write_at_last(writer, PREFIX + "b", b"4")
        assert (await watched.next_of(Changed)).record.value == b"4"


async def test_keys_are_read_again_although_nothing_changes(shared_etcd, cluster):
    async with watching(shared_etcd.endpoint, poll_ms=20, prefix=f"/test/{cluster}/") as watched:
        for _ in range(3):
            assert isinstance(await watched.next(), Snapshot)


async def test_a_member_that_goes_silent_is_left(own_etcd):
    async with (
        FaultProxy(own_etcd.endpoint) as proxy,
        EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as writer,
        watching(proxy.endpoint, own_etcd.endpoint, poll_ms=100) as watched,
    ):
        await watched.next()
        proxy.link().hold()
        await writer.put(PREFIX + "a", b"1")
        snapshot = await watched.next_of(Snapshot)
        assert [record.value for record in snapshot.records] == [b"1"]
        await writer.put(PREFIX + "a", b"2")
        changed = await watched.next_of(Changed)
        assert changed.record.value == b"2"


async def write_at_last(writer, key, value):
    """Write to a server that has just come back: the channel may need a moment to notice."""
    async with aclosing(writer.watch_prefix(key, poll_ms=20)) as changes:
        await anext(changes)
        await writer.put(key, value)
