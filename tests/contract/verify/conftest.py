"""Fixtures: a database with a real history, and ways to break it and to judge it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.store.evidence import EVER_US, EvidenceStore, PageSizes
from controlplane.store.store import Store
from controlplane.verify.verification import Verification
from tests.contract.store.conftest import empty, prepare
from tests.unit.core.bench import NOON_US

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
    """Everything, in pages so small that there are many."""
    async with EvidenceStore.opened(dsn, sizes or PageSizes(rows=3, runs=2)) as store:
        return await Verification(store).everything(since_us)


@pytest.fixture
def breaks(dsn):
    """Executes a statement that nobody would, with all constraints off where it needs that."""

    async def execute(*statements):
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                tag = await connection.execute(statement)
                assert not tag.endswith(" 0"), statement
        finally:
            await connection.close()

    return execute
