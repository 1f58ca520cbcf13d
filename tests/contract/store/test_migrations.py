"""How a database gets its schema, and who is refused."""

from __future__ import annotations

import asyncio
from importlib.resources import files

import asyncpg
import pytest

from controlplane.store.errors import BatchRefused, NotInitialised, SchemaError, StoreUnavailable
from controlplane.store.migrations import Migration, migrate, own_migrations, read_applied
from controlplane.store.queries import query
from controlplane.store.store import Store, migrate_database
from tests.contract.store.catalog import read_catalog


@pytest.fixture
async def connection(empty_dsn):
    made = await asyncpg.connect(empty_dsn)
    yield made
    await made.close()


async def test_migrations_run_once(empty_dsn):
    assert await migrate_database(empty_dsn) == len(own_migrations())
    assert await migrate_database(empty_dsn) == 0


async def test_two_runners_at_once_do_not_disturb_each_other(empty_dsn):
    counts = await asyncio.gather(*(migrate_database(empty_dsn) for _ in range(3)))
    assert sorted(counts) == [0, 0, len(own_migrations())]


async def test_the_snapshot_of_the_schema_is_what_the_migrations_make(connection, postgres):
    await migrate(connection, own_migrations())
    other = await asyncpg.connect(postgres.fresh_database())
    await other.execute(query("schema_tables"))
    await other.execute(files("controlplane.store").joinpath("schema.sql").read_text())
    assert await read_catalog(other) == await read_catalog(connection)
    await other.close()


async def test_a_changed_migration_is_refused(connection, empty_dsn):
    await migrate(connection, own_migrations())
    await connection.execute("UPDATE schema_migration SET checksum = 'x' WHERE number = 1")
    with pytest.raises(SchemaError, match=r"migration 0001 .* was changed"):
        await migrate_database(empty_dsn)
    with pytest.raises(SchemaError, match="was changed"):
        await Store.open(empty_dsn)


async def test_a_newer_schema_is_not_migrated_and_served_only_while_it_allows(
    connection, empty_dsn
):
    ours = own_migrations()
    newer = Migration(len(ours) + 1, "later", "SELECT 1", 1)
    await migrate(connection, [*ours, newer])
    with pytest.raises(SchemaError, match="migrate with the newer program"):
        await migrate_database(empty_dsn)
    await (await Store.open(empty_dsn)).close()
    number = len(ours) + 2
    await migrate(connection, [*ours, newer, Migration(number, "contract", "SELECT 2", number)])
    with pytest.raises(SchemaError, match="upgrade it"):
        await Store.open(empty_dsn)


async def test_an_empty_database_is_not_opened(empty_dsn):
    with pytest.raises(SchemaError, match="migrate it"):
        await Store.open(empty_dsn)


async def test_a_migration_that_fails_leaves_nothing(connection):
    text = "-- node versions: 1\nCREATE TABLE half (a int4); SELECT 1 / 0;"
    with pytest.raises(BatchRefused, match="division by zero"):
        await migrate(connection, [Migration(1, "bad", text, 1)])
    assert await read_applied(connection) == []
    assert await connection.fetchval("SELECT to_regclass('half')") is None


async def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await migrate_database(f"postgresql://nobody:x@/none?host={tmp_path}")


async def test_shards_are_made_once(empty_dsn):
    await migrate_database(empty_dsn)
    store = await Store.open(empty_dsn)
    with pytest.raises(NotInitialised):
        await store.count_shards()
    assert await store.initialise(3)
    assert not await store.initialise(3)
    with pytest.raises(SchemaError, match="initialised with 3 shards, not 4"):
        await store.initialise(4)
    with pytest.raises(ValueError, match="between 1 and"):
        await store.initialise(0)
    assert await store.count_shards() == 3
    await store.close()


async def test_buckets_are_spread_over_the_shards(empty_dsn):
    await migrate_database(empty_dsn)
    store = await Store.open(empty_dsn)
    await store.initialise(3)
    await store.close()
    connection = await asyncpg.connect(empty_dsn)
    rows = await connection.fetch("SELECT shard, count(*) FROM bucket GROUP BY 1 ORDER BY 1")
    await connection.close()
    assert [tuple(row) for row in rows] == [(0, 1366), (1, 1365), (2, 1365)]
