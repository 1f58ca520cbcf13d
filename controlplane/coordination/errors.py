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


class CertificateRefused(EtcdUnavailable):
    """One side of a connection does not trust the certificate of the other."""


class AccessDenied(EtcdError):  # noqa: N818
    """etcd does not let this user do it, or does not know the user, or not this password."""


class TokenRefused(AccessDenied):
    """The token is missing, has ended, or is older than the rules for users: get another one."""


class AuthenticationOff(EtcdError):  # noqa: N818
    """etcd asks nobody for a user."""


_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by the server: ours never comes this way
}


# Part of the message, for codes that mean several things.
_BY_MESSAGE: tuple[tuple[grpc.StatusCode, str, type[EtcdError]], ...] = (
    (grpc.StatusCode.OUT_OF_RANGE, "compacted", CompactedError),
    (grpc.StatusCode.NOT_FOUND, "lease", LeaseNotFound),
    (grpc.StatusCode.UNAUTHENTICATED, "invalid auth token", TokenRefused),
    (grpc.StatusCode.INVALID_ARGUMENT, "user name is empty", TokenRefused),
    (grpc.StatusCode.INVALID_ARGUMENT, "revision of auth store is old", TokenRefused),
    (grpc.StatusCode.UNKNOWN, "auth: revision in header is old", TokenRefused),  # until 3.5
    (grpc.StatusCode.INVALID_ARGUMENT, "authentication failed", AccessDenied),
    (grpc.StatusCode.FAILED_PRECONDITION, "authentication is not enabled", AuthenticationOff),
    (grpc.StatusCode.UNAUTHENTICATED, "", AccessDenied),
    (grpc.StatusCode.PERMISSION_DENIED, "", AccessDenied),
    (grpc.StatusCode.UNAVAILABLE, "handshake failed", CertificateRefused),
    (grpc.StatusCode.UNAVAILABLE, "Verification Check failed", CertificateRefused),
)


def error_of(code: grpc.StatusCode, details: str | None) -> EtcdError:
    """Map the status of a failed call."""
    message = details or ""
    for known, part, kind in _BY_MESSAGE:
        if code is known and part in message:
            return kind(code.name, message)
    return (EtcdUnavailable if code in _TRANSIENT else EtcdError)(code.name, message)
