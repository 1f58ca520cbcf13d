"""An authority and certificates for tests, made when they are needed; nothing is kept in the tree.

Decides keys (P-256, which cost nothing to make) and times. Every certificate is good for loopback
unless the test says otherwise.
"""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certified:
    """Files in PEM."""

    cert: pathlib.Path
    key: pathlib.Path


class Authority:
    """Signs certificates; `ca` is its own, as a file."""

    def __init__(self, folder: pathlib.Path, name: str = "ca") -> None:
        self.folder = folder
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / f"{name}.pem"
        made = _builder(self._name, self._name, self._key, expired=False).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def certify(self, name: str, *, expired: bool = False, host: str = "127.0.0.1") -> Certified:
        """A key with a certificate for a common name; a host is an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        builder = _builder(_named(name), self._name, key, expired=expired)
        signed = builder.add_extension(alternative, critical=False).sign(self._key, hashes.SHA256())
        made = Certified(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        made.cert.write_bytes(_pem(signed))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * _DAY)
        .not_valid_after(now - _DAY if expired else now + _DAY)
    )
