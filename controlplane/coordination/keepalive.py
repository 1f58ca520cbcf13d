"""The calls of a node's lease, for a thread: grant, renew, revoke.

Blocking gRPC on purpose: all asyncio loops of a process share one gRPC completion queue, so a
second loop would be woken by every message of the first, and the thread that must renew the lease
must depend on no loop. Promises a deadline on every call; leaves a member that missed one. Knows
nothing of when to renew.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar, cast

import grpc
import structlog
from mainspring.etcd import rpc_pb2, rpc_pb2_grpc

from controlplane.coordination.dial import METADATA, Rotation, open_blocking_channel
from controlplane.coordination.errors import (
    AccessDenied,
    AuthenticationOff,
    EtcdError,
    EtcdUnavailable,
    LeaseNotFound,
)
from controlplane.coordination.records import Grant
from controlplane.coordination.refusals import failure_of
from controlplane.coordination.settings import CoordinationSettings
from controlplane.coordination.tokens import Metadata, Tokens
from controlplane.settings.etcd import parse_endpoint

_log = structlog.get_logger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")


class LeaseCalls:
    """The lease service of the current member. Used by one thread."""

    def __init__(self, settings: CoordinationSettings) -> None:
        self._deadline_s = settings.deadline_ms / 1_000
        self._access = settings.access
        self._endpoints = [parse_endpoint(text) for text in settings.endpoints]
        self._channels = [open_blocking_channel(each, self._access) for each in self._endpoints]
        self._rotation = Rotation(len(self._channels))
        self._tokens = Tokens(self._access, settings.token_renew_ms / 1_000)
        self._stream: _Stream | None = None

    def grant(self, ttl_s: int) -> Grant:
        request = rpc_pb2.LeaseGrantRequest(ttl_s=ttl_s)
        answer = self._unary(lambda c: rpc_pb2_grpc.LeaseStub(c).LeaseGrant, request)
        return Grant(answer.id, answer.ttl_s)

    def revoke(self, lease: int) -> None:
        """End the lease and its keys, or find that it has ended."""
        request = rpc_pb2.LeaseRevokeRequest(id=lease)
        try:
            self._unary(lambda c: rpc_pb2_grpc.LeaseStub(c).LeaseRevoke, request)
        except LeaseNotFound:
            return

    def renew(self, lease: int) -> int:
        """Return the new time to live in seconds; 0 or less = the lease is gone.

        Asks for a token only when the last one was refused: nothing should delay a renewal.
        """
        try:
            if self._stream is None:
                sent = self._tokens.metadata if self._tokens.usable else self._metadata()
                self._stream = _Stream(self._channel, sent, self._failure)
            return self._stream.renew(lease, self._deadline_s)
        except EtcdError as error:
            self._left(error)
            if isinstance(error, AccessDenied) and self._stream is not None:
                self._tokens.refused(error, self._stream.sent)
            self._drop_stream()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_stream()
        for channel in self._channels:
            channel.close()

    @property
    def _channel(self) -> grpc.Channel:
        return self._channels[self._rotation.current]

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _unary(
        self,
        method: Callable[[grpc.Channel], grpc.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
    ) -> Response:
        try:
            sent = self._metadata()
            try:
                return self._call(method, request, sent)
            except AccessDenied as error:
                if not self._tokens.refused(error, sent):
                    raise
            return self._call(method, request, self._metadata())
        except EtcdError as error:
            self._left(error)
            raise

    def _left(self, error: EtcdError) -> None:
        if isinstance(error, EtcdUnavailable):
            self._rotation.leave(self._rotation.current)

    def _metadata(self) -> Metadata:
        """What a call carries; a token that is due is asked for first."""
        if self._tokens.due(time.monotonic()):
            self._authenticate()
        return self._tokens.metadata

    def _authenticate(self) -> None:
        request = rpc_pb2.AuthenticateRequest(
            name=self._access.user, password=self._access.password
        )
        try:
            answer = self._call(lambda c: rpc_pb2_grpc.AuthStub(c).Authenticate, request, METADATA)
        except AuthenticationOff:
            self._tokens.got("", time.monotonic())
        except EtcdUnavailable:
            if not self._tokens.usable:
                raise
            self._tokens.missed(time.monotonic())
        else:
            self._tokens.got(answer.token, time.monotonic())

    def _call(
        self,
        method: Callable[[grpc.Channel], grpc.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
        metadata: Metadata,
    ) -> Response:
        try:
            return method(self._channel)(request, timeout=self._deadline_s, metadata=metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: grpc.RpcError) -> EtcdError:
        # grpc raises the call itself, which tells its status; its stubs do not say so.
        call = cast("grpc.Call", error)
        endpoint = self._endpoints[self._rotation.current]
        return failure_of(call.code(), call.details(), endpoint, self._access)


class _Stream:
    """One keepalive stream. A reader thread turns its answers into a queue with a deadline."""

    def __init__(
        self,
        channel: grpc.Channel,
        sent: Metadata,
        failure: Callable[[grpc.RpcError], EtcdError],
    ) -> None:
        self.sent = sent
        self._failure = failure
        self._requests: queue.Queue[rpc_pb2.LeaseKeepAliveRequest | None] = queue.Queue(maxsize=2)
        self._answers: queue.Queue[int | EtcdError] = queue.Queue(maxsize=2)
        stub = rpc_pb2_grpc.LeaseStub(channel)
        self._call = stub.LeaseKeepAlive(iter(self._requests.get, None), metadata=sent)
        threading.Thread(target=self._read, name="etcd-keepalive-read", daemon=True).start()

    def renew(self, lease: int, deadline_s: float) -> int:
        self._requests.put_nowait(rpc_pb2.LeaseKeepAliveRequest(id=lease))
        try:
            answer = self._answers.get(timeout=deadline_s)
        except queue.Empty:
            raise EtcdUnavailable("DEADLINE_EXCEEDED", "no answer to a renewal") from None
        if isinstance(answer, EtcdError):
            raise answer
        return answer

    def close(self) -> None:
        """End the call; both its threads end with it. One request at most was left unread."""
        self._requests.put_nowait(None)
        self._call.cancel()

    def _read(self) -> None:
        end: EtcdError = EtcdUnavailable("UNAVAILABLE", "the keepalive stream ended")
        try:
            for answer in self._call:
                self._answers.put(answer.ttl_s)
        except grpc.RpcError as error:
            end = self._failure(error)
        self._answers.put(end)
