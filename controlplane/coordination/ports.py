"""What the parts of coordination ask of etcd and of each other.

Decides nothing. Whatever keeps these promises may stand in for etcd: the contract tests say which
they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from controlplane.coordination.records import (
    Change,
    Changed,
    DeleteOutcome,
    Grant,
    LeaseChange,
    PutOutcome,
    Record,
    Removed,
    Snapshot,
)


class Keys(Protocol):
    """Keys and what becomes of them. Every method may raise EtcdError.

    After EtcdUnavailable a write may have been applied.
    """

    async def get(self, key: str) -> Record | None: ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int: ...

    async def put_if_absent(self, key: str, value: bytes, *, lease: int) -> PutOutcome: ...

    async def delete_if(self, key: str, create_revision: int, lease: int) -> DeleteOutcome: ...

    def watch_prefix(self, prefix: str, *, poll_ms: int) -> AsyncGenerator[Change, None]: ...


class WatchStream(Protocol):
    """Changes from one revision on, as one member tells them."""

    @property
    def revision(self) -> int:
        """Of the store when the watch began there."""
        ...

    @property
    def in_use(self) -> bool:
        """False once calls go to another member."""
        ...

    async def read(self) -> Sequence[Changed | Removed]:
        """Wait for changes. Raises CompactedError if they were forgotten, else EtcdError when no
        more come from here.
        """
        ...

    def close(self) -> None:
        """Read no more."""


class WatchSource(Protocol):
    """Where changes come from."""

    async def get_prefix(self, prefix: str) -> Snapshot: ...

    async def open_watch(self, prefix: str, start_revision: int) -> WatchStream: ...


class LeaseService(Protocol):
    """The lease service of etcd, for one user at a time. Every method may raise EtcdError."""

    async def grant(self, ttl_s: int) -> Grant: ...

    async def renew(self, lease: int) -> int:
        """New time to live in seconds; 0 or less = the lease is gone."""
        ...

    async def revoke(self, lease: int) -> None:
        """Ends the lease, or finds that it has ended."""

    async def pause(self, seconds: float) -> bool:
        """Wait; returns whether to stop, at once when that is said."""
        ...


class HeldLease(Protocol):
    """The lease of this node."""

    @property
    def current(self) -> int | None: ...

    def add_listener(self, listener: Callable[[LeaseChange], None]) -> None: ...
