"""The calls of a node's lease, for a thread: grant, renew, revoke.

Blocking gRPC on purpose: all asyncio loops of a process share one gRPC completion queue, so a
second loop would be woken by every message of the first, and the thread that must renew the lease
must depend on no loop. Promises a deadline on every call; leaves a member that missed one. Knows
nothing of when to renew.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Self, TypeVar, cast

import grpc
from mainspring.etcd import rpc_pb2, rpc_pb2_grpc

from controlplane.coordination.dial import (
    METADATA,
    Rotation,
    open_blocking_channel,
    parse_endpoint,
)
from controlplane.coordination.errors import EtcdUnavailable, LeaseNotFound, error_of

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A lease as etcd granted it; it may live longer than was wished."""

    lease: int
    ttl_s: int


class LeaseCalls:
    """The lease service of the current member. Used by one thread."""

    def __init__(self, endpoints: Sequence[str], *, deadline_ms: int) -> None:
        self._deadline_s = deadline_ms / 1_000
        self._channels = [open_blocking_channel(parse_endpoint(text)) for text in endpoints]
        self._rotation = Rotation(len(self._channels))
        self._stream: _Stream | None = None

    def grant(self, ttl_s: int) -> Grant:
        request = rpc_pb2.LeaseGrantRequest(ttl_s=ttl_s)
        answer = self._unary(lambda stub: stub.LeaseGrant, request)
        return Grant(answer.id, answer.ttl_s)

    def revoke(self, lease: int) -> None:
        """End the lease and its keys, or find that it has ended."""
        try:
            self._unary(lambda stub: stub.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(id=lease))
        except LeaseNotFound:
            return

    def renew(self, lease: int) -> int:
        """Return the new time to live in seconds; 0 or less = the lease is gone."""
        if self._stream is None:
            self._stream = _Stream(self._stub())
        try:
            return self._stream.renew(lease, self._deadline_s)
        except EtcdUnavailable:
            self._drop_stream()
            self._rotation.leave(self._rotation.current)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_stream()
        for channel in self._channels:
            channel.close()

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _stub(self) -> rpc_pb2_grpc.LeaseStub:
        return rpc_pb2_grpc.LeaseStub(self._channels[self._rotation.current])

    def _unary(
        self,
        method: Callable[[rpc_pb2_grpc.LeaseStub], grpc.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
    ) -> Response:
        try:
            return method(self._stub())(request, timeout=self._deadline_s, metadata=METADATA)
        except grpc.RpcError as error:
            # grpc raises the call itself, which tells its status; its stubs do not say so.
            call = cast("grpc.Call", error)
            failure = error_of(call.code(), call.details())
            if isinstance(failure, EtcdUnavailable):
                self._rotation.leave(self._rotation.current)
            raise failure from error


class _Stream:
    """One keepalive stream. A reader thread turns its answers into a queue with a deadline."""

    def __init__(self, stub: rpc_pb2_grpc.LeaseStub) -> None:
        self._requests: queue.Queue[rpc_pb2.LeaseKeepAliveRequest | None] = queue.Queue(maxsize=2)
        self._answers: queue.Queue[int | None] = queue.Queue(maxsize=2)  # None = the stream ended
        self._call = stub.LeaseKeepAlive(iter(self._requests.get, None), metadata=METADATA)
        threading.Thread(target=self._read, name="etcd-keepalive-read", daemon=True).start()

    def renew(self, lease: int, deadline_s: float) -> int:
        self._requests.put_nowait(rpc_pb2.LeaseKeepAliveRequest(id=lease))
        try:
            ttl_s = self._answers.get(timeout=deadline_s)
        except queue.Empty:
            raise EtcdUnavailable("DEADLINE_EXCEEDED", "no answer to a renewal") from None
        if ttl_s is None:
            raise EtcdUnavailable("UNAVAILABLE", "the keepalive stream ended")
        return ttl_s

    def close(self) -> None:
        """End the call; both its threads end with it. One request at most was left unread."""
        self._requests.put_nowait(None)
        self._call.cancel()

    def _read(self) -> None:
        for ttl_s in self._ttls():
            self._answers.put(ttl_s)
        self._answers.put(None)

    def _ttls(self) -> Iterator[int]:
        """Yield until the stream ends; how it ended does not matter, it is opened anew."""
        try:
            for answer in self._call:
                yield answer.ttl_s
        except grpc.RpcError:
            return
