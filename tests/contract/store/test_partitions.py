"""Partitions by day: made ahead, and no row is lost for want of one."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.core.effects import Writes
from controlplane.store.connections import StoreSettings
from controlplane.store.errors import StoreUnavailable
from controlplane.store.records import Fence
from controlplane.store.store import Store, migrate_database
from tests.contract.store.rows import (
    DAY,
    NOW_US,
    dag_of,
    first_hop,
    instant_row,
    last_hop,
    second_hop,
)

PARTS = """
SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE c.relname LIKE '%\\_2____' AND c.relkind = 'r'
"""
WHERE = "SELECT tableoid::regclass::text FROM {} LIMIT 1"


@pytest.fixture
async def store(empty_dsn):
    await migrate_database(empty_dsn)
    made = await Store.open(empty_dsn)
    await made.initialise(4)
    yield made
    await made.close()


@pytest.fixture
async def connection(store, empty_dsn):
    made = await asyncpg.connect(empty_dsn)
    yield made
    await made.close()


async def test_each_day_has_its_partitions_once(store, connection):
    assert await store.ensure_partitions(range(DAY, DAY + 3)) == 15
    assert await store.ensure_partitions(range(DAY + 1, DAY + 4)) == 5
    assert await connection.fetchval(PARTS) == 20


async def test_nodes_that_start_together_agree(store):
    made = await asyncio.gather(*(store.ensure_partitions([DAY]) for _ in range(3)))
    assert sorted(made) == [0, 0, 5]


async def test_rows_of_a_day_without_partitions_are_kept_and_move(store, connection):
    shards = store.shards
    await shards.take_over(0, 0, b"h" * 16, "n", "a")
    instant = Writes(instants=[instant_row(dag_of(0), "daily", NOW_US)])
    batches = [first_hop(), second_hop(), last_hop(), instant]
    for number, writes in enumerate(batches, 1):
        await shards.commit(Fence(0, 1, number), writes)
    tables = ("run", "attempt", "sealed_run", "schedule_instant")
    found = [await connection.fetchval(WHERE.format(table)) for table in tables]
    assert found == [f"{table}_default" for table in tables]
    assert await store.ensure_partitions([DAY]) == 5
    found = [await connection.fetchval(WHERE.format(table)) for table in tables]
    assert found == [f"{table}_{DAY}" for table in tables]
    assert await connection.fetchval("SELECT count(*) FROM attempt") == 2


async def test_a_partition_that_cannot_be_made_now_is_made_later(store, connection, empty_dsn):
    hasty = Store(empty_dsn, StoreSettings(lock_ms=20))
    async with connection.transaction():
        await connection.execute("LOCK TABLE run_default IN ROW EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable):
            await hasty.ensure_partitions([DAY])
    assert await hasty.ensure_partitions([DAY]) == 5
