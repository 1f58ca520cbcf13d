"""Which answers of PostgreSQL mean which error."""

from __future__ import annotations

import asyncpg
import pytest

from controlplane.store.errors import (
    BatchRefused,
    StoreUnavailable,
    aborted_by_commit,
    connection_lost,
    refusal_of,
)

ROWS = [
    asyncpg.UniqueViolationError,
    asyncpg.CheckViolationError,
    asyncpg.CharacterNotInRepertoireError,
    asyncpg.NumericValueOutOfRangeError,
    asyncpg.UndefinedTableError,
    asyncpg.ProgramLimitExceededError,
]
NOT_NOW = [
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.AdminShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionResetError,
    TimeoutError,
]
CLIENT_SIDE = asyncpg.exceptions._base.DataError


@pytest.mark.parametrize("kind", [*ROWS, CLIENT_SIDE], ids=lambda kind: kind.__name__)
def test_what_is_wrong_with_the_rows_is_refused(kind):
    assert isinstance(refusal_of(kind("no")), BatchRefused)
    assert not connection_lost(kind("no"))


@pytest.mark.parametrize("kind", NOT_NOW, ids=lambda kind: kind.__name__)
def test_everything_else_may_work_later(kind):
    assert isinstance(refusal_of(kind("no")), StoreUnavailable)


def test_a_refusal_says_what_postgresql_said():
    refused = refusal_of(asyncpg.UniqueViolationError("duplicate key"))
    assert isinstance(refused, BatchRefused)
    assert (refused.reason, refused.sqlstate) == ("duplicate key", "23505")
    assert str(refused) == "duplicate key (23505)"


def test_our_own_bugs_are_not_taken_for_the_stores():
    with pytest.raises(AssertionError):
        refusal_of(AssertionError())


def test_only_refusals_make_a_commit_known_to_have_failed():
    assert aborted_by_commit(asyncpg.UniqueViolationError("no"))
    assert aborted_by_commit(asyncpg.SerializationError("no"))
    assert not aborted_by_commit(asyncpg.AdminShutdownError("no"))
    assert not aborted_by_commit(asyncpg.QueryCanceledError("no"))
    assert not aborted_by_commit(ConnectionResetError())


def test_a_shutdown_ends_a_connection_and_a_timeout_of_a_lock_does_not():
    assert connection_lost(asyncpg.AdminShutdownError("no"))
    assert connection_lost(asyncpg.IdleInTransactionSessionTimeoutError("no"))
    assert connection_lost(ConnectionResetError())
    assert not connection_lost(asyncpg.LockNotAvailableError("no"))
