import asyncio
import queue
import threading
import time

import pytest
from mainspring.etcd import rpc_pb2, rpc_pb2_grpc

from controlplane.coordination.client import EtcdClient
from controlplane.coordination.dial import open_blocking_channel
from controlplane.coordination.keepalive import LeaseCalls
from controlplane.coordination.lease import NodeLease
from controlplane.coordination.records import LeaseEnd, LeaseGranted, LeaseLost
from controlplane.settings.etcd import EtcdAccess, parse_endpoint
from tests.contract.coordination.harness import PATIENCE_S, Journal, running, short_settings
from tests.servers.etcd import free_port
from tests.servers.fault_proxy import FaultProxy


def lease_of(cluster, *endpoints, **changes):
    journal = Journal()
    lease = NodeLease(short_settings(cluster, *endpoints, **changes))
    lease.add_listener(journal.note)
    return lease, journal


async def granted(journal, count=1):
    """Wait for the count-th grant; returns its id."""
    grants = await journal.until(
        lambda entries: [e for e in entries if isinstance(e, LeaseGranted)][count - 1 :]
    )
    return grants[0].lease


async def lost(journal):
    losses = await journal.until(lambda entries: [e for e in entries if isinstance(e, LeaseLost)])
    return losses[0]


async def test_the_lease_outlives_its_time_by_renewal(client, shared_etcd, cluster):
    lease, journal = lease_of(cluster, shared_etcd.endpoint)
    async with running(lease.run()):
        number = await granted(journal)
        assert lease.current == number
        first = lease.valid_until
        renewals = await renewed_until(lease, first + 1.2)
        assert renewals >= 2
        assert lease.alive
        assert await client.lease_ttl_s(number) >= 0
    assert journal.entries == [LeaseGranted(number)]


async def renewed_until(lease, instant):
    """Wait until renewals carry the lease past the instant; returns how many it took."""
    count, seen = 0, lease.valid_until
    async with asyncio.timeout(PATIENCE_S):
        while lease.valid_until < instant:
            await asyncio.sleep(0.01)
            count, seen = count + (lease.valid_until != seen), lease.valid_until
    return count


async def test_the_end_of_run_revokes_the_lease(client, shared_etcd, cluster):
    lease, journal = lease_of(cluster, shared_etcd.endpoint)
    async with running(lease.run()):
        number = await granted(journal)
    assert await client.lease_ttl_s(number) < 0
    assert not lease.alive


async def test_a_revoked_lease_is_noticed_by_an_answer_that_is_no_error(
    client, shared_etcd, cluster
):
    lease, journal = lease_of(cluster, shared_etcd.endpoint)
    async with running(lease.run()):
        number = await granted(journal)
        await client.revoke_lease(number)
        assert await lost(journal) == LeaseLost(number, LeaseEnd.GONE)
        second = await granted(journal, 2)
        assert second != number
        assert lease.current == second


async def test_a_paused_server_costs_the_lease_and_another_one_follows(own_etcd, cluster):
    lease, journal = lease_of(cluster, own_etcd.endpoint)
    async with running(lease.run()):
        number = await granted(journal)
        own_etcd.pause()
        loss = await lost(journal)
        assert loss == LeaseLost(number, LeaseEnd.EXPIRED)
        assert time.monotonic() >= lease.valid_until
        assert not lease.alive
        own_etcd.resume()
        await granted(journal, 2)
        assert lease.alive
        async with EtcdClient([own_etcd.endpoint], deadline_ms=2_000) as client:
            assert await client.lease_ttl_s(number) < 0  # the lost one was revoked


async def test_a_blocked_main_loop_stops_the_renewal(client, shared_etcd, cluster):
    """The loop is blocked for real, by a call that waits for the lease to end."""
    lease, journal = lease_of(cluster, shared_etcd.endpoint)
    async with running(lease.run()):
        number = await granted(journal)
        await client.put(f"/test/{cluster}", b"", lease=number)
        wait_for_removal(shared_etcd.endpoint, f"/test/{cluster}")
        assert not lease.alive  # seen before the loss was told
        loss = await lost(journal)
        assert loss == LeaseLost(number, LeaseEnd.STALLED)
        await granted(journal, 2)


def wait_for_removal(endpoint, key):
    """Block the calling thread, and so its loop, until the key is gone."""
    create = rpc_pb2.WatchCreateRequest(key=key.encode())
    requests = queue.SimpleQueue()
    requests.put(rpc_pb2.WatchRequest(create_request=create))
    with open_blocking_channel(parse_endpoint(endpoint), EtcdAccess()) as channel:
        call = rpc_pb2_grpc.WatchStub(channel).Watch(iter(requests.get, None), timeout=PATIENCE_S)
        assert any(event.type == event.DELETE for response in call for event in response.events)
        requests.put(None)
        call.cancel()


async def test_a_short_stall_is_forgiven(client, shared_etcd, cluster):
    lease, journal = lease_of(cluster, shared_etcd.endpoint, lease_ttl_ms=3_000)
    async with running(lease.run()):
        number = await granted(journal)
        threading.Event().wait(0.6)  # longer than max_stall_ms, shorter than the lease
        await renewed_until(lease, lease.valid_until + 0.5)
        assert lease.current == number
    assert journal.entries == [LeaseGranted(number)]


@pytest.mark.parametrize("fault", ["dead", "silent"])
async def test_the_lease_is_taken_from_the_member_that_answers(shared_etcd, cluster, fault):
    async with FaultProxy(shared_etcd.endpoint) as proxy:
        proxy.link().hold()
        first = proxy.endpoint if fault == "silent" else f"127.0.0.1:{free_port()}"
        lease, journal = lease_of(cluster, first, shared_etcd.endpoint)
        async with running(lease.run()):
            await granted(journal)


async def test_a_member_that_goes_silent_does_not_cost_the_lease(shared_etcd, cluster):
    async with FaultProxy(shared_etcd.endpoint) as proxy:
        endpoints = [proxy.endpoint, shared_etcd.endpoint]
        lease, journal = lease_of(cluster, *endpoints, lease_ttl_ms=2_000)
        async with running(lease.run()):
            await granted(journal)
            proxy.link().hold()
            await renewed_until(lease, lease.valid_until + 2.5)
        assert len(journal.entries) == 1


async def test_the_lease_waits_for_a_server_that_comes_late(own_etcd, cluster):
    own_etcd.stop()
    lease, journal = lease_of(cluster, own_etcd.endpoint)
    async with running(lease.run()):
        assert not lease.alive
        await asyncio.to_thread(own_etcd.start)
        await granted(journal)


async def test_run_ends_in_time_although_no_server_answers(own_etcd, cluster):
    lease, journal = lease_of(cluster, own_etcd.endpoint)
    async with running(lease.run()):
        await granted(journal)
        own_etcd.pause()
    own_etcd.resume()


async def test_a_fault_of_the_thread_ends_run(shared_etcd, cluster, monkeypatch):
    def faulty(_calls, _ttl_s):
        raise AssertionError("our bug")

    monkeypatch.setattr(LeaseCalls, "grant", faulty)
    lease, _ = lease_of(cluster, shared_etcd.endpoint)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(AssertionError, match="our bug"):
            await lease.run()
