"""ShardStore over PostgreSQL: takeovers, batches, and what a leader reads.

Decides how an unknown outcome becomes known: never by a read, for the COMMIT of a dead connection
can still apply after one; but by doing the same again, behind the fence, after the backends that
hold the row of the shard have been terminated. Does not know why a leader writes what it writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import asyncpg

from controlplane.core.effects import Writes
from controlplane.core.types import DagKey
from controlplane.store.batch import Statement, statements_of
from controlplane.store.connections import (
    LOST_CONNECTIONS,
    LeaderConnections,
    StoreSettings,
    connect,
    deadline,
    reader_parameters,
)
from controlplane.store.errors import (
    BatchRefused,
    CommitUnknown,
    StoreUnavailable,
    TakeoverRefused,
    connection_lost,
    refusal_of,
)
from controlplane.store.ports import EPOCH_LEAP, RUN_KEYS_MOST
from controlplane.store.queries import query
from controlplane.store.records import (
    CommandRow,
    Fence,
    RecoveredRows,
    ShardState,
    ShardWord,
    VersionRow,
)
from controlplane.store.recovery import read_live_rows, read_specs
from controlplane.store.restored import contradicted, mark_restored
from controlplane.store.transaction import Execute, known_failure, read_state, write_batch

_TAKE_OVER = query("take_over")
_NOTE_SERVER = query("note_server")
_TERMINATE_BLOCKERS = query("terminate_blockers")
_READ_COMMANDS = query("read_commands")
_RESERVE_RUN_KEYS = query("reserve_run_keys")
_QUARANTINE_COMMAND = query("quarantine_command")
_ADD_QUARANTINE = query("add_quarantine")

# How long a takeover waits for the lock before it asks who holds it, and how often it asks again.
_PATIENCE_S = 0.005
_TAKEOVER_TRIES = 2

T = TypeVar("T")


class PostgresShardStore:
    """See ShardStore for what each call promises."""

    def __init__(self, dsn: str, settings: StoreSettings) -> None:
        self._dsn = dsn
        self._settings = settings
        self._connections = LeaderConnections(dsn, settings)
        self._parameters = reader_parameters(settings)
        # By shard: the connection whose server its row names.
        self._noted: dict[int, asyncpg.Connection] = {}

    async def close(self) -> None:
        """Ends all connections."""
        await self._connections.close()

    def release(self, shard: int) -> None:
        """Gives the connection of a shard up, when it is not led here any more."""
        self._connections.release(shard)
        self._connections.release(_reading(shard))
        self._noted.pop(shard, None)

    async def read_shard(self, shard: int) -> ShardState:
        async with self._connections.lend(shard) as connection:
            with deadline(connection, self._settings.statement_ms):
                return await read_state(connection, shard)

    async def take_over(
        self, shard: int, expected_epoch: int, holder: bytes, node: str, address: str
    ) -> int:
        values = (shard, expected_epoch, holder, node, address, EPOCH_LEAP)
        for _ in range(_TAKEOVER_TRIES):
            async with self._connections.lend(shard, fresh=True) as connection:
                try:
                    return await self._compare_and_set(connection, values)
                except CommitUnknown:
                    connection.terminate()
        raise StoreUnavailable(f"whether shard {shard} was taken over is not known")

    async def _compare_and_set(
        self, connection: asyncpg.Connection, values: tuple[int, int, bytes, str, str, int]
    ) -> int:
        shard, _, holder = values[:3]
        with deadline(connection, self._settings.statement_ms):
            try:
                work = connection.fetchval(_TAKE_OVER, *values)
                epoch: int | None = await self._unblocked(connection, work)
            except Exception as error:
                if connection_lost(error):
                    raise CommitUnknown(f"the connection failed in a takeover: {error}") from error
                raise refusal_of(error) from error
            if epoch is not None:
                self._noted[shard] = connection
                return epoch
            found = await read_state(connection, shard)
        if found.holder == holder:
            return found.epoch
        raise TakeoverRefused(shard, found.epoch)

    async def contradicted(self, words: Sequence[ShardWord]) -> list[ShardWord]:
        async with self._connections.lend(READING) as connection:
            with deadline(connection, self._settings.statement_ms):
                async with known_failure():
                    return await contradicted(connection, words)

    async def mark_restored(self, reason: str, words: Sequence[ShardWord] = ()) -> dict[int, int]:
        async with self._connections.lend(READING, fresh=True) as connection:
            with deadline(connection, self._settings.statement_ms):
                async with known_failure():
                    return await mark_restored(connection, reason, words)

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        return await self._write(fence, statements_of(fence, writes), settle=settle)

    async def quarantine(
        self, fence: Fence, source: int | str, reason: str, *, settle: bool = False
    ) -> bool:
        command = source if isinstance(source, int) else None
        reason = reason.replace("\0", "\\0")
        name = str(source).replace("\0", "\\0")
        statements = [Statement(_ADD_QUARANTINE, (*fence, command, name, reason))]
        if command is not None:
            mark = Statement(_QUARANTINE_COMMAND, (fence.shard, command, reason), "UPDATE 1")
            statements.insert(0, mark)
        return await self._write(fence, statements, settle=settle)

    async def _write(self, fence: Fence, statements: list[Statement], *, settle: bool) -> bool:
        if settle:
            return await self._settle(fence, statements)
        async with self._connections.lend(fence.shard) as connection:
            with deadline(connection, self._settings.statement_ms):
                return await self._write_on(connection, fence, statements)

    async def _write_on(
        self,
        connection: asyncpg.Connection,
        fence: Fence,
        statements: list[Statement],
        execute: Execute | None = None,
    ) -> bool:
        """The first batch on a connection notes its server, unless a takeover has done so there."""
        shard = fence.shard
        if self._noted.get(shard) is not connection:
            statements = [*statements, Statement(_NOTE_SERVER, (shard,))]
        by_this_call = await write_batch(connection, fence, statements, execute)
        if by_this_call:
            self._noted[shard] = connection
        return by_this_call

    async def _settle(self, fence: Fence, statements: list[Statement]) -> bool:
        """The same batch again; a failure before its fence was answered tells nothing new."""
        answered = False
        try:
            async with self._connections.lend(fence.shard, fresh=True) as connection:

                async def execute(message: str) -> str:
                    nonlocal answered
                    tag = await self._unblocked(connection, connection.execute(message))
                    answered = True
                    return tag

                with deadline(connection, self._settings.statement_ms):
                    return await self._write_on(connection, fence, statements, execute)
        except (StoreUnavailable, BatchRefused) as error:
            if answered:
                raise
            raise CommitUnknown(str(error)) from error

    async def _unblocked(self, connection: asyncpg.Connection, work: Awaitable[T]) -> T:
        """What `work` gives; while it waits for a lock, whoever holds that is terminated."""
        pid = connection.get_server_pid()
        working = asyncio.ensure_future(work)
        helper: asyncpg.Connection | None = None
        try:
            while not (await asyncio.wait((working,), timeout=_PATIENCE_S))[0]:
                if helper is None or helper.is_closed():
                    helper = await connect(self._dsn, self._parameters, self._settings)
                await self._terminate_blockers(helper, pid)
            return working.result()
        finally:
            if not working.done():
                # Then it ends at once: its connection is gone.
                connection.terminate()
                await asyncio.gather(working, return_exceptions=True)
            if helper is not None:
                helper.terminate()

    async def _terminate_blockers(self, helper: asyncpg.Connection, pid: int) -> None:
        try:
            with deadline(helper, self._settings.lock_ms):
                await helper.fetchval(_TERMINATE_BLOCKERS, pid)
        except LOST_CONNECTIONS as error:
            raise StoreUnavailable(f"cannot end who holds the shard: {error}") from error

    async def recover(self, shard: int) -> RecoveredRows:
        async with self._connections.lend(shard) as connection:
            return await read_live_rows(connection, shard, self._settings.statement_ms)

    async def read_commands(
        self, shard: int, limit: int, after_failed: frozenset[int]
    ) -> list[CommandRow]:
        rows = await self._fetch(_reading(shard), _READ_COMMANDS, shard, limit, list(after_failed))
        return [CommandRow(*row) for row in rows]

    async def read_versions(self, wanted: Sequence[tuple[DagKey, bytes]]) -> list[VersionRow]:
        async with self._connections.lend(READING) as connection:
            with deadline(connection, self._settings.statement_ms):
                return await read_specs(connection, wanted)

    async def reserve_run_keys(self, count: int) -> range:
        if not 0 < count <= RUN_KEYS_MOST:
            raise ValueError(f"{count} keys; at most {RUN_KEYS_MOST} at a time")
        [[first]] = await self._fetch(READING, _RESERVE_RUN_KEYS)
        return range(first, first + count)

    async def _fetch(self, shard: int, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._connections.lend(shard) as connection:
            with deadline(connection, self._settings.statement_ms):
                async with known_failure():
                    return await connection.fetch(sql, *arguments)


# Reads that belong to no shard share a connection under this number.
READING = -1


def _reading(shard: int) -> int:
    """The number of the connection that reads a shard's inbox while a batch is being written."""
    return READING - 1 - shard
