"""Fixtures: one PostgreSQL and one database for the session, emptied before each test."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.store.store import migrate_database
from tests.contract.api.harness import World

# Cheaper than a database for each test.
TABLES = (
    *("dag", "dag_version", "dag_version_use", "schedule", "schedule_instant", "run"),
    *("sealed_run", "attempt_live", "attempt", "attempt_late", "task_wait", "inbox", "request_key"),
    *("quarantine", "agent", "api_token", "shard_epoch"),
)
CLEAN = "".join(f"DELETE FROM {table};" for table in TABLES)
FORGET_LEADERS = """
UPDATE shard SET epoch = 0, batch = 0, holder = '', node = '', address = '', hold = 0
"""


@pytest.fixture(scope="session")
def shared_dsn(postgres):
    made = postgres.fresh_database()
    asyncio.run(migrate_database(made))
    return made


@pytest.fixture
async def dsn(shared_dsn):
    """A database that is migrated and empty."""
    connection = await asyncpg.connect(shared_dsn)
    await connection.execute(CLEAN)
    await connection.execute(FORGET_LEADERS)
    await connection.close()
    return shared_dsn


@pytest.fixture
async def world(dsn, tmp_path):
    async with World(dsn, tmp_path) as made:
        yield made
