import grpc
import pytest

from controlplane.coordination.errors import (
    AccessDenied,
    AuthenticationOff,
    CertificateRefused,
    CompactedError,
    EtcdError,
    EtcdUnavailable,
    LeaseNotFound,
    TokenRefused,
    error_of,
)

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (Code.UNAVAILABLE, "etcdserver: no leader", EtcdUnavailable),
        (Code.DEADLINE_EXCEEDED, None, EtcdUnavailable),
        (Code.CANCELLED, "", EtcdUnavailable),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            CompactedError,
        ),
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", EtcdError),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", LeaseNotFound),
        (Code.NOT_FOUND, "etcdserver: member not found", EtcdError),
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", TokenRefused),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", TokenRefused),
        (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", TokenRefused),
        (Code.UNKNOWN, "auth: revision in header is old", TokenRefused),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            AccessDenied,
        ),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", AccessDenied),
        (
            Code.FAILED_PRECONDITION,
            "etcdserver: authentication is not enabled",
            AuthenticationOff,
        ),
        (Code.UNAVAILABLE, "Tls handshake failed (…)", CertificateRefused),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", EtcdError),
    ],
)
def test_statuses_become_types(code, details, kind):
    error = error_of(code, details)
    assert type(error) is kind
    assert error.code == code.name
    assert error.message == (details or "")
