"""PostgreSQL stops, crashes and comes back under its clients; the server here is these tests' own.

Every call ends soon and says what is known; afterwards the same clients work again by themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal

import asyncpg
import pytest

from controlplane.core.effects import Writes
from controlplane.store.connections import StoreSettings
from controlplane.store.errors import CommitUnknown, StoreUnavailable
from controlplane.store.records import AgentRow, Fence
from controlplane.store.store import Store, migrate_database
from tests.contract.store.conftest import empty, prepare
from tests.contract.store.harness import STALL, STALLED, eventually
from tests.contract.store.rows import AGENT, DAY, INCARNATION, TENANT, attempt_id, first_hop
from tests.servers.postgres import PostgresServer

# Far above what a refusal takes, far below what a deadline of the store would.
SOON_S = 10.0
SETTINGS = StoreSettings(connect_ms=20_000, statement_ms=20_000, lock_ms=20_000)
HOLDER = b"h" * 16
AGENT_ROW = AgentRow(AGENT, INCARNATION, "boot", "0.1", 4_000, 2**30, 10)

# Each is a call that a client of a running server makes; none changes what another one needs.
READS = {
    "read_shard": lambda store: store.shards.read_shard(0),
    "recover": lambda store: store.shards.recover(0),
    "read_commands": lambda store: store.shards.read_commands(0, 10, frozenset()),
    "read_versions": lambda store: store.shards.read_versions([(("t", "d"), b"x" * 32)]),
    "reserve_run_keys": lambda store: store.shards.reserve_run_keys(1),
    "find_run": lambda store: store.api.find_run(TENANT, b"r" * 16),
    "run_task_rows": lambda store: store.api.run_task_rows(DAY, 1),
    "list_agents": lambda store: store.api.list_agents("", 10),
    "count_shards": lambda store: store.count_shards(),
    "ensure_partitions": lambda store: store.ensure_partitions([DAY]),
    "initialise": lambda store: store.initialise(4),
    "forget_expired": lambda store: store.forget_expired(0),
}
WRITES = {
    "commit": lambda store: store.shards.commit(Fence(0, 1, 1), first_hop()),
    "commit of nothing": lambda store: store.shards.commit(Fence(0, 1, 1), Writes()),
    "put_agent": lambda store: store.api.put_agent(AGENT_ROW),
    "append_command": lambda store: store.api.append_command(TENANT, 1, b"body"),
}
TAKE_OVER = {"take_over": lambda store: store.shards.take_over(0, 0, HOLDER, "n", "a")}


@pytest.fixture(scope="module")
def server():
    with PostgresServer({"fsync": "off"}) as made:
        yield made


@pytest.fixture(scope="module")
def own_dsn(server):
    made = server.fresh_database()
    asyncio.run(prepare(made))
    return made


@pytest.fixture
async def store(own_dsn):
    """A node's client, whose shard 0 is led in epoch 1; it has idle connections of all kinds."""
    await empty(own_dsn)
    made = await Store.open(own_dsn, SETTINGS)
    await made.shards.take_over(0, 0, HOLDER, "n", "a")
    await asyncio.gather(*(call(made) for call in READS.values()))
    yield made
    await made.close()


@pytest.fixture
async def admin(own_dsn):
    made = await asyncpg.connect(own_dsn)
    yield made
    made.terminate()


async def outcome_of(call, store):
    """What a call ends with, soon: an error, or None."""
    async with asyncio.timeout(SOON_S):
        try:
            await call(store)
        except (StoreUnavailable, CommitUnknown) as error:
            return type(error)
    return None


async def outcomes_of(calls, store):
    names = list(calls)
    found = await asyncio.gather(*(outcome_of(calls[name], store) for name in names))
    return dict(zip(names, found, strict=True))


async def works_again(store):
    """The same clients, without a failure in between: all was found out already."""
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(call(store) for call in READS.values()))
        await asyncio.gather(*(store.api.list_shards() for _ in range(20)))


async def waiting_for_locks(admin, count):
    sql = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    async def all_wait() -> bool:
        return await admin.fetchval(sql) == count

    await eventually(all_wait)


async def test_while_the_server_is_down_every_call_fails_soon_and_afterwards_none(server, store):
    await asyncio.to_thread(server.end_at_once)
    for _ in range(3):
        found = await outcomes_of(READS | WRITES | TAKE_OVER, store)
        assert set(found.values()) == {StoreUnavailable}
        with pytest.raises(StoreUnavailable, match="cannot connect"):
            await Store.open(store._dsn, SETTINGS)
        with pytest.raises(StoreUnavailable, match="cannot connect"):
            await migrate_database(store._dsn, SETTINGS)
        with pytest.raises(CommitUnknown):
            await store.shards.commit(Fence(0, 1, 1), first_hop(), settle=True)
    await asyncio.to_thread(server.boot)
    await works_again(store)
    assert await store.shards.commit(Fence(0, 1, 1), first_hop())


async def test_a_restart_between_two_calls_is_not_noticed(server, store):
    assert await store.shards.commit(Fence(0, 1, 1), first_hop())
    await asyncio.to_thread(server.restart)
    await works_again(store)
    assert await store.shards.commit(Fence(0, 1, 2), Writes())


async def test_a_call_that_was_sent_to_a_server_that_has_just_ended_says_what_is_known(
    server, store
):
    """The loop has not seen yet that its connections are gone."""
    server.end_at_once()
    calls = READS | WRITES
    found = await outcomes_of(calls, store)
    assert {name: found[name] for name in READS} == dict.fromkeys(READS, StoreUnavailable)
    assert found["commit"] is StoreUnavailable
    assert set(found.values()) <= {StoreUnavailable, CommitUnknown}
    await asyncio.to_thread(server.boot)
    await works_again(store)
    assert await store.shards.commit(Fence(0, 1, 1), first_hop())


async def test_calls_in_flight_end_with_their_server(server, store, admin):
    """Reads and batches before COMMIT are known to have done nothing; single writes are not."""
    calls = {
        "commit": WRITES["commit"],
        "append_command": WRITES["append_command"],
        "put_agent": WRITES["put_agent"],
        **{name: READS[name] for name in ("recover", "list_agents", "run_task_rows")},
    }
    await admin.execute("BEGIN")
    await admin.execute("LOCK TABLE run, agent, inbox, attempt_live")
    # A shard has one connection for its batches and its recovery: another shard recovers.
    calls["recover"] = lambda store: store.shards.recover(1)
    working = asyncio.create_task(outcomes_of(calls, store))
    await waiting_for_locks(admin, len(calls))
    await asyncio.to_thread(server.end_at_once)
    assert await working == {
        "commit": StoreUnavailable,
        "append_command": CommitUnknown,
        "put_agent": CommitUnknown,
        "recover": StoreUnavailable,
        "list_agents": StoreUnavailable,
        "run_task_rows": StoreUnavailable,
    }
    await asyncio.to_thread(server.boot)
    await works_again(store)
    assert await store.shards.commit(Fence(0, 1, 1), first_hop())


async def stalled_commit(store, admin):
    """The first batch; its COMMIT is sent and does not end."""
    await admin.execute(STALL)
    batch = asyncio.create_task(store.shards.commit(Fence(0, 1, 1), first_hop()))

    async def stalled() -> bool:
        return await admin.fetchval(STALLED) > 0

    await eventually(stalled)
    return batch


async def settled(store):
    """Written by this call, for it had not committed; and only once."""
    assert await store.shards.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert not await store.shards.commit(Fence(0, 1, 1), first_hop(), settle=True)
    rows = await store.shards.recover(0)
    assert [row.attempt_id for row in rows.live] == [attempt_id(1)]


async def test_a_server_that_ends_during_a_commit_leaves_it_unknown_until_it_is_back(
    server, store, admin
):
    batch = await stalled_commit(store, admin)
    await asyncio.to_thread(server.end_at_once)
    with pytest.raises(CommitUnknown):
        await batch
    with pytest.raises(CommitUnknown):
        await store.shards.commit(Fence(0, 1, 1), first_hop(), settle=True)
    await asyncio.to_thread(server.boot)
    await settled(store)


async def test_a_backend_terminated_during_a_commit_leaves_it_unknown_and_it_is_settled(
    store, admin
):
    batch = await stalled_commit(store, admin)
    sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND {}"
    assert await admin.fetchval(sql.format("NOT granted"))
    with pytest.raises(CommitUnknown):
        await batch
    await admin.execute("SELECT pg_advisory_unlock(99)")
    await settled(store)


async def test_a_backend_killed_takes_all_others_with_it_and_they_come_back(store, admin):
    """The postmaster ends every backend and recovers from the log."""
    batch = await stalled_commit(store, admin)
    sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    os.kill(await admin.fetchval(sql), signal.SIGKILL)
    with pytest.raises(CommitUnknown):
        await batch

    async def ended() -> bool:
        return admin.is_closed()

    async def back() -> bool:
        return not any((await outcomes_of(READS, store)).values())

    await eventually(ended)
    await eventually(back)
    await works_again(store)
    await settled(store)
