import asyncio

import pytest

from controlplane.coordination.client import EtcdClient
from controlplane.coordination.errors import EtcdUnavailable, LeaseNotFound
from tests.servers.etcd import free_port
from tests.servers.fault_proxy import FaultProxy


def key(cluster, name="k"):
    return f"/test/{cluster}/{name}"


async def test_a_key_is_written_read_and_deleted(client, cluster):
    assert await client.get(key(cluster)) is None
    revision = await client.put(key(cluster), b"v")
    record = await client.get(key(cluster))
    assert (record.value, record.create_revision, record.lease) == (b"v", revision, 0)
    assert await client.delete(key(cluster))
    assert not await client.delete(key(cluster))


async def test_a_prefix_is_read_with_its_revision(client, cluster):
    await client.put(key(cluster, "a"), b"1")
    last = await client.put(key(cluster, "b"), b"2")
    await client.put(key(cluster + "-other", "c"), b"3")
    snapshot = await client.get_prefix(key(cluster, ""))
    assert [record.value for record in snapshot.records] == [b"1", b"2"]
    assert snapshot.revision == last + 1


async def test_only_the_first_creates_a_key(client, cluster):
    first, second = await client.grant_lease(60), await client.grant_lease(60)
    won = await client.put_if_absent(key(cluster), b"a", lease=first)
    lost = await client.put_if_absent(key(cluster), b"b", lease=second)
    assert (won.done, lost.done) == (True, False)
    assert lost.record == won.record
    assert won.record.lease == first


async def test_a_repeated_creation_gives_the_same_answer(client, cluster):
    lease = await client.grant_lease(60)
    first = await client.put_if_absent(key(cluster), b"a", lease=lease)
    assert await client.put_if_absent(key(cluster), b"a", lease=lease) == first


async def test_a_key_is_overwritten_only_if_it_is_the_known_one(client, cluster):
    created = await client.put(key(cluster), b"a")
    done = await client.put_if(key(cluster), b"b", create_revision=created, lease=0)
    refused = await client.put_if(key(cluster), b"c", create_revision=created + 1, lease=0)
    assert (done.done, refused.done) == (True, False)
    assert refused.record.value == b"b"


async def test_a_key_is_deleted_only_if_it_is_the_known_one(client, cluster):
    created = await client.put(key(cluster), b"a")
    assert not (await client.delete_if(key(cluster), created - 1, 0)).done
    assert not (await client.delete_if(key(cluster), created, 4_711)).done
    assert (await client.delete_if(key(cluster), created, 0)).done
    assert await client.get(key(cluster)) is None


async def test_a_revoked_lease_takes_its_keys_along(client, cluster):
    lease = await client.grant_lease(60)
    await client.put(key(cluster), b"a", lease=lease)
    assert 0 < await client.lease_ttl_s(lease) <= 60
    await client.revoke_lease(lease)
    assert await client.get(key(cluster)) is None
    assert await client.lease_ttl_s(lease) < 0


async def test_a_lease_that_is_gone_is_said_to_be_gone(client, cluster):
    with pytest.raises(LeaseNotFound):
        await client.revoke_lease(4_711)
    with pytest.raises(LeaseNotFound):
        await client.put(key(cluster), b"a", lease=4_711)
    with pytest.raises(LeaseNotFound):
        await client.put_if_absent(key(cluster), b"a", lease=4_711)


async def test_a_dead_member_is_left_for_the_next(shared_etcd, cluster):
    endpoints = [f"127.0.0.1:{free_port()}", shared_etcd.endpoint]
    async with EtcdClient(endpoints, deadline_ms=1_000) as client:
        await client.put(key(cluster), b"a")
        assert (await client.get(key(cluster))).value == b"a"


async def test_a_hung_member_is_left_for_the_next_and_stays_left(shared_etcd, cluster):
    async with FaultProxy(shared_etcd.endpoint) as proxy:
        proxy.link().hold()
        async with EtcdClient([proxy.endpoint, shared_etcd.endpoint], deadline_ms=300) as client:
            await client.put(key(cluster), b"a")
            # Nine calls within less than one deadline: none of them asked the hung member.
            async with asyncio.timeout(0.25):
                for _ in range(9):
                    await client.get(key(cluster))


async def test_without_any_member_a_call_fails_within_its_deadlines():
    endpoints = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    async with EtcdClient(endpoints, deadline_ms=300) as client, asyncio.timeout(5):
        with pytest.raises(EtcdUnavailable):
            await client.get("/k")


async def test_a_paused_member_misses_the_deadline(own_etcd):
    async with EtcdClient([own_etcd.endpoint], deadline_ms=300) as client:
        await client.put("/k", b"a")
        own_etcd.pause()
        with pytest.raises(EtcdUnavailable):
            await client.get("/k")
        own_etcd.resume()


async def test_status_names_every_member(shared_etcd):
    dead = f"127.0.0.1:{free_port()}"
    async with EtcdClient([shared_etcd.endpoint, dead], deadline_ms=1_000) as client:
        alive, gone = await client.status()
    assert (alive.endpoint, alive.has_leader, alive.error) == (shared_etcd.endpoint, True, "")
    assert alive.version.startswith("3.")
    assert gone.endpoint == dead
    assert "UNAVAILABLE" in gone.error
