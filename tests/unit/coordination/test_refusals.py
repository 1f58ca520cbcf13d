import grpc
import pytest

from controlplane.coordination.errors import AccessDenied, CertificateRefused, EtcdUnavailable
from controlplane.coordination.refusals import failure_of
from controlplane.settings.etcd import Endpoint, EtcdAccess, Pem

Code = grpc.StatusCode
TLS, PLAIN = Endpoint("h:2379", tls=True), Endpoint("h:2379", tls=False)
BARE = EtcdAccess()
FULL = EtcdAccess(Pem("ca.pem", b""), Pem("me.pem", b""), Pem("me.key", b""), "u", "hush")
HANDSHAKE = "last error: UNKNOWN: ipv4:1.2.3.4:1: Tls handshake failed (X): SSL_ERROR_SSL: error:1:"
UNTRUSTED = HANDSHAKE + "SSL:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"
ALERT = HANDSHAKE + "SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE: OK"
HOST = "Custom verification check failed with error: Hostname Verification Check failed."


@pytest.mark.parametrize(
    ("details", "access", "words"),
    [
        (UNTRUSTED, FULL, "not to be trusted: certificate has expired. Compared with ca.pem"),
        (UNTRUSTED, BARE, "the public authorities: give --etcd-ca"),
        (ALERT, BARE, "asks for a certificate: give --etcd-cert and --etcd-key"),
        (ALERT, FULL, r"refuses our certificate me.pem \(--etcd-cert\): bad certificate"),
        (HOST, FULL, "for another host"),
        (HANDSHAKE + "something new", FULL, "something new"),
    ],
)
def test_a_refused_certificate_is_told_with_its_file_or_flag(details, access, words):
    error = failure_of(Code.UNAVAILABLE, details, TLS, access)
    assert isinstance(error, CertificateRefused)
    with pytest.raises(EtcdUnavailable, match=words):
        raise error


@pytest.mark.parametrize(
    ("code", "details", "access", "words"),
    [
        (Code.INVALID_ARGUMENT, "authentication failed, x", FULL, "--etcd-password-file"),
        (Code.PERMISSION_DENIED, "permission denied", FULL, "refuses the user 'u'"),
        (Code.PERMISSION_DENIED, "permission denied", BARE, "the user of our certificate"),
        (Code.INVALID_ARGUMENT, "user name is empty", BARE, "give --etcd-user"),
        (Code.UNAUTHENTICATED, "invalid auth token", FULL, "refuses the user 'u'"),
    ],
)
def test_a_refused_user_is_told_with_the_flag(code, details, access, words):
    error = failure_of(code, details, TLS, access)
    assert isinstance(error, AccessDenied)
    assert "hush" not in str(error)
    with pytest.raises(AccessDenied, match=words):
        raise error


@pytest.mark.parametrize(("endpoint", "words"), [(TLS, "without https"), (PLAIN, "with https")])
def test_a_closed_socket_may_be_the_wrong_way_to_call(endpoint, words):
    error = failure_of(Code.UNAVAILABLE, "Handshake read failed (Socket closed)", endpoint, BARE)
    assert words in error.message


def test_what_is_not_known_is_left_as_it_was_said():
    error = failure_of(Code.UNAVAILABLE, "etcdserver: no leader", TLS, FULL)
    assert error.message == "etcdserver: no leader"
