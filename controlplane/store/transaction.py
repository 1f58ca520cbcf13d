"""The fenced transaction: the only way to write the rows of a shard.

1. BEGIN and the fence, in one message; the fence is a statement of its own. It takes the row of the
   shard only in (epoch, batch - 1), so a deposed leader, or a batch sent twice, matches nothing.
2. The statements of the batch.
3. COMMIT.

Promises to tell exactly what is known. Until COMMIT is sent a failure means that nothing is there;
from then on only PostgreSQL's own word counts, and without it the outcome is unknown. A connection
that failed is not used again: its backend rolls back. Does not know what the rows mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from controlplane.store.batch import Statement
from controlplane.store.errors import (
    CommitUnknown,
    Deposed,
    NotInitialised,
    RowsLostError,
    WentBack,
    aborted_by_commit,
    connection_lost,
    refusal_of,
)
from controlplane.store.queries import query
from controlplane.store.records import Fence, ShardState

_OPEN = query("open_batch")
_EMPTY = query("empty_batch")
_READ_SHARD = query("read_shard")
_PASSED = "UPDATE 1"
_COMMITTED = "COMMIT"

Execute = Callable[[str], Awaitable[str]]


@asynccontextmanager
async def known_failure() -> AsyncIterator[None]:
    """Errors of the block mean that nothing was written."""
    try:
        yield
    except Exception as error:
        raise refusal_of(error) from error


async def write_batch(
    connection: asyncpg.Connection,
    fence: Fence,
    statements: Sequence[Statement],
    execute: Execute | None = None,
) -> bool:
    """Writes a batch. True: written; False: it was there already. See ShardStore.commit.

    `execute` sends the first message; the default is the connection's own.
    """
    send = execute or connection.execute
    if not statements:
        return await _write_nothing(connection, fence, send)
    if not await enter(connection, fence, send):
        return False
    async with known_failure():
        for statement in statements:
            await _run(connection, statement)
    await finish(connection)
    return True


async def enter(connection: asyncpg.Connection, fence: Fence, send: Execute) -> bool:
    """Opens the transaction of a batch. False: the batch is there already."""
    shard, epoch, batch = map(int, fence)
    async with known_failure():
        tag = await send(_OPEN.format(shard=shard, epoch=epoch, batch=batch))
        if tag != _PASSED:
            await connection.execute("ROLLBACK")
    return tag == _PASSED or await _was_there(connection, fence)


async def finish(connection: asyncpg.Connection) -> None:
    """Commits. Raises CommitUnknown unless PostgreSQL says what became of it."""
    try:
        tag = await connection.execute(_COMMITTED)
    except Exception as error:
        if aborted_by_commit(error):
            raise refusal_of(error) from error
        raise CommitUnknown(f"the connection failed during COMMIT: {error}") from error
    if tag != _COMMITTED:
        raise RowsLostError(f"COMMIT answered {tag}")


async def _write_nothing(connection: asyncpg.Connection, fence: Fence, send: Execute) -> bool:
    """The fence alone commits by itself: one round trip."""
    shard, epoch, batch = map(int, fence)
    try:
        tag = await send(_EMPTY.format(shard=shard, epoch=epoch, batch=batch))
    except Exception as error:
        if connection_lost(error):
            raise CommitUnknown(f"the connection failed in an empty batch: {error}") from error
        raise refusal_of(error) from error
    return tag == _PASSED or await _was_there(connection, fence)


async def _run(connection: asyncpg.Connection, statement: Statement) -> None:
    tag = await connection.execute(statement.sql, *statement.arguments)
    if statement.tag is not None and tag != statement.tag:
        name = statement.sql.split(maxsplit=3)[:3]
        raise RowsLostError(f"{' '.join(name)}: {tag} instead of {statement.tag}")


async def _was_there(connection: asyncpg.Connection, fence: Fence) -> bool:
    """False: the batch is there already. See `judge_fence`."""
    return judge_fence(fence, await read_state(connection, fence.shard))


def judge_fence(fence: Fence, state: ShardState) -> bool:
    """What a fence means that the row of its shard did not pass. False: the batch is there already.

    Raises Deposed when a later epoch is, and WentBack when less is there than was committed.
    """
    if state.epoch > fence.epoch:
        raise Deposed(fence.shard, state.epoch)
    if state[1:3] < (fence.epoch, fence.batch - 1):
        raise WentBack(fence.shard, state.epoch)
    if state.batch != fence.batch:
        raise RowsLostError(f"{fence} follows batch {state.batch}")
    return False


async def read_state(connection: Any, shard: int) -> ShardState:
    """The row of a shard. Raises NotInitialised, StoreUnavailable."""
    async with known_failure():
        row = await connection.fetchrow(_READ_SHARD, shard)
    if row is None:
        raise NotInitialised(f"the database has no shard {shard}")
    return ShardState(*row)
