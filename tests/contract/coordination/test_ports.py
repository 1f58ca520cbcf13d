"""What the production code asks of etcd, of the real one and of the one that simulations use."""

import asyncio
import dataclasses
from contextlib import aclosing, asynccontextmanager
from random import Random

import pytest

from controlplane.coordination.client import EtcdClient
from controlplane.coordination.errors import CompactedError, LeaseNotFound
from controlplane.coordination.records import Changed, Removed, Snapshot
from controlplane.coordination.settings import Backoff
from tests.contract.coordination.harness import PATIENCE_S, short_settings
from tests.servers.etcd import EtcdServer
from tests.sim.etcd import MemoryEtcd
from tests.sim.etcd_client import MemoryClient
from tests.sim.virtual import run_virtual

PREFIX = "/ports/"
NEVER_MS = 3_600_000


class Real:
    """A server process, and clients of it over sockets."""

    def __init__(self, server):
        self._server = server

    @asynccontextmanager
    async def client(self):
        backoff = Backoff(10, 50)
        async with EtcdClient(
            [self._server.endpoint], deadline_ms=2_000, backoff=backoff
        ) as client:
            yield client

    async def keep(self):
        await asyncio.to_thread(self._server.stop)
        older = self._server.folder.with_name("older")
        self._server.copy_data(older)
        await asyncio.to_thread(self._server.start)
        return older

    async def go_back(self, older):
        await asyncio.to_thread(self._server.stop)
        self._server.go_back(older)
        await asyncio.to_thread(self._server.start)

    async def wipe(self):
        await asyncio.to_thread(self._server.stop)
        self._server.wipe()
        await asyncio.to_thread(self._server.start)


class Memory:
    """The one in memory, on virtual time."""

    def __init__(self):
        self._etcd = MemoryEtcd()

    @asynccontextmanager
    async def client(self):
        yield MemoryClient(self._etcd, short_settings("ports", "etcd:1"), Random(1))

    async def keep(self):
        return self._etcd.state()

    async def go_back(self, older):
        self._etcd.go_back(older)

    async def wipe(self):
        self._etcd.go_back()


async def a_key_has_revisions(etcd):
    async with etcd.client() as client:
        assert await client.get(PREFIX + "a") is None
        first = await client.put(PREFIX + "a", b"1")
        second = await client.put(PREFIX + "a", b"2")
        record = await client.get(PREFIX + "a")
        assert (record.value, record.create_revision, record.mod_revision) == (b"2", first, second)
        assert second == first + 1
        assert await client.get_prefix(PREFIX) == Snapshot(second, (record,))
        assert await client.delete(PREFIX + "a")
        assert not await client.delete(PREFIX + "a")
        assert (await client.get_prefix(PREFIX)).revision == second + 1


async def a_condition_is_checked(etcd):
    async with etcd.client() as client:
        lease, other = await client.grant_lease(60), await client.grant_lease(60)
        won = await client.put_if_absent(PREFIX + "a", b"1", lease=lease)
        assert (won.done, won.record.lease) == (True, lease)
        assert await client.put_if_absent(PREFIX + "a", b"1", lease=lease) == won
        lost = await client.put_if_absent(PREFIX + "a", b"2", lease=other)
        assert lost == dataclasses.replace(won, done=False)
        created = won.record.create_revision
        assert not (await client.delete_if(PREFIX + "a", created + 1, lease)).done
        assert not (await client.delete_if(PREFIX + "a", created, other)).done
        deleted = await client.delete_if(PREFIX + "a", created, lease)
        assert (deleted.done, deleted.revision) == (True, created + 1)


async def a_lease_takes_its_keys_along_in_one_revision(etcd):
    async with etcd.client() as client:
        lease = await client.grant_lease(60)
        await client.put(PREFIX + "a", b"1", lease=lease)
        await client.put(PREFIX + "b", b"2", lease=lease)
        kept = await client.put(PREFIX + "c", b"3")
        assert 0 < await client.lease_ttl_s(lease) <= 60
        async with watching(client) as watch:
            await watch()
            await client.revoke_lease(lease)
            changes = [await watch(), await watch()]
        assert {change.key for change in changes} == {PREFIX + "a", PREFIX + "b"}
        assert {change.revision for change in changes} == {kept + 1}
        assert await client.lease_ttl_s(lease) == -1
        with pytest.raises(LeaseNotFound):
            await client.put(PREFIX + "a", b"1", lease=lease)
        with pytest.raises(LeaseNotFound):
            await client.put_if_absent(PREFIX + "a", b"1", lease=lease)
        with pytest.raises(LeaseNotFound):
            await client.revoke_lease(lease)
        assert (await client.get_prefix(PREFIX)).revision == kept + 1


async def a_lease_that_nobody_renews_ends(etcd):
    async with etcd.client() as client:
        lease = await client.grant_lease(1)
        await client.put(PREFIX + "a", b"1", lease=lease)
        async with watching(client) as watch:
            await watch()
            assert isinstance(await watch(), Removed)
        assert await client.lease_ttl_s(lease) == -1


async def changes_come_from_a_revision_on(etcd):
    async with etcd.client() as client:
        first = await client.put(PREFIX + "a", b"1")
        await client.put("/elsewhere", b"2")
        await client.put(PREFIX + "a", b"3")
        stream = await client.open_watch(PREFIX, first)
        seen = []
        async with asyncio.timeout(PATIENCE_S):
            while len(seen) < 2:
                seen += await stream.read()
        stream.close()
        assert [change.record.value for change in seen] == [b"1", b"3"]


async def what_was_compacted_is_said_to_be_gone(etcd):
    async with etcd.client() as client:
        await client.put(PREFIX + "a", b"1")
        second = await client.put(PREFIX + "a", b"2")
        third = await client.put(PREFIX + "a", b"3")
        await client.compact(third)
        with pytest.raises(CompactedError):
            await first_of(client, second)
        assert (await first_of(client, third))[0].record.value == b"3"


async def an_empty_store_begins_anew(etcd):
    async with etcd.client() as client:
        lease = await client.grant_lease(60)
        await client.put(PREFIX + "a", b"1", lease=lease)
        async with watching(client) as watch:
            assert (await watch()).records
            await etcd.wipe()
            assert await watch() == Snapshot(1, ())
            assert await client.lease_ttl_s(lease) == -1
            assert await client.grant_lease(60) != lease
            await client.put(PREFIX + "b", b"2")
            assert isinstance(await watch(), Changed)


async def an_older_store_has_its_keys_and_leases_again(etcd):
    """And gives out revisions again that were given to others."""
    async with etcd.client() as client:
        early = await client.grant_lease(60)
        key = (await client.put_if_absent(PREFIX + "a", b"1", lease=early)).record
        older = await etcd.keep()
        await on_line(client)
        late = await client.grant_lease(60)
        await client.delete(PREFIX + "a")
        lost = (await client.put_if_absent(PREFIX + "b", b"2", lease=late)).record
        async with watching(client) as watch:
            assert (await watch()).records == (lost,)
            await etcd.go_back(older)
            assert (await watch()).records == (key,)
            assert await client.lease_ttl_s(early) > 0
            assert await client.lease_ttl_s(late) == -1
            await client.delete(PREFIX + "a")
            again = (await client.put_if_absent(PREFIX + "b", b"3", lease=early)).record
            assert again.create_revision == lost.create_revision
            assert not (await client.delete_if(PREFIX + "b", lost.create_revision, late)).done


@asynccontextmanager
async def watching(client):
    """The changes below the prefix, one by one."""
    async with aclosing(client.watch_prefix(PREFIX, poll_ms=NEVER_MS)) as changes:

        async def watch():
            async with asyncio.timeout(PATIENCE_S):
                return await anext(changes)

        yield watch


async def first_of(client, revision):
    """The first changes of a new stream."""
    stream = await client.open_watch(PREFIX, revision)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await stream.read()
    finally:
        stream.close()


async def on_line(client):
    """Wait until a server that was restarted is reached."""
    async with watching(client) as watch:
        await watch()


PROMISES = [
    a_key_has_revisions,
    a_condition_is_checked,
    a_lease_takes_its_keys_along_in_one_revision,
    a_lease_that_nobody_renews_ends,
    changes_come_from_a_revision_on,
    what_was_compacted_is_said_to_be_gone,
    an_empty_store_begins_anew,
    an_older_store_has_its_keys_and_leases_again,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = EtcdServer(tmp_path_factory.mktemp("ports") / "data")
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_etcd_keeps_its_promise(server, promise):
    async def main():
        async with EtcdClient([server.endpoint], deadline_ms=2_000) as client:
            await on_line(client)
            for record in (await client.get_prefix(PREFIX)).records:
                await client.delete(record.key)
        await promise(Real(server))

    asyncio.run(main())


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_the_one_in_memory_keeps_it_too(promise):
    async def main():
        await promise(Memory())

    run_virtual(main())
