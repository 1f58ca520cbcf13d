"""Two backends of one contract: what a test does to a store besides calling it.

Each harness gives clients of one database, opens a takeover that stays uncommitted, and makes
COMMITs stall, so that a test can lose the client and let them land, or not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol, Self

import asyncpg

from controlplane.store.connections import StoreSettings
from controlplane.store.ports import EPOCH_LEAP, ShardStore
from controlplane.store.queries import query
from controlplane.store.records import ShardState
from controlplane.store.shards import PostgresShardStore
from tests.contract.store.socket_proxy import SocketProxy
from tests.sim.memory_store import (
    ConnectionLost,
    Faults,
    MemoryDatabase,
    MemoryStore,
    Point,
    Transaction,
)

SHARDS = 4
DEADLINE_S = 20.0
SETTINGS = StoreSettings(lock_ms=20_000, statement_ms=20_000)

STALL = """
CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(99); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER stall AFTER INSERT ON attempt_live DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION stall();
SELECT pg_advisory_lock(99);
"""
STALLED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
BUSY = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'mainspring leader' AND state <> 'idle' AND pid <> pg_backend_pid()
    AND datname = current_database()
"""
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND wait_event = 'transactionid' AND datname = current_database()
"""
APPEND = """
INSERT INTO inbox (command, created_us, bucket, shard, tenant, body)
OVERRIDING SYSTEM VALUE VALUES ($1, 1, 0, $2, 'acme', $3)
"""


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.002)


class OpenTakeover(Protocol):
    """A takeover that has the row and is not committed."""

    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...


class Harness(Protocol):
    """One database; `store` is the client that can be cut."""

    store: ShardStore

    def other_store(self) -> ShardStore:
        """Another node's client."""

    async def open_takeover(self, shard: int, epoch: int, holder: bytes) -> OpenTakeover: ...

    async def someone_waits(self) -> None:
        """Returns when somebody waits for the row of a shard."""

    async def stall_commits(self) -> None:
        """COMMITs of batches with new live attempts do not end from now on."""

    async def commit_stalled(self) -> None:
        """Returns when a COMMIT is stalled."""

    async def cut(self) -> None:
        """`store` loses its connections; their transactions stay."""

    async def let_land(self) -> None:
        """Stalled COMMITs end, new ones do not stall; returns when they have."""

    def lose_answer(self, mark: bytes) -> None:
        """What has `mark` and is sent by `store` next is done, and `store` does not learn it."""

    def lose_request(self, mark: bytes) -> None:
        """What has `mark` and is sent by `store` next does not arrive; its transaction stays."""

    async def append(self, command: int, shard: int, body: bytes) -> None: ...

    async def put_spec(self, digest: bytes, spec: bytes) -> None: ...

    async def forget(self, shard: int, epoch: int, batch: int) -> None:
        """The store goes back: it knows nothing of the shard after this epoch and batch."""

    async def promote(self) -> None:
        """The next takeover finds another server than the one before."""


class RawTakeover:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")


class PostgresHarness:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._proxy = SocketProxy(dsn)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._proxy)
        self.admin = await self.connection()
        self.store: ShardStore = self._client(self._proxy.dsn)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _client(self, dsn: str) -> PostgresShardStore:
        made = PostgresShardStore(dsn, SETTINGS)
        self._stack.push_async_callback(made.close)
        return made

    def other_store(self) -> ShardStore:
        return self._client(self.dsn)

    async def connection(self) -> asyncpg.Connection:
        made = await asyncpg.connect(self.dsn)
        self._stack.push_async_callback(made.close)
        return made

    async def open_takeover(self, shard: int, epoch: int, holder: bytes) -> OpenTakeover:
        raw = await self.connection()
        await raw.execute("BEGIN")
        await raw.execute(query("take_over"), shard, epoch, holder, "other", "other:1", EPOCH_LEAP)
        return RawTakeover(raw)

    async def _some(self, sql: str) -> bool:
        return await self.admin.fetchval(sql) > 0

    async def someone_waits(self) -> None:
        await eventually(lambda: self._some(WAITING))

    async def stall_commits(self) -> None:
        await self.admin.execute(STALL)

    async def commit_stalled(self) -> None:
        await eventually(lambda: self._some(STALLED))

    async def cut(self) -> None:
        self._proxy.cut()

    def lose_answer(self, mark: bytes) -> None:
        self._proxy.lose_answer(mark)

    def lose_request(self, mark: bytes) -> None:
        self._proxy.lose_request(mark)

    async def let_land(self) -> None:
        await self.admin.execute("SELECT pg_advisory_unlock(99)")

        async def landed() -> bool:
            return not await self._some(BUSY)

        await eventually(landed)

    async def append(self, command: int, shard: int, body: bytes) -> None:
        await self.admin.execute(APPEND, command, shard, body)

    async def put_spec(self, digest: bytes, spec: bytes) -> None:
        sql = "INSERT INTO dag_version (digest, spec, created_us) VALUES ($1, $2, 1)"
        await self.admin.execute(sql, digest, spec)

    async def forget(self, shard: int, epoch: int, batch: int) -> None:
        sql = "UPDATE shard SET epoch = $2, batch = $3 WHERE shard = $1"
        await self.admin.execute(sql, shard, epoch, batch)
        sql = "DELETE FROM shard_epoch WHERE shard = $1 AND epoch > $2"
        await self.admin.execute(sql, shard, epoch)

    async def promote(self) -> None:
        await self.admin.execute("UPDATE shard SET server = '1/00000009'")


class StallingFaults(Faults):
    """COMMITs wait here; a cut makes those that wait lose their client. `loses`: where, once."""

    def __init__(self) -> None:
        self.loses: Point | None = None
        self.stalling = False
        self.stalled = 0
        self._free = asyncio.Event()
        self._cut = False

    async def at(self, point: Point, shard: int) -> None:
        if point is self.loses:
            self.loses = None
            raise ConnectionLost
        if point is Point.COMMIT and self.stalling:
            self._free.clear()
            self.stalled += 1
            await self._free.wait()
            if self._cut:
                self._cut = False
                raise ConnectionLost

    def free(self, *, cut: bool) -> None:
        self._cut = cut
        self._free.set()


class MemoryTakeover:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def commit(self) -> None:
        self._transaction.commit()

    async def rollback(self) -> None:
        self._transaction.rollback()


class MemoryHarness:
    def __init__(self) -> None:
        self.database = MemoryDatabase(SHARDS, lambda: time.time_ns() // 1_000)
        self.faults = StallingFaults()
        self.store: ShardStore = MemoryStore(self.database, self.faults)

    def other_store(self) -> ShardStore:
        return MemoryStore(self.database)

    async def open_takeover(self, shard: int, epoch: int, holder: bytes) -> OpenTakeover:
        transaction = await self.database.lock(shard, terminate=False)
        transaction.state = ShardState(shard, epoch + 1, 0, holder, "other", "other:1", 1)
        return MemoryTakeover(transaction)

    async def someone_waits(self) -> None:
        async def waits() -> bool:
            return any(self.database.waiting.values())

        await eventually(waits)

    async def stall_commits(self) -> None:
        self.faults.stalling = True

    async def commit_stalled(self) -> None:
        async def stalled() -> bool:
            return self.faults.stalled > 0

        await eventually(stalled)

    async def cut(self) -> None:
        self.faults.free(cut=True)

    async def let_land(self) -> None:
        self.faults.stalling = False
        self.faults.free(cut=False)
        for shard in list(self.database.locks):
            self.database.land(shard)

    def lose_answer(self, mark: bytes) -> None:
        self.faults.loses = Point.ANSWER

    def lose_request(self, mark: bytes) -> None:
        self.faults.loses = Point.COMMIT

    async def append(self, command: int, shard: int, body: bytes) -> None:
        row = {"shard": shard, "tenant": "acme", "body": body, "run_id": None}
        row |= {"outcome": None, "detail": "", "applied_us": None}
        self.database.tables["inbox"][command,] = row

    async def put_spec(self, digest: bytes, spec: bytes) -> None:
        self.database.specs[digest] = spec

    async def forget(self, shard: int, epoch: int, batch: int) -> None:
        found = self.database.shards[shard]
        self.database.shards[shard] = found._replace(epoch=epoch, batch=batch)
        taken = self.database.takeovers
        taken[:] = [row for row in taken if row.shard != shard or row.epoch <= epoch]

    async def promote(self) -> None:
        self.database.server = "1/00000009"
