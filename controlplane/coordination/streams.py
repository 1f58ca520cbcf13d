"""One stream of changes from one member of etcd.

Decides what the end of a stream means, and leaves a member whose stream broke. Knows nothing of how
streams are put together: that is `watch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio
from mainspring.etcd import rpc_pb2

from controlplane.coordination.errors import (
    AccessDenied,
    CompactedError,
    EtcdError,
    EtcdUnavailable,
    TokenRefused,
)
from controlplane.coordination.keys import range_end
from controlplane.coordination.pool import Member, MemberPool
from controlplane.coordination.records import Changed, Removed, change_of
from controlplane.coordination.tokens import Metadata

WatchCall = grpc.aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


class MemberWatch:
    """Made by `open`; `close` it."""

    def __init__(self, pool: MemberPool, member: Member, sent: Metadata, call: WatchCall) -> None:
        self._pool = pool
        self._member = member
        self._sent = sent
        self._call = call
        self.revision = 0

    @classmethod
    async def open(cls, pool: MemberPool, prefix: str, start_revision: int) -> MemberWatch:
        """Watch the prefix from a revision on. Raises EtcdError."""
        member = pool.current
        try:
            sent = await pool.metadata(member)
        except EtcdUnavailable:
            pool.leave(member)
            raise
        made = cls(pool, member, sent, member.watch.Watch(metadata=sent))
        try:
            await made._begin(prefix, start_revision)
        except BaseException:
            made.close()
            raise
        return made

    @property
    def in_use(self) -> bool:
        """Whether its member is still the current one."""
        return self._pool.current is self._member

    async def read(self) -> Sequence[Changed | Removed]:
        """Wait for changes; a read that is cancelled ends the stream."""
        try:
            response = self._checked(await self._call.read())
        except grpc.aio.AioRpcError as error:
            raise self._broken(error) from error
        return [change_of(event) for event in response.events]

    def close(self) -> None:
        """Read no more."""
        self._call.cancel()

    async def _begin(self, prefix: str, start_revision: int) -> None:
        create = rpc_pb2.WatchCreateRequest(
            key=prefix.encode(), range_end=range_end(prefix), start_revision=start_revision
        )
        try:
            async with asyncio.timeout(self._pool.deadline_s):
                await self._call.write(rpc_pb2.WatchRequest(create_request=create))
                created = self._checked(await self._call.read())
        except grpc.aio.AioRpcError as error:
            raise self._broken(error) from error
        except TimeoutError as error:
            self._pool.leave(self._member)
            raise EtcdUnavailable("DEADLINE_EXCEEDED", "the watch was not created") from error
        self.revision = created.header.revision

    def _broken(self, error: grpc.aio.AioRpcError) -> EtcdError:
        failure = self._pool.error_of(error, self._member)
        if isinstance(failure, AccessDenied):
            self._pool.refused(failure, self._sent)
        else:
            self._pool.leave(self._member)
        return failure

    def _checked(self, response: object) -> rpc_pb2.WatchResponse:
        if not isinstance(response, rpc_pb2.WatchResponse):
            raise EtcdUnavailable("UNAVAILABLE", "the watch stream ended")
        if response.compact_revision:
            raise CompactedError("OUT_OF_RANGE", f"compacted at {response.compact_revision}")
        if response.canceled:
            # Older versions say so too when they do not know the token.
            if "denied" in response.cancel_reason or "auth" in response.cancel_reason:
                refusal = TokenRefused("PERMISSION_DENIED", response.cancel_reason)
                self._pool.refused(refusal, self._sent)
                raise refusal
            raise EtcdUnavailable("CANCELLED", response.cancel_reason)
        return response
