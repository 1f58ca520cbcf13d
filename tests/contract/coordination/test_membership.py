from contextlib import AsyncExitStack

from controlplane.coordination.records import LeaseEnd, LeaseLost
from tests.contract.coordination.harness import Node, running, short_settings


async def start(stack, endpoint, cluster, name, **changes):
    node = Node(short_settings(cluster, endpoint, **changes), name, shards=1)
    await stack.enter_async_context(running(node.coordination.run()))
    return node


async def test_nodes_see_each_other_come_and_go(shared_etcd, cluster):
    async with AsyncExitStack() as stack:
        first = await start(stack, shared_etcd.endpoint, cluster, "a")
        await first.sees("a")
        async with AsyncExitStack() as inner:
            second = await start(inner, shared_etcd.endpoint, cluster, "b")
            await first.sees("a", "b")
            await second.sees("a", "b")
            assert first.membership.members["b"].info == second.membership.me
        await first.sees("a")


async def test_what_a_node_says_of_itself_reaches_the_others(shared_etcd, cluster):
    async with AsyncExitStack() as stack:
        first = await start(stack, shared_etcd.endpoint, cluster, "a")
        second = await start(stack, shared_etcd.endpoint, cluster, "b")
        await first.sees("a", "b")
        since = first.membership.members["b"].since
        second.membership.publish(eligible=False, committed_at_ms=77)
        await first.journal.until(lambda _: not first.membership.members["b"].info.eligible)
        seen = first.membership.members["b"]
        assert (seen.info.committed_at_ms, seen.since) == (77, since)


async def test_a_deleted_record_is_written_again(client, shared_etcd, cluster):
    async with AsyncExitStack() as stack:
        node = await start(stack, shared_etcd.endpoint, cluster, "a")
        await node.sees("a")
        before = node.membership.members["a"].create_revision
        await client.delete(f"/mainspring/{cluster}/nodes/a")
        await node.journal.until(
            lambda _: (m := node.membership.members.get("a")) and m.create_revision > before
        )


async def test_a_lost_lease_takes_the_record_along_and_the_next_brings_it_back(
    client, shared_etcd, cluster
):
    async with AsyncExitStack() as stack:
        node = await start(stack, shared_etcd.endpoint, cluster, "a")
        await node.sees("a")
        await client.revoke_lease(node.lease.current)
        await node.journal.has(("members",))
        await node.sees("a")


async def test_an_unreadable_record_is_no_member(client, shared_etcd, cluster):
    for name, value in {"x": b"not json", "y": b"[]", "z": b'{"address": "h:1"}'}.items():
        await client.put(f"/mainspring/{cluster}/nodes/{name}", value)
    await client.put(
        f"/mainspring/{cluster}/nodes/new",
        b'{"address": "h:1", "started_at_ms": 1, "from_the_future": true}',
    )
    async with AsyncExitStack() as stack:
        node = await start(stack, shared_etcd.endpoint, cluster, "a")
        await node.sees("a", "new")


async def test_members_come_back_after_the_store_was_wiped(own_etcd, cluster):
    async with AsyncExitStack() as stack:
        first = await start(stack, own_etcd.endpoint, cluster, "a")
        second = await start(stack, own_etcd.endpoint, cluster, "b")
        await first.sees("a", "b")
        stores = {lease: node for node in (first, second) if (lease := node.lease.current)}
        own_etcd.stop()
        own_etcd.wipe()
        own_etcd.start()
        for lease, node in stores.items():
            await node.journal.has(("lease", LeaseLost(lease, LeaseEnd.GONE)))
            await node.journal.until(lambda _, n=node: n.lease.current not in {None, *stores})
        for node in (first, second):
            await node.sees("a", "b")


async def test_who_retires_is_known_to_at_once(shared_etcd, cluster):
    async with AsyncExitStack() as stack:
        first = await start(stack, shared_etcd.endpoint, cluster, "a", report_ms=60_000)
        second = await start(stack, shared_etcd.endpoint, cluster, "b", report_ms=60_000)
        await first.sees("a", "b")
        await second.membership.retire()
        await first.journal.until(lambda _: not first.membership.members["b"].info.eligible)


async def test_who_retires_without_a_server_only_stops(own_etcd, cluster):
    async with AsyncExitStack() as stack:
        node = await start(stack, own_etcd.endpoint, cluster, "a")
        await node.sees("a")
        own_etcd.pause()
        await node.membership.retire()
        assert not node.membership.me.eligible
        await node.journal.until(lambda _: node.lease.current is None)
        await node.membership.retire()
        own_etcd.resume()
