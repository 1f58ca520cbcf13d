"""Public bugs of two schedulers that race, replayed on a real PostgreSQL.

Both leaders have decided to do the same thing and neither knows of the other, which is the worst
that a stale view can do. What is left is what the database lets happen. See `docs/museum.md`.
"""

from __future__ import annotations

import asyncio

import pytest

from controlplane.core.effects import Writes
from controlplane.store import connections
from controlplane.store.errors import BatchRefused, Deposed
from controlplane.store.records import Fence
from tests.contract.store.conftest import prepare
from tests.contract.store.harness import PostgresHarness
from tests.contract.store.rows import (
    NOW_US,
    dag_of,
    first_hop,
    instant_row,
    live_row,
    run_row,
)

UNFENCED = """
PREPARE fence (int4, int8, int8) AS
UPDATE shard SET batch = $3 WHERE shard = $1 AND $2 > 0
"""
DROP_KEY = "ALTER TABLE {0} DROP CONSTRAINT {0}_pkey"
orders = pytest.mark.parametrize("order", ["old first", "new first", "together"])


@pytest.fixture
async def own_harness(empty_dsn):
    """A database of one's own, whose schema may be hurt."""
    await prepare(empty_dsn)
    async with PostgresHarness(empty_dsn) as made:
        yield made


@pytest.fixture
def unfenced(monkeypatch):
    """Leaders that connect from now on write whatever epoch is in force."""
    monkeypatch.setattr(connections, "query", lambda _: UNFENCED)


async def race(harness, order, old, new):
    """The leader of epoch 1 writes `old`, that of epoch 2 takes over and writes `new`; returns why
    one of them was refused, if it was.
    """
    ours, theirs = harness.store, harness.other_store()
    await ours.take_over(0, 0, b"o" * 16, "old", "old:1")
    await ours.commit(Fence(0, 1, 1), first_hop())

    async def take_over_and_write():
        await theirs.take_over(0, 1, b"n" * 16, "new", "new:1")
        await theirs.commit(Fence(0, 2, 1), new)

    steps = [lambda: ours.commit(Fence(0, 1, 2), old), take_over_and_write]
    if order == "together":
        outcomes = await asyncio.gather(*(step() for step in steps), return_exceptions=True)
    else:
        outcomes = []
        for step in steps if order == "old first" else reversed(steps):
            outcomes += await asyncio.gather(step(), return_exceptions=True)
    return [type(each) for each in outcomes if isinstance(each, Exception)]


def assigns(attempt):
    """The second task of the run is assigned."""
    return Writes(live=[live_row(1, 1, attempt)])


LIVE = "SELECT count(*) FROM attempt_live WHERE run = 1 AND task = 1"


@orders
async def test_two_schedulers_assign_one_task(postgres_harness, order):
    """Airflow #57618, #59378: two schedulers saw a task instance that was ready, at the same time.
    The second one's update found the row by its id alone, counted one try more, and the task was
    started once by each.
    """
    [refused] = await race(postgres_harness, order, assigns(2), assigns(3))
    assert refused in (Deposed, BatchRefused)
    assert await postgres_harness.admin.fetchval(LIVE) == 1


async def test_two_schedulers_assign_one_task_without_a_fence(unfenced, postgres_harness):
    """The key of the table is a second bar."""
    assert await race(postgres_harness, "new first", assigns(2), assigns(3)) == [BatchRefused]
    assert await postgres_harness.admin.fetchval(LIVE) == 1


async def test_two_schedulers_assign_one_task_is_seen(unfenced, own_harness):
    await own_harness.admin.execute(DROP_KEY.format("attempt_live"))
    assert await race(own_harness, "new first", assigns(2), assigns(3)) == []
    assert await own_harness.admin.fetchval(LIVE) == 2


def fires(run):
    """One instant of a schedule becomes a run."""
    instants = [instant_row(dag_of(0), "daily", NOW_US)]
    return Writes(runs=[run_row(run)], instants=instants)


RUNS = "SELECT count(*) FROM run WHERE run > 1"


@orders
async def test_two_schedulers_fire_one_instant(postgres_harness, order):
    """DolphinScheduler #13758: of two masters, each fired the same time of the same schedule, a
    second apart, although the trigger was taken under a lock.
    """
    [refused] = await race(postgres_harness, order, fires(2), fires(3))
    assert refused in (Deposed, BatchRefused)
    assert await postgres_harness.admin.fetchval(RUNS) == 1


async def test_two_schedulers_fire_one_instant_is_seen(unfenced, own_harness):
    await own_harness.admin.execute(DROP_KEY.format("schedule_instant"))
    assert await race(own_harness, "new first", fires(2), fires(3)) == []
    assert await own_harness.admin.fetchval(RUNS) == 2
