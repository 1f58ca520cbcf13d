"""Fixtures: a PostgreSQL for the session, a database for each test, both backends of a store."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.store.store import Store, migrate_database
from tests.contract.store.harness import SHARDS, MemoryHarness, PostgresHarness
from tests.contract.store.rows import DAY
from tests.servers.postgres import PostgresServer

TEMPLATE = "store_template"


async def _prepare(dsn):
    await migrate_database(dsn)
    store = await Store.open(dsn)
    await store.initialise(SHARDS)
    await store.ensure_partitions([DAY])
    await store.close()


@pytest.fixture(scope="session")
def postgres():
    with PostgresServer({"fsync": "off"}) as server:
        asyncio.run(_prepare(server.create_database(TEMPLATE)))
        yield server


@pytest.fixture
def dsn(postgres):
    """A database of the test's own, migrated and initialised."""
    return postgres.fresh_database(TEMPLATE)


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
