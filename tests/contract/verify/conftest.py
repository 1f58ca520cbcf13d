"""Fixtures: a database with a real history, and ways to break it and to judge it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.store.evidence import EVER_US, EvidenceStore, PageSizes
from controlplane.store.store import Store
from controlplane.verify.verification import Verification
from tests.contract.store.conftest import TABLES, empty, prepare
from tests.contract.verify import stories
from tests.contract.verify.history import write
from tests.unit.core.bench import NOON_US

KEEP = "CREATE SCHEMA kept;" + "".join(
    f"CREATE TABLE kept.{table} AS TABLE public.{table};" for table in (*TABLES, "shard")
)
PUT_BACK = (
    "".join(
        f"DELETE FROM {table};"
        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM kept.{table};"
        for table in TABLES
    )
    + """
UPDATE shard SET epoch = kept.epoch, batch = kept.batch, holder = kept.holder
FROM kept.shard AS kept WHERE kept.shard = shard.shard
"""
)
DAY = NOON_US // 86_400_000_000


async def prepare_day(dsn):
    await prepare(dsn)
    store = await Store.open(dsn)
    await store.ensure_partitions([DAY])
    await store.close()


@pytest.fixture(scope="session")
def shared_dsn(postgres):
    made = postgres.fresh_database()
    asyncio.run(prepare_day(made))
    return made


@pytest.fixture
async def dsn(shared_dsn):
    await empty(shared_dsn)
    return shared_dsn


async def verify(dsn, *, since_us=EVER_US, sizes=None):
    """Everything, in pages so small that there are several."""
    async with EvidenceStore.opened(dsn, sizes or PageSizes(rows=20, runs=5)) as store:
        return await Verification(store).everything(since_us)


async def execute(dsn, statements):
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def change(dsn, statement):
    """Executes a statement that nobody would; it has an effect."""
    connection = await asyncpg.connect(dsn)
    try:
        tag = await connection.execute(statement)
        assert not tag.endswith(" 0"), statement
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def story():
    """A history of everything."""
    return stories.everything()


@pytest.fixture(scope="session")
def story_dsn(postgres, story):
    """A database that holds it, and every row of it once more beside."""
    made = postgres.fresh_database()
    asyncio.run(prepare_day(made))
    asyncio.run(write(made, story))
    asyncio.run(execute(made, KEEP))
    return made


@pytest.fixture
async def copy(story_dsn):
    """The database of the story as it was written, whatever the test before did to it."""
    await execute(story_dsn, PUT_BACK)
    return story_dsn
