"""The store in memory under virtual time: stalls, lost answers, and what still lands later."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.core.effects import Writes
from controlplane.store.errors import CommitUnknown, StoreUnavailable
from controlplane.store.records import Fence
from tests.sim.memory_store import (
    ConnectionLost,
    Faults,
    MemoryDatabase,
    MemoryStore,
    Point,
)
from tests.sim.virtual import pass_time, run_virtual


class OneFault(Faults):
    """Stalls for a while at one point, or loses the connection there, once."""

    def __init__(self, point: Point, stall_s: float = 0.0, *, lose: bool = False) -> None:
        self._point: Point | None = point
        self._stall_s = stall_s
        self._lose = lose

    async def at(self, point: Point, shard: int) -> None:
        if point is self._point:
            self._point = None
            await self._pass(self._stall_s)
            if self._lose:
                raise ConnectionLost

    async def _pass(self, seconds: float) -> None:
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, done.set)
        await done.wait()


def simulate(scenario, fault):
    async def main():
        database = MemoryDatabase(2, lambda: 0)
        store = MemoryStore(database)
        await store.take_over(0, 0, b"a" * 16, "n", "a")
        store.faults = fault
        return await scenario(database, store)

    return run_virtual(main())


def test_whoever_waits_for_a_stalled_transaction_gives_up_in_virtual_time():
    async def scenario(database, store):
        stalled = asyncio.create_task(store.commit(Fence(0, 1, 1), Writes()))
        await pass_time(0)
        with pytest.raises(StoreUnavailable):
            await MemoryStore(database).commit(Fence(0, 1, 1), Writes())
        return await stalled

    assert simulate(scenario, OneFault(Point.WRITE, 60.0))


def test_a_takeover_ends_a_stalled_transaction():
    async def scenario(database, store):
        stalled = asyncio.create_task(store.commit(Fence(0, 1, 1), Writes()))
        await pass_time(0)
        await MemoryStore(database).take_over(0, 1, b"b" * 16, "m", "b")
        with pytest.raises(StoreUnavailable):
            await stalled
        return database.shards[0].epoch, database.shards[0].batch

    assert simulate(scenario, OneFault(Point.WRITE, 60.0)) == (2, 0)


def test_a_lost_commit_can_land_later():
    async def scenario(database, store):
        with pytest.raises(CommitUnknown):
            await store.commit(Fence(0, 1, 1), Writes())
        assert (await store.read_shard(0)).batch == 0
        database.land(0)
        assert (await store.read_shard(0)).batch == 1
        return await store.commit(Fence(0, 1, 1), Writes(), settle=True)

    assert not simulate(scenario, OneFault(Point.COMMIT, lose=True))


def test_a_lost_answer_is_found_by_settling():
    async def scenario(_, store):
        with pytest.raises(CommitUnknown):
            await store.commit(Fence(0, 1, 1), Writes())
        return await store.commit(Fence(0, 1, 1), Writes(), settle=True)

    assert not simulate(scenario, OneFault(Point.ANSWER, lose=True))


def test_a_lost_answer_to_a_takeover_finds_its_own_holder():
    async def scenario(_, store):
        return await store.take_over(0, 1, b"b" * 16, "n", "a")

    assert simulate(scenario, OneFault(Point.ANSWER, lose=True)) == 2


@pytest.mark.parametrize("point", [Point.OPEN, Point.WRITE])
def test_a_connection_lost_before_commit_has_written_nothing(point):
    async def scenario(_, store):
        with pytest.raises(StoreUnavailable):
            await store.commit(Fence(0, 1, 1), Writes())
        return await store.commit(Fence(0, 1, 1), Writes())

    assert simulate(scenario, OneFault(point, lose=True))


def test_settling_without_a_connection_tells_nothing():
    async def scenario(_, store):
        with pytest.raises(CommitUnknown):
            await store.commit(Fence(0, 1, 1), Writes(), settle=True)

    simulate(scenario, OneFault(Point.OPEN, lose=True))


def test_a_read_without_a_connection_fails():
    async def scenario(_, store):
        with pytest.raises(StoreUnavailable):
            await store.recover(0)

    simulate(scenario, OneFault(Point.READ, lose=True))
