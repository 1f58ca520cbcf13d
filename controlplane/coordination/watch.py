"""The changes of all keys under a prefix, without a gap.

Decides when a stream of changes is followed, resumed or replaced by a new listing. Promises: the
first value is a Snapshot; a lost stream is resumed at the revision after the last one delivered;
when etcd has forgotten that revision, or the store went back in time, a Snapshot follows; the keys
are read again every `poll_ms` anyway, which also finds a member that hangs. No change older than
the last Snapshot is delivered. Knows nothing of what keys mean.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import grpc
import grpc.aio
import structlog
from mainspring.etcd import rpc_pb2

from controlplane.coordination.dial import METADATA
from controlplane.coordination.errors import (
    CompactedError,
    EtcdError,
    EtcdUnavailable,
    error_of,
)
from controlplane.coordination.keys import range_end
from controlplane.coordination.pool import Member, MemberPool
from controlplane.coordination.records import Change, Snapshot, change_of
from controlplane.coordination.settings import Backoff

_log = structlog.get_logger(__name__)

WatchCall = grpc.aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


class PrefixWatch:
    """One endless iteration over the changes of a prefix; use `changes` once, under aclosing."""

    def __init__(
        self,
        pool: MemberPool,
        prefix: str,
        list_prefix: Callable[[str], Awaitable[Snapshot]],
        *,
        poll_ms: int,
        backoff: Backoff,
    ) -> None:
        self._pool = pool
        self._prefix = prefix
        self._list_prefix = list_prefix
        self._poll_s = poll_ms / 1_000
        self._backoff = backoff
        self._next_revision = 0  # 0 = list first

    async def changes(self) -> AsyncGenerator[Change, None]:
        while True:
            try:
                if self._next_revision == 0:
                    yield await self._list()
                async with aclosing(self._follow()) as following:
                    async for change in following:
                        self._backoff.reset()
                        yield change
            except CompactedError as error:
                _log.info("watch_compacted", prefix=self._prefix, error=error.message)
                self._next_revision = 0
            except EtcdError as error:
                _log.info("watch_interrupted", prefix=self._prefix, error=str(error))
                await asyncio.sleep(self._backoff.next_s())

    async def _list(self) -> Snapshot:
        snapshot = await self._list_prefix(self._prefix)
        self._next_revision = snapshot.revision + 1
        return snapshot

    async def _follow(self) -> AsyncGenerator[Change, None]:
        """Deliver from one stream, until its member is no longer the current one."""
        member = self._pool.current
        call: WatchCall = member.watch.Watch(metadata=METADATA)
        try:
            poll_at = await self._begin(call)
            async with aclosing(self._responses(call, member, poll_at)) as responses:
                async for response in responses:
                    for change in self._changes_in(response):
                        yield change
                    if response is not None:
                        continue
                    expected = self._next_revision
                    yield await self._list()
                    if self._next_revision < expected:
                        return  # the store went back in time: this stream waits for the future
        except grpc.aio.AioRpcError as error:
            self._pool.leave(member)
            raise error_of(error.code(), error.details()) from error
        except TimeoutError as error:
            self._pool.leave(member)
            raise EtcdUnavailable("DEADLINE_EXCEEDED", "the watch was not created") from error
        finally:
            call.cancel()

    async def _begin(self, call: WatchCall) -> float:
        """Create the watch; return when to list next: now, if the member seems to be behind us."""
        create = rpc_pb2.WatchCreateRequest(
            key=self._prefix.encode(),
            range_end=range_end(self._prefix),
            start_revision=self._next_revision,
        )
        async with asyncio.timeout(self._pool.deadline_s):
            await call.write(rpc_pb2.WatchRequest(create_request=create))
            created = _checked(await call.read())
        behind = created.header.revision < self._next_revision - 1
        return time.monotonic() + (0.0 if behind else self._poll_s)

    async def _responses(
        self, call: WatchCall, member: Member, poll_at: float
    ) -> AsyncGenerator[rpc_pb2.WatchResponse | None, None]:
        """Yield responses, and None whenever it is time to poll."""
        # A read that is cancelled cancels its call, so one read stays pending across polls.
        read = asyncio.ensure_future(call.read())
        try:
            while self._pool.current is member:
                timeout_s = max(0.0, poll_at - time.monotonic())
                done, _ = await asyncio.wait({read}, timeout=timeout_s)
                if done:
                    yield _checked(read.result())
                    read = asyncio.ensure_future(call.read())
                if time.monotonic() >= poll_at:
                    yield None
                    poll_at = time.monotonic() + self._poll_s
        finally:
            read.cancel()
            await asyncio.gather(read, return_exceptions=True)

    def _changes_in(self, response: rpc_pb2.WatchResponse | None) -> list[Change]:
        events = response.events if response is not None else ()
        fresh = [e for e in events if e.kv.mod_revision >= self._next_revision]
        if fresh:
            self._next_revision = fresh[-1].kv.mod_revision + 1
        return [change_of(event) for event in fresh]


def _checked(response: object) -> rpc_pb2.WatchResponse:
    if not isinstance(response, rpc_pb2.WatchResponse):
        raise EtcdUnavailable("UNAVAILABLE", "the watch stream ended")
    if response.compact_revision:
        raise CompactedError("OUT_OF_RANGE", f"compacted at {response.compact_revision}")
    if response.canceled:
        raise EtcdUnavailable("CANCELLED", response.cancel_reason)
    return response
