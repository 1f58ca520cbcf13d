"""Lost, silent and refused connections: each ends soon, and says exactly what is known."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from controlplane.core.effects import Writes
from controlplane.store.api import ApiStore
from controlplane.store.connections import StoreSettings
from controlplane.store.errors import CommitUnknown, StoreUnavailable
from controlplane.store.records import Fence, RequestKey
from controlplane.store.shards import PostgresShardStore
from tests.contract.store.harness import eventually
from tests.contract.store.rows import first_hop, second_hop
from tests.contract.store.socket_proxy import SocketProxy

SETTINGS = StoreSettings(lock_ms=30, readers_most=1)
HASTY = StoreSettings(connect_ms=50, statement_ms=50)
OWN = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
END = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name LIKE 'mainspring%' AND datname = current_database()
"""


async def none_left(connection, sql):
    async def counted() -> bool:
        return await connection.fetchval(sql) == 0

    await eventually(counted)


@pytest.fixture
async def admin(dsn):
    made = await asyncpg.connect(dsn)
    yield made
    await made.close()


@pytest.fixture
async def proxy(dsn):
    async with SocketProxy(dsn) as made:
        yield made


@pytest.fixture
async def store(proxy):
    made = PostgresShardStore(proxy.dsn, SETTINGS)
    await made.take_over(0, 0, b"h" * 16, "n", "a")
    yield made
    await made.close()


async def test_a_silent_server_does_not_hold_a_batch_for_ever(store, proxy):
    store._settings = HASTY
    proxy.hold()
    with pytest.raises(StoreUnavailable):
        await store.commit(Fence(0, 1, 1), first_hop())


async def test_a_silent_server_leaves_an_empty_batch_unknown(store, proxy):
    store._settings = HASTY
    proxy.hold()
    with pytest.raises(CommitUnknown):
        await store.commit(Fence(0, 1, 1), Writes())


async def test_a_silent_server_does_not_settle_anything(store, proxy):
    proxy.hold()
    slow = PostgresShardStore(proxy.dsn, HASTY)
    with pytest.raises(CommitUnknown):
        await slow.commit(Fence(0, 1, 1), first_hop(), settle=True)


async def test_a_silent_server_leaves_a_takeover_undone_or_unknown(store, proxy):
    proxy.hold()
    slow = PostgresShardStore(proxy.dsn, HASTY)
    with pytest.raises(StoreUnavailable):
        await slow.take_over(0, 1, b"o" * 16, "n", "a")


async def test_a_row_that_stays_locked_is_not_waited_for(store, admin):
    async with admin.transaction():
        await admin.execute("UPDATE shard SET node = 'x' WHERE shard = 0")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await store.commit(Fence(0, 1, 1), first_hop())
    assert await store.commit(Fence(0, 1, 1), first_hop())


async def test_a_lost_connection_is_made_again(store, admin):
    assert await store.commit(Fence(0, 1, 1), first_hop())
    await admin.execute(END)
    try:
        written = await store.commit(Fence(0, 1, 2), second_hop())
    except StoreUnavailable:
        written = await store.commit(Fence(0, 1, 2), second_hop())
    assert written


async def test_whoever_may_not_be_ended_leaves_the_outcome_unknown(store, admin, proxy):
    """Only a superuser may end a superuser: the fence was never answered."""
    await admin.execute("CREATE ROLE meek LOGIN PASSWORD 'meek'")
    await admin.execute(
        "GRANT SELECT, UPDATE, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO meek"
    )
    parts = urlsplit(proxy.dsn)
    dsn = parts._replace(netloc="meek:meek@").geturl()
    meek = PostgresShardStore(dsn, StoreSettings())
    async with admin.transaction():
        await admin.execute("UPDATE shard SET node = 'x' WHERE shard = 0")
        with pytest.raises(CommitUnknown, match="cannot end"):
            await meek.commit(Fence(0, 1, 1), first_hop(), settle=True)
    assert await meek.commit(Fence(0, 1, 1), first_hop(), settle=True)
    async with admin.transaction():
        await admin.execute("UPDATE shard SET node = 'x' WHERE shard = 0")
        with pytest.raises(StoreUnavailable, match="cannot end"):
            await meek.take_over(0, 1, b"o" * 16, "n", "a")
    await meek.close()
    await admin.execute("DROP OWNED BY meek; DROP ROLE meek")


async def test_a_batch_that_is_cancelled_frees_the_row(store, admin, dsn):
    async with admin.transaction():
        await admin.execute("UPDATE shard SET node = 'x' WHERE shard = 0")
        batch = asyncio.create_task(store.commit(Fence(0, 1, 1), first_hop()))
        await asyncio.sleep(0)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
    other = PostgresShardStore(dsn, StoreSettings())
    assert await other.take_over(0, 1, b"o" * 16, "n", "a") == 2
    await other.close()


async def test_no_backend_is_left_in_a_transaction_after_a_refused_batch(store, admin):
    await store.commit(Fence(0, 1, 1), first_hop())
    sql = f"{OWN} AND state LIKE 'idle in%'"
    with pytest.raises(Exception, match="duplicate"):
        await store.commit(Fence(0, 1, 2), first_hop())
    await none_left(admin, sql)
    assert await store.commit(Fence(0, 1, 2), second_hop())


async def test_a_shard_that_is_released_has_no_connection(store, admin):
    sql = f"{OWN} AND application_name = 'mainspring leader'"
    assert await admin.fetchval(sql) == 1
    store.release(0)
    store.release(0)
    await none_left(admin, sql)


async def test_a_silent_server_does_not_hold_a_read_for_ever(proxy):
    api = ApiStore(proxy.dsn, SETTINGS)
    assert await api.list_shards()
    api._connections._settings = HASTY
    proxy.hold()
    with pytest.raises(StoreUnavailable):
        await api.list_shards()


async def test_a_silent_server_leaves_a_command_unknown(proxy):
    api = ApiStore(proxy.dsn, SETTINGS)
    assert await api.list_shards()
    api._connections._settings = HASTY
    proxy.hold()
    with pytest.raises(CommitUnknown):
        await api.append_command("acme", 1, b"body")


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_command_of_unknown_outcome_has_one_effect_when_its_request_is_repeated(
    proxy, arrived
):
    api = ApiStore(proxy.dsn, SETTINGS)
    request = RequestKey(b"k" * 32, b"b" * 32)
    lose = proxy.lose_answer if arrived else proxy.lose_request
    lose(b"a body")
    with pytest.raises(CommitUnknown):
        await api.append_command("acme", 1, b"a body", request=request)
    first = await api.append_command("acme", 1, b"a body", request=request)
    assert first.repeated is arrived
    assert await api.append_command("acme", 1, b"a body", request=request) == first._replace(
        repeated=True
    )
    await api.close()


async def test_a_reader_that_is_lost_takes_those_that_idle_with_it(proxy):
    """They would be found out one by one, each by a deadline of its own."""
    api = ApiStore(proxy.dsn, StoreSettings())
    await asyncio.gather(*(api.list_shards() for _ in range(4)))
    idle = list(api._connections._idle)
    assert len(idle) > 1
    api._connections._settings = HASTY
    proxy.hold()
    with pytest.raises(StoreUnavailable):
        await api.list_shards()
    assert api._connections._idle == []
    assert all(connection.is_closed() for connection in idle)


async def test_a_silent_server_does_not_hold_a_recovery_for_ever(store, proxy):
    await store.recover(0)
    store._settings = HASTY
    proxy.hold()
    with pytest.raises(StoreUnavailable):
        await store.recover(0)


async def test_reads_wait_for_a_place_but_not_for_ever(dsn):
    api = ApiStore(dsn, SETTINGS)
    assert len(await asyncio.gather(*(api.list_shards() for _ in range(5)))) == 5
    async with api._connections.lend():
        api._connections._settings = HASTY
        with pytest.raises(StoreUnavailable, match="busy"):
            await api.list_shards()
        api._connections._settings = SETTINGS
    assert await api.list_agents("", 10) == []
    await api.close()


async def test_a_read_that_waits_for_a_lock_gives_up(dsn, admin):
    api = ApiStore(dsn, SETTINGS)
    async with admin.transaction():
        await admin.execute("LOCK TABLE agent")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await api.list_agents("", 10)
    await api.close()


async def test_a_reader_that_was_ended_is_replaced(dsn, admin):
    api = ApiStore(dsn, StoreSettings())
    await api.list_shards()
    await admin.execute(END)
    try:
        shards = await api.list_shards()
    except StoreUnavailable:
        shards = await api.list_shards()
    assert len(shards) == 4
    await api.close()


class ThrownOut:
    """A connection that the server ended while nobody asked it anything."""

    async def fetchval(self, *_):
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2)")

    def terminate(self):
        """It is gone already."""


async def test_a_helper_against_blockers_that_was_thrown_out_is_no_bug_of_ours(store):
    with pytest.raises(StoreUnavailable, match="cannot end who holds the shard"):
        await store._terminate_blockers(ThrownOut(), 1)
