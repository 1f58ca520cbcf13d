"""Decides how connections to PostgreSQL are made, lent and given up; every wait has a deadline.

A leader's connection has short timeouts of its own inside PostgreSQL, and plans that cannot turn
into scans: all it does goes by primary key, whatever the statistics of a moment say. A connection
that missed a deadline is cut, never waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import asyncpg

from controlplane.store.errors import StoreUnavailable, refusal_of
from controlplane.store.queries import query

LOST_CONNECTIONS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Deadlines in milliseconds. `statement_ms` bounds each batch and each read as a whole; of a
    recovery each of its reads.
    """

    connect_ms: int = 5_000
    statement_ms: int = 10_000
    lock_ms: int = 2_000
    idle_in_transaction_ms: int = 5_000
    readers_most: int = 8


def leader_parameters(settings: StoreSettings) -> dict[str, str]:
    """The parameters of a leader's session."""
    return {
        "application_name": "mainspring leader",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(settings.statement_ms),
        "lock_timeout": str(settings.lock_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_ms),
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "jit": "off",
    }


def reader_parameters(settings: StoreSettings) -> dict[str, str]:
    """The parameters of a session that reads, and appends commands."""
    return {
        "application_name": "mainspring reader",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(settings.statement_ms),
        "lock_timeout": str(settings.lock_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_ms),
        "jit": "off",
    }


async def connect(
    dsn: str, parameters: dict[str, str], settings: StoreSettings
) -> asyncpg.Connection:
    """A new connection. Raises StoreUnavailable."""
    try:
        return await asyncpg.connect(
            dsn,
            timeout=settings.connect_ms / 1_000,
            server_settings=parameters,
            max_cached_statement_lifetime=0,
            statement_cache_size=200,
        )
    except LOST_CONNECTIONS as error:
        raise StoreUnavailable(f"cannot connect to PostgreSQL: {error}") from error


@contextmanager
def deadline(connection: asyncpg.Connection, limit_ms: int) -> Iterator[None]:
    """Cuts the connection when the block takes longer; what it waits for then fails at once."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(limit_ms / 1_000, connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


class LeaderConnections:
    """One connection for each shard, made when it is needed and again when it is lost."""

    def __init__(self, dsn: str, settings: StoreSettings) -> None:
        self._dsn = dsn
        self._settings = settings
        self._parameters = leader_parameters(settings)
        self._idle: dict[int, asyncpg.Connection] = {}
        self._fence = query("prepare_fence")

    async def _make(self) -> asyncpg.Connection:
        made = await connect(self._dsn, self._parameters, self._settings)
        try:
            with deadline(made, self._settings.connect_ms):
                await made.execute(self._fence)
        except Exception as error:
            made.terminate()
            raise refusal_of(error) from error
        except BaseException:
            made.terminate()
            raise
        return made

    @asynccontextmanager
    async def lend(self, shard: int, *, fresh: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """The connection of a shard, or a new one; kept only if the block leaves it clean."""
        kept = self._idle.pop(shard, None)
        if kept is not None and (fresh or kept.is_closed()):
            kept.terminate()
            kept = None
        connection = kept or await self._make()
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        if connection.is_closed() or connection.is_in_transaction() or shard in self._idle:
            connection.terminate()
        else:
            self._idle[shard] = connection

    def release(self, shard: int) -> None:
        """The shard is not led here any more."""
        kept = self._idle.pop(shard, None)
        if kept is not None:
            kept.terminate()

    async def close(self) -> None:
        """Ends all connections; the server is told, as far as it listens."""
        for shard in list(self._idle):
            await _close(self._idle.pop(shard))


class ReaderConnections:
    """A few connections for reads and for commands of the API, lent one at a time."""

    def __init__(self, dsn: str, settings: StoreSettings) -> None:
        self._dsn = dsn
        self._settings = settings
        self._parameters = reader_parameters(settings)
        self._idle: list[asyncpg.Connection] = []
        self._places = asyncio.Semaphore(settings.readers_most)

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection under the deadline of a statement, once a place is free."""
        try:
            async with asyncio.timeout(self._settings.statement_ms / 1_000):
                await self._places.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("all connections for reads are busy") from error
        try:
            async with self._lend_one() as connection:
                yield connection
        finally:
            self._places.release()

    @asynccontextmanager
    async def _lend_one(self) -> AsyncIterator[asyncpg.Connection]:
        while self._idle and self._idle[-1].is_closed():
            self._idle.pop()
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = await connect(self._dsn, self._parameters, self._settings)
        try:
            with deadline(connection, self._settings.statement_ms):
                yield connection
        except BaseException:
            if connection.is_closed():
                self._distrust()
            connection.terminate()
            raise
        self._idle.append(connection)

    def _distrust(self) -> None:
        """A connection was lost: its server may be gone, and those that idle with it. Without this
        each of them would be found out by a deadline of its own.
        """
        while self._idle:
            self._idle.pop().terminate()

    async def close(self) -> None:
        """Ends all idle connections."""
        while self._idle:
            await _close(self._idle.pop())


async def _close(connection: asyncpg.Connection) -> None:
    """Tells the server, as far as it listens."""
    try:
        await connection.close(timeout=1)
    except LOST_CONNECTIONS:
        connection.terminate()
