"""What can go wrong with the store, as types, and which answers of PostgreSQL mean which.

The caller acts on the type alone: retry, settle, step down, try smaller, or stop. Does not know
what was being stored.
"""

from __future__ import annotations

import asyncpg


class StoreError(Exception):
    """Everything that the store raises on purpose."""


class StoreUnavailable(StoreError):  # noqa: N818  (the name says what is so; it is used as a state)
    """The store did not do it, and may do it later. Of a batch: it is known not to be there."""


class CommitUnknown(StoreError):  # noqa: N818
    """The connection ended while a write was being committed: it is there, or will be, or not."""


class Deposed(StoreError):  # noqa: N818
    """Another epoch leads the shard. `epoch`: the one that does now."""

    def __init__(self, shard: int, epoch: int) -> None:
        super().__init__(f"shard {shard} is led in epoch {epoch} now")
        self.shard = shard
        self.epoch = epoch


class WentBack(Deposed):
    """The store is in an earlier epoch or batch than this leader has seen committed."""


class BatchRefused(StoreError):  # noqa: N818
    """The rows themselves cannot be stored; nothing of the batch is. `sqlstate` may be empty."""

    def __init__(self, reason: str, sqlstate: str) -> None:
        super().__init__(f"{reason} ({sqlstate})" if sqlstate else reason)
        self.reason = reason
        self.sqlstate = sqlstate


class TakeoverRefused(StoreError):  # noqa: N818
    """The shard is not in the epoch that was expected. `epoch`: the one it is in."""

    def __init__(self, shard: int, epoch: int) -> None:
        super().__init__(f"shard {shard} is in epoch {epoch} already")
        self.shard = shard
        self.epoch = epoch


class RequestConflict(StoreError):  # noqa: N818
    """The key of a request was used with another body."""


class NotInitialised(StoreError):  # noqa: N818
    """The database has no such shard or bucket: it was not initialised."""


class SchemaError(StoreError):
    """The schema of the database and this program do not fit; the message says what to do."""


class RowsLostError(AssertionError):
    """Rows that must be there are not: our bug, never a state of the store."""


# Classes of sqlstates that say something about the rows and would say it again: cardinality, data,
# integrity, syntax and names, limits of the program, features.
_OF_THE_ROWS = frozenset({"21", "22", "23", "42", "54", "0A"})
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    # What asyncpg says of a connection whose server said that it ends before it was asked anything.
    asyncpg.InternalClientError,
)


def refusal_of(error: Exception) -> StoreError:
    """The type of an error that came before COMMIT was sent.

    What is neither the rows' fault nor the connection's is our bug and is raised as it is.
    """
    if isinstance(error, asyncpg.exceptions._base.DataError):  # noqa: SLF001  (has no public name)
        return BatchRefused(str(error), "")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state[:2] in _OF_THE_ROWS:
            return BatchRefused(str(error), state)
        return StoreUnavailable(f"{error} ({state})")
    if isinstance(error, _LOST):
        return StoreUnavailable(str(error) or type(error).__name__)
    raise error


def aborted_by_commit(error: Exception) -> bool:
    """Whether PostgreSQL itself said at COMMIT that the transaction is undone.

    Only refusals of the rows and lost races say so for certain; any other error may have come
    after the commit.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return False
    return (error.sqlstate or "")[:2] in {"23", "40"}


def connection_lost(error: Exception) -> bool:
    """Whether the connection is of no more use, as far as the error tells."""
    fatal = isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:3] in {
        "57P",
        "25P",
    }
    data = isinstance(error, asyncpg.exceptions._base.DataError)  # noqa: SLF001
    return fatal or (isinstance(error, _LOST) and not data)


__all__ = [
    "BatchRefused",
    "CommitUnknown",
    "Deposed",
    "NotInitialised",
    "RequestConflict",
    "RowsLostError",
    "SchemaError",
    "StoreError",
    "StoreUnavailable",
    "TakeoverRefused",
    "WentBack",
    "aborted_by_commit",
    "connection_lost",
    "refusal_of",
]
