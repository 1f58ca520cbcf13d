"""One channel per member of etcd, and calls that move on to the next member.

Decides where a call goes. Promises a deadline on every call and one try per member; a failed call
says EtcdUnavailable only when all members failed. Knows nothing of what requests mean: only
requests that may be repeated are sent through it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from mainspring.etcd import rpc_pb2_grpc

from controlplane.coordination.dial import METADATA, Rotation, open_channel, parse_endpoint
from controlplane.coordination.errors import EtcdError, EtcdUnavailable, error_of

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Member:
    """Stubs of one member."""

    index: int
    endpoint: str
    channel: grpc.aio.Channel
    kv: rpc_pb2_grpc.KVAsyncStub
    lease: rpc_pb2_grpc.LeaseAsyncStub
    watch: rpc_pb2_grpc.WatchAsyncStub
    maintenance: rpc_pb2_grpc.MaintenanceAsyncStub


class MemberPool:
    """The members, of which one is current. Belongs to the event loop that made it."""

    def __init__(self, endpoints: Sequence[str], *, deadline_ms: int) -> None:
        self.deadline_s = deadline_ms / 1_000
        self.members = [_open(index, parse_endpoint(text)) for index, text in enumerate(endpoints)]
        self._rotation = Rotation(len(self.members))

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
        try:
            return await method(member)(request, timeout=self.deadline_s, metadata=METADATA)
        except grpc.aio.AioRpcError as error:
            raise error_of(error.code(), error.details()) from error

    async def close(self) -> None:
        for member in self.members:
            await member.channel.close()


def _open(index: int, endpoint: str) -> Member:
    channel = open_channel(endpoint)
    return Member(
        index=index,
        endpoint=endpoint,
        channel=channel,
        kv=rpc_pb2_grpc.KVStub(channel),
        lease=rpc_pb2_grpc.LeaseStub(channel),
        watch=rpc_pb2_grpc.WatchStub(channel),
        maintenance=rpc_pb2_grpc.MaintenanceStub(channel),
    )
