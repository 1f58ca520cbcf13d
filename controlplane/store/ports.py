"""Decides what a leader asks of a store: one protocol, held by PostgreSQL and by tests' memory.

The contract suite runs on both. Errors are those of `errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.core.effects import Writes
from controlplane.core.types import DagKey
from controlplane.store.records import (
    CommandRow,
    Fence,
    RecoveredRows,
    ShardState,
    ShardWord,
    VersionRow,
)

# Most keys of runs that one reservation can have.
RUN_KEYS_MOST = 65_536
# By how much epochs grow when the store went back: more than there can have been takeovers that it
# has forgotten, so that no epoch of before is mistaken for one of afterwards.
EPOCH_LEAP = 1_000


class ShardStore(Protocol):
    """The store as the leader of a shard uses it."""

    async def read_shard(self, shard: int) -> ShardState:
        """Who leads a shard. Raises NotInitialised, StoreUnavailable."""

    async def take_over(
        self, shard: int, expected_epoch: int, holder: bytes, node: str, address: str
    ) -> int:
        """The new epoch, `expected_epoch` + 1; batches start again at 1. It is EPOCH_LEAP higher,
        and the shard is marked as restored, when the server is another than at the takeover before.

        `holder`: 16 random bytes, new for each call. Backends that hold the row are terminated.
        Raises TakeoverRefused when the shard is in another epoch, and StoreUnavailable when the
        outcome is not known: read again and start over with another holder.
        """

    async def contradicted(self, words: Sequence[ShardWord]) -> list[ShardWord]:
        """The words that are above what the store has: it went back in time since they were said.

        Words must have been heard before this is called. Raises StoreUnavailable.
        """

    async def mark_restored(self, reason: str, words: Sequence[ShardWord] = ()) -> dict[int, int]:
        """Marks all shards as restored, in epochs above their own and above all words; deposes
        their leaders. With words only if one of them is still contradicted. The new epochs.
        """

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        """Writes one batch, all or nothing. True: by this call; False: it was there already.

        With `settle`, after CommitUnknown and with the same writes: finds out, on a new
        connection, by writing it again; raises CommitUnknown while that cannot be told.
        Raises Deposed, CommitUnknown; and, nothing being written, StoreUnavailable, BatchRefused.
        """

    async def quarantine(
        self, fence: Fence, source: int | str, reason: str, *, settle: bool = False
    ) -> bool:
        """A batch that sets one source aside: a command by its number, or words that name it."""

    async def recover(self, shard: int) -> RecoveredRows:
        """All live rows of a shard, in one snapshot. Raises StoreUnavailable."""

    async def read_commands(
        self, shard: int, limit: int, after_failed: frozenset[int]
    ) -> list[CommandRow]:
        """Commands that are not applied, in the order of their numbers, without `after_failed`."""

    async def read_versions(self, wanted: Sequence[tuple[DagKey, bytes]]) -> list[VersionRow]:
        """Definitions by (DAG, digest); what is not stored is left out."""

    async def reserve_run_keys(self, count: int) -> range:
        """Numbers for `count` runs, at most RUN_KEYS_MOST, that nobody else gets, ever."""
