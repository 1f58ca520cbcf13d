"""How a store that went back in time is found out, and marked.

Decides nothing but what SQL says: a word that a leader spoke after its commit, and that the store
does not know, proves that it lost commits. Promises that a proof is judged again under the lock of
all shards before they are marked, so that two who found out together mark once. Does not know who
remembers words.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from controlplane.store.ports import EPOCH_LEAP
from controlplane.store.queries import query
from controlplane.store.records import ShardWord

_CONTRADICTED = query("contradicted")
_LOCK = query("lock_shards")
_CLOSE = query("close_epochs")
_MARK = query("mark_restored")


async def contradicted(
    connection: asyncpg.Connection, words: Sequence[ShardWord]
) -> list[ShardWord]:
    """See ShardStore.contradicted."""
    if not words:
        return []
    rows = await connection.fetch(_CONTRADICTED, *map(list, zip(*words, strict=True)))
    return [ShardWord(*row) for row in rows]


async def mark_restored(
    connection: asyncpg.Connection,
    reason: str,
    words: Sequence[ShardWord],
    only: Sequence[int] | None = None,
) -> dict[int, int]:
    """See ShardStore.mark_restored; `only`: no other shards than these."""
    async with connection.transaction():
        known = [number for (number,) in await connection.fetch(_LOCK)]
        if words and not await contradicted(connection, words):
            return {}
        shards = [number for number in known if only is None or number in only]
        above = dict.fromkeys(shards, 0)
        for word in words:
            above[word.shard] = max(word.epoch, above.get(word.shard, 0))
        await connection.execute(_CLOSE, shards)
        given = [above[number] for number in shards]
        rows = await connection.fetch(_MARK, shards, given, EPOCH_LEAP, reason)
        return {row["shard"]: row["epoch"] for row in rows}
