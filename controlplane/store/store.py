"""One database as a node uses it: opened, migrated, initialised, kept in shape.

Promises that a Store exists only over a schema that this program may work with. The shards of a
cluster are made by `initialise`, once, and never on demand. Does not know which shards are led.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg

from controlplane.core.types import BUCKETS
from controlplane.store.api import ApiStore
from controlplane.store.connections import (
    StoreSettings,
    connect,
    deadline,
    reader_parameters,
)
from controlplane.store.errors import NotInitialised, SchemaError
from controlplane.store.migrations import check, migrate, own_migrations, read_applied
from controlplane.store.partitions import ensure_partitions
from controlplane.store.queries import query
from controlplane.store.restored import mark_restored
from controlplane.store.shards import PostgresShardStore
from controlplane.store.transaction import known_failure

_LOCK = query("lock_schema")
_COUNT_SHARDS = query("count_shards")
_ADD_SHARDS = query("add_shards")
_ADD_BUCKETS = query("add_buckets")
_FORGET_EXPIRED = query("forget_expired")

SHARDS_MOST = 1_024
_MIGRATION_MS = 600_000


class Store:
    """Use `open`. `shards`: for leaders; `api`: for services."""

    def __init__(self, dsn: str, settings: StoreSettings) -> None:
        self._dsn = dsn
        self._settings = settings
        self.shards = PostgresShardStore(dsn, settings)
        self.api = ApiStore(dsn, settings)

    @classmethod
    async def open(cls, dsn: str, settings: StoreSettings | None = None) -> Store:
        """A store over a migrated database. Raises SchemaError, StoreUnavailable."""
        store = cls(dsn, settings or StoreSettings())
        async with store._in_time() as connection:
            check(own_migrations(), await read_applied(connection))
        return store

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own for a rare task, which may be repeated when it fails."""
        connection = await connect(self._dsn, reader_parameters(self._settings), self._settings)
        try:
            async with known_failure():
                yield connection
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[asyncpg.Connection]:
        """As `_connected`, with one deadline over all."""
        async with self._connected() as connection:
            with deadline(connection, self._settings.statement_ms):
                yield connection

    async def close(self) -> None:
        """Ends all connections."""
        await self.shards.close()
        await self.api.close()

    async def initialise(self, shards: int) -> bool:
        """Makes the shards and the map of buckets. False: they were there already.

        Raises SchemaError when there are another number of them.
        """
        if not 1 <= shards <= SHARDS_MOST:
            raise ValueError(f"{shards} shards; between 1 and {SHARDS_MOST}")
        async with self._in_time() as connection, connection.transaction():
            await connection.execute(_LOCK)
            found = await connection.fetchval(_COUNT_SHARDS)
            if found not in (0, shards):
                raise SchemaError(
                    f"the database was initialised with {found} shards, not {shards}:"
                    f" start with {found}"
                )
            if not found:
                await connection.execute(_ADD_SHARDS, shards)
                await connection.execute(_ADD_BUCKETS, shards, BUCKETS)
        return not found

    async def count_shards(self) -> int:
        """How many shards the cluster has. Raises NotInitialised."""
        async with self._in_time() as connection:
            found: int = await connection.fetchval(_COUNT_SHARDS)
        if not found:
            raise NotInitialised("the database has no shards yet")
        return found

    async def mark_restored(
        self, reason: str, shards: Sequence[int] | None = None
    ) -> dict[int, int]:
        """Marks shards (None: all) as restored and deposes their leaders; the new epochs."""
        async with self._in_time() as connection:
            return await mark_restored(connection, reason, (), shards)

    async def ensure_partitions(self, days: Iterable[int]) -> int:
        """Makes the partitions of days (since the epoch) that are missing; how many those were."""
        async with self._connected() as connection:
            return await ensure_partitions(connection, days, self._settings.statement_ms)

    async def forget_expired(self, now_us: int) -> None:
        """Deletes what has only to be kept for a while: keys of requests."""
        async with self._in_time() as connection:
            await connection.execute(_FORGET_EXPIRED, now_us)


async def migrate_database(dsn: str, settings: StoreSettings | None = None) -> int:
    """Brings a database up to date; the number of migrations applied. Raises SchemaError."""
    settings = settings or StoreSettings()
    connection = await connect(dsn, {"application_name": "mainspring migration"}, settings)
    try:
        with deadline(connection, _MIGRATION_MS):
            return await migrate(connection, own_migrations())
    finally:
        connection.terminate()
