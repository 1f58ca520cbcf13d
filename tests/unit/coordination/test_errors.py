import grpc
import pytest

from controlplane.coordination.errors import (
    CompactedError,
    EtcdError,
    EtcdUnavailable,
    LeaseNotFound,
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
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", EtcdError),
    ],
)
def test_statuses_become_types(code, details, kind):
    error = error_of(code, details)
    assert type(error) is kind
    assert error.code == code.name
    assert error.message == (details or "")
