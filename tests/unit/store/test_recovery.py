"""How long the reads of a recovery may take, in virtual time."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.store.errors import StoreUnavailable
from controlplane.store.recovery import read_live_rows
from tests.sim.virtual import run_virtual

READS = 7


class SlowConnection:
    """Every message takes as long; all tables are empty."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cut = asyncio.Event()
        self.messages = 0

    async def _pass(self) -> None:
        self.messages += 1
        try:
            await asyncio.wait_for(self._cut.wait(), self._seconds)
        except TimeoutError:
            return
        raise asyncpg.ConnectionDoesNotExistError("cut")

    def transaction(self, **_: object) -> SlowConnection:
        return self

    async def start(self) -> None:
        await self._pass()

    async def commit(self) -> None:
        await self._pass()

    async def fetch(self, *_: object) -> list[object]:
        await self._pass()
        return []

    def terminate(self) -> None:
        self._cut.set()


def recover(seconds: float) -> int:
    """How many messages a recovery with a limit of a second sent."""

    async def main() -> int:
        connection = SlowConnection(seconds)
        await read_live_rows(connection, 0, 1_000)
        return connection.messages

    return run_virtual(main())


def test_each_read_has_a_deadline_of_its_own():
    assert recover(0.9) == READS + 2


def test_a_read_that_misses_its_deadline_is_cut():
    with pytest.raises(StoreUnavailable, match="cut"):
        recover(1.1)
