"""Fixtures: a PostgreSQL for the session, a database for each test, both backends of a store."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.store.store import Store, migrate_database
from tests.contract.store.harness import SHARDS, MemoryHarness, PostgresHarness
from tests.contract.store.rows import DAY

# Cheaper than a database for each test: what one test left is deleted before the next.
TABLES = (
    *("dag", "dag_version", "dag_version_use", "schedule", "schedule_instant", "run"),
    *("sealed_run", "attempt_live", "attempt", "attempt_late", "task_wait", "inbox"),
    *("request_key", "quarantine", "agent", "api_token", "shard_epoch"),
)
CLEAN = (
    "".join(f"DELETE FROM {table};" for table in TABLES)
    + """
DROP FUNCTION IF EXISTS stall CASCADE;
UPDATE shard SET epoch = 0, batch = 0, holder = '', node = '', address = '', taken_over_us = 0,
    batch_before = 0, server = '', restored_epoch = 0, restored_us = 0, restored_reason = '',
    hold = 0, hold_until_us = 0;
"""
)
ALONE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def prepare(dsn):
    """Makes a database that tests can share."""
    await migrate_database(dsn)
    store = await Store.open(dsn)
    await store.initialise(SHARDS)
    await store.ensure_partitions([DAY])
    await store.close()


@pytest.fixture(scope="session")
def shared_dsn(postgres):
    made = postgres.fresh_database()
    asyncio.run(prepare(made))
    return made


async def empty(dsn):
    """Deletes what the test before left."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("SET client_min_messages = 'warning'")
    await connection.execute(ALONE)
    await connection.execute(CLEAN)
    await connection.close()


@pytest.fixture
async def dsn(shared_dsn):
    """A database that is migrated, initialised and empty."""
    await empty(shared_dsn)
    return shared_dsn


@pytest.fixture
def empty_dsn(postgres):
    """A database without any table."""
    return postgres.fresh_database()


@pytest.fixture
async def postgres_harness(dsn):
    async with PostgresHarness(dsn) as made:
        yield made


@pytest.fixture(params=["memory", "postgres"])
def harness(request):
    if request.param == "memory":
        return MemoryHarness()
    return request.getfixturevalue("postgres_harness")


@pytest.fixture
async def api(dsn):
    store = await Store.open(dsn)
    yield store
    await store.close()
