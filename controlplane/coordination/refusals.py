"""What a refusal of etcd means for whoever runs the node, in one sentence.

Decides which flag or file a refusal is about. Promises that the sentence says what etcd or gRPC
said, and repeats no secret. What it does not know it leaves as it was said.
"""

from __future__ import annotations

import re

import grpc

from controlplane.coordination.errors import (
    AccessDenied,
    CertificateRefused,
    EtcdError,
    EtcdUnavailable,
    TokenRefused,
    error_of,
)
from controlplane.settings.etcd import Endpoint, EtcdAccess

_NOT_TRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED:? *(.*?)(?:: OK)?$")
_ALERT = re.compile(r"ALERT_([A-Z_]+)")


def failure_of(
    code: grpc.StatusCode, details: str | None, endpoint: Endpoint, access: EtcdAccess
) -> EtcdError:
    """The error of a call that failed at a member."""
    error = error_of(code, details)
    sentence = _sentence(error, endpoint, access)
    return type(error)(error.code, sentence) if sentence else error


def _sentence(error: EtcdError, endpoint: Endpoint, access: EtcdAccess) -> str:
    match error:
        case CertificateRefused():
            return _certificate(error.message, endpoint, access)
        case AccessDenied():
            return _access(error, access)
        case EtcdUnavailable() if "Socket closed" in error.message:
            asked = "without https://" if endpoint.tls else "with https://"
            return f"{error.message}; does {endpoint.address} expect to be called {asked} (--etcd)?"
    return ""


def _certificate(message: str, endpoint: Endpoint, access: EtcdAccess) -> str:
    at = f"etcd at {endpoint.address}"
    if "Hostname" in message:
        return f"the certificate of {at} is for another host (--etcd)"
    if found := _NOT_TRUSTED.search(message):
        ca = "the public authorities: give --etcd-ca" if access.ca is None else access.ca.path
        return f"the certificate of {at} is not to be trusted: {found[1]}. Compared with {ca}" + (
            " (--etcd-ca)" if access.ca is not None else ""
        )
    alert = _ALERT.search(message)
    said = alert[1].lower().replace("_", " ") if alert else message
    if access.cert is None:
        return f"{at} asks for a certificate: give --etcd-cert and --etcd-key ({said})"
    return (
        f"{at} refuses our certificate {access.cert.path} (--etcd-cert): {said}. Has it expired,"
        " or does etcd trust another authority?"
    )


def _access(error: AccessDenied, access: EtcdAccess) -> str:
    if not access.user:
        if isinstance(error, TokenRefused):
            asks = "etcd asks who we are: give --etcd-user and --etcd-password-file"
            return f"{asks} ({error.message})"
        return f"etcd does not let the user of our certificate do this: {error.message}"
    if "authentication failed" in error.message:
        return (
            f"etcd does not know the user {access.user!r} (--etcd-user) with this password"
            f" (--etcd-password-file): {error.message}"
        )
    return f"etcd refuses the user {access.user!r} (--etcd-user): {error.message}"
