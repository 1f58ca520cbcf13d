"""What can go wrong with etcd, as types, and the one table that maps gRPC's codes to them."""

from __future__ import annotations

import grpc


class EtcdError(Exception):
    """etcd refused a request. code: name of the gRPC status, as in "NOT_FOUND"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class EtcdUnavailable(EtcdError):  # noqa: N818  (the name says what is so; it is used as a state)
    """No member answered in time. Whether a write was applied is unknown."""


class CompactedError(EtcdError):
    """The history that was asked for has been forgotten; read the present instead."""


class LeaseNotFound(EtcdError):  # noqa: N818
    """The lease is not there: it ended, was revoked, or the store was wiped."""


_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by the server: ours never comes this way
}


def error_of(code: grpc.StatusCode, details: str | None) -> EtcdError:
    """Map the status of a failed call."""
    message = details or ""
    if code in _TRANSIENT:
        return EtcdUnavailable(code.name, message)
    if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in message:
        return CompactedError(code.name, message)
    if code is grpc.StatusCode.NOT_FOUND and "lease" in message:
        return LeaseNotFound(code.name, message)
    return EtcdError(code.name, message)
