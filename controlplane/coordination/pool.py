"""One channel per member of etcd, and calls that move on to the next member.

Decides where a call goes. Promises a deadline on every call and one try per member, or two where
the first one found that its token had ended; a failed call says EtcdUnavailable only when all
members failed. Knows nothing of what requests mean: only requests that may be repeated are sent
through it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
import structlog
from mainspring.etcd import rpc_pb2, rpc_pb2_grpc

from controlplane.coordination.dial import METADATA, Rotation, open_channel
from controlplane.coordination.errors import (
    AccessDenied,
    AuthenticationOff,
    EtcdError,
    EtcdUnavailable,
)
from controlplane.coordination.refusals import failure_of
from controlplane.coordination.tokens import Metadata, Tokens
from controlplane.settings.etcd import Endpoint, EtcdAccess, parse_endpoint

_log = structlog.get_logger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Member:
    """Stubs of one member."""

    index: int
    endpoint: Endpoint
    channel: grpc.aio.Channel
    auth: rpc_pb2_grpc.AuthAsyncStub
    kv: rpc_pb2_grpc.KVAsyncStub
    lease: rpc_pb2_grpc.LeaseAsyncStub
    watch: rpc_pb2_grpc.WatchAsyncStub
    maintenance: rpc_pb2_grpc.MaintenanceAsyncStub


class MemberPool:
    """The members, of which one is current. Belongs to the event loop that made it."""

    def __init__(
        self, endpoints: Sequence[str], *, deadline_ms: int, access: EtcdAccess, token_renew_ms: int
    ) -> None:
        self.deadline_s = deadline_ms / 1_000
        self.members = [
            _open(index, parse_endpoint(text), access) for index, text in enumerate(endpoints)
        ]
        self._rotation = Rotation(len(self.members))
        self._access = access
        self._tokens = Tokens(access, token_renew_ms / 1_000)
        self._asking = asyncio.Lock()
        self._asked = 0
        self._failure: EtcdError | None = None

    @property
    def current(self) -> Member:
        return self.members[self._rotation.current]

    def leave(self, member: Member) -> None:
        self._rotation.leave(member.index)

    async def call(
        self,
        method: Callable[[Member], grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
    ) -> Response:
        failure: EtcdError | None = None
        for _ in self.members:
            member = self.current
            try:
                return await self.call_member(member, method, request)
            except EtcdUnavailable as error:
                failure = error
                self.leave(member)
        assert failure is not None, "a pool has at least one member"
        raise failure

    async def call_member(
        self,
        member: Member,
        method: Callable[[Member], grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
    ) -> Response:
        sent = await self.metadata(member)
        try:
            return await self._call(member, method, request, sent)
        except AccessDenied as error:
            if not self._tokens.refused(error, sent):
                raise
        return await self._call(member, method, request, await self.metadata(member))

    async def metadata(self, member: Member) -> Metadata:
        """What a call to this member carries; a token that is due is asked for first."""
        asked = self._asked
        async with self._asking:
            if self._tokens.due(self._now()):
                if self._asked != asked and self._failure is not None:
                    raise self._failure  # another call asked in vain while this one waited
                try:
                    await self._authenticate(member)
                finally:
                    self._asked += 1
        return self._tokens.metadata

    def refused(self, error: AccessDenied, sent: Metadata) -> None:
        """What a stream carried was refused."""
        self._tokens.refused(error, sent)

    def error_of(self, error: grpc.aio.AioRpcError, member: Member) -> EtcdError:
        return failure_of(error.code(), error.details(), member.endpoint, self._access)

    async def close(self) -> None:
        for member in self.members:
            await member.channel.close()

    async def _authenticate(self, member: Member) -> None:
        request = rpc_pb2.AuthenticateRequest(
            name=self._access.user, password=self._access.password
        )
        self._failure = None
        try:
            answer = await self._call(member, lambda m: m.auth.Authenticate, request, METADATA)
        except AuthenticationOff:
            _log.warning("etcd_asks_for_no_user", user=self._access.user)
            self._tokens.got("", self._now())
        except EtcdError as error:
            if not (self._tokens.usable and isinstance(error, EtcdUnavailable)):
                self._failure = error
                raise
            self._tokens.missed(self._now())
        else:
            self._tokens.got(answer.token, self._now())

    async def _call(
        self,
        member: Member,
        method: Callable[[Member], grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
        metadata: Metadata,
    ) -> Response:
        try:
            return await method(member)(request, timeout=self.deadline_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self.error_of(error, member) from error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _open(index: int, endpoint: Endpoint, access: EtcdAccess) -> Member:
    channel = open_channel(endpoint, access)
    return Member(
        index=index,
        endpoint=endpoint,
        channel=channel,
        auth=rpc_pb2_grpc.AuthStub(channel),
        kv=rpc_pb2_grpc.KVStub(channel),
        lease=rpc_pb2_grpc.LeaseStub(channel),
        watch=rpc_pb2_grpc.WatchStub(channel),
        maintenance=rpc_pb2_grpc.MaintenanceStub(channel),
    )
