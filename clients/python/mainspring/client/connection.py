"""Carries calls to one of several addresses.

Decides: when a channel is encrypted, and that a failed call moves on to the next address. Promises:
a token leaves this machine only encrypted; every call has a deadline, or is a stream that notices a
dead peer by pings; a failure is raised as a `MainspringError`. Does not know: what the calls mean.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from mainspring.client.addresses import Address
from mainspring.client.errors import ConfigurationError, MainspringError, UnauthenticatedError
from mainspring.client.retry import Tries
from mainspring.client.settings import Settings
from mainspring.client.status import to_error
from mainspring.v1.admin_pb2_grpc import AdminServiceStub
from mainspring.v1.approval_pb2_grpc import ApprovalServiceStub
from mainspring.v1.dag_pb2_grpc import DagServiceStub
from mainspring.v1.run_pb2_grpc import RunServiceStub

LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
# Details of an error come as metadata; the default of 16 KB would lose a long list of problems.
LARGEST_METADATA_BYTES = 4 * 1024 * 1024
# Tells the server that it need not cut a long list of problems down to the usual limit.
_DETAILS_LIMIT = ("mainspring-details-limit", str(LARGEST_METADATA_BYTES // 4))
Request_contra = TypeVar("Request_contra", bound=Message, contravariant=True)
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
_Metadata = tuple[tuple[str, str], ...]
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    ("grpc.max_metadata_size", LARGEST_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", LARGEST_METADATA_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
)


class Call(Protocol[Request_contra, Answer_co]):
    """A method of a stub, as far as it is used here."""

    def __call__(
        self, request: Request_contra, timeout: float | None, metadata: _Metadata, /
    ) -> Answer_co: ...


@dataclass(frozen=True, slots=True)
class Node:
    """A channel to one address with the stubs on it."""

    address: Address
    channel: grpc.Channel
    dags: DagServiceStub
    runs: RunServiceStub
    approvals: ApprovalServiceStub
    admin: AdminServiceStub


class Connection:
    """Channels to all addresses; calls go to the one that answered last.

    `patience_s` is how long a call that nobody answers is tried again. Not for use by several
    threads at once. Raises ConfigurationError when `encrypted` is False for an address outside
    this machine.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        patience_s: float,
        encrypted: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._nodes = [_open(address, settings.ca, encrypted) for address in settings.addresses]
        self._current = 0
        self._patience_s = patience_s
        self._clock, self._sleep, self._dice = clock, sleep, dice

    @property
    def address(self) -> Address:
        """Where the next call goes first."""
        return self._nodes[self._current].address

    def close(self) -> None:
        """Closes all channels; calls under way are cancelled."""
        for node in self._nodes:
            node.channel.close()

    def call(
        self,
        method: Callable[[Node], Call[Request, Answer]],
        request: Request,
        *,
        deadline_s: float,
        patience_s: float | None = None,
    ) -> Answer:
        """One request, one answer; tried again while nobody answers and patience lasts."""
        tries = self._tries(patience_s)
        metadata = self._metadata()
        while True:
            try:
                return method(self._nodes[self._current])(request, deadline_s, metadata)
            except grpc.RpcError as failure:
                self._move_on(failure, tries)

    def stream(
        self,
        method: Callable[[Node], Call[Request, Iterator[Answer]]],
        request: Request,
        *,
        patience_s: float,
    ) -> Iterator[Answer]:
        """One request, many answers; after a failure it starts over, which the caller must expect.

        Ends when the server ends the stream.
        """
        tries = self._tries(patience_s)
        metadata = self._metadata()
        while True:
            try:
                for answer in method(self._nodes[self._current])(request, None, metadata):
                    yield answer
                    tries.answered(self._clock())
            except grpc.RpcError as failure:
                self._move_on(failure, tries)
            else:
                return

    def _tries(self, patience_s: float | None) -> Tries:
        patience_s = self._patience_s if patience_s is None else patience_s
        return Tries(len(self._nodes), patience_s, self._clock())

    def _metadata(self) -> _Metadata:
        if self._settings.token is None:
            withheld = self._settings.withheld
            raise UnauthenticatedError(
                f"no token is known for {self.address}" + (f": {withheld}" if withheld else ""),
                reason="NO_TOKEN",
            ) from None
        return (("authorization", f"Bearer {self._settings.token}"), _DETAILS_LIMIT)

    def _move_on(self, failure: grpc.RpcError, tries: Tries) -> None:
        """Waits until the next try and chooses its address; raises when there is none."""
        error: MainspringError = to_error(failure, str(self.address))
        pause_s = tries.pause_s(error, self._clock(), self._dice())
        if pause_s is None:
            raise error from None
        self._current = (self._current + 1) % len(self._nodes)
        if pause_s:
            self._sleep(pause_s)


def _open(address: Address, ca: bytes | None, encrypted: bool | None) -> Node:
    if encrypted is None:
        encrypted = ca is not None or not address.loopback
    if not encrypted and not address.loopback:
        raise ConfigurationError(
            f"{address} is not on this machine: a token is not sent there without encryption",
            reason="PLAIN_TEXT",
        )
    channel = _channel(address, ca, encrypted=encrypted)
    return Node(
        address,
        channel,
        DagServiceStub(channel),
        RunServiceStub(channel),
        ApprovalServiceStub(channel),
        AdminServiceStub(channel),
    )


def _channel(address: Address, ca: bytes | None, *, encrypted: bool) -> grpc.Channel:
    # A proxy named by the environment must not see what stays on this machine.
    options = [*_OPTIONS, ("grpc.enable_http_proxy", 0 if address.loopback else 1)]
    if encrypted:
        credentials = grpc.ssl_channel_credentials(root_certificates=ca)
        return grpc.secure_channel(str(address), credentials, options)
    return grpc.insecure_channel(str(address), options)
