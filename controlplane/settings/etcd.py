"""How etcd is reached: where its members are, and what proves who they are and who we are.

Decides what an endpoint may look like, and which of the files and names belong together. Promises
that all problems are found at once, each with its flag and a way out; that no problem repeats a
secret; and that a password is sent only where nobody can listen. Does not know etcd's protocol.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from controlplane.core.graph.names import shown
from controlplane.settings.files import file_problem, first_line

# Flags beside `--etcd` itself.
ACCESS_FLAGS = ("etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file")
_TLS_FLAGS = ACCESS_FLAGS[:3]
_LAST_PORT = 65_535
_LONGEST_USER = 128


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A member of etcd. address: "host:port"."""

    address: str
    tls: bool

    @property
    def local(self) -> bool:
        """Whether what is sent there stays on this machine."""
        host = self.address.rpartition(":")[0].strip("[]")
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True, slots=True)
class Pem:
    """What a file held when it was read; messages call it by its path."""

    path: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """What proves who etcd is and who we are.

    ca: the authority of etcd's certificates, None = the public ones. cert, key: our certificate.
    user, password: for calls; without a user the name in our certificate is the user, if etcd asks.
    """

    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None
    user: str = ""
    password: str = field(default="", repr=False)


def parse_endpoint(text: str) -> Endpoint:
    """Read "host:port", "http://host:port" or "https://host:port". Raises ValueError."""
    scheme, separated, rest = text.partition("://")
    address = (rest if separated else text).removesuffix("/")
    host, _, port = address.rpartition(":")
    number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else 0
    known = not separated or scheme in {"http", "https"}
    if not known or not host or "/" in address or not 0 < number <= _LAST_PORT:
        raise ValueError(f"{shown(text)} is not host:port or https://host:port")
    return Endpoint(address, tls=scheme == "https" and bool(separated))


def endpoint_problem(text: str) -> str:
    """Why it cannot be read; empty if it can."""
    try:
        parse_endpoint(text)
    except ValueError as error:
        return str(error)
    return ""


def etcd_problems(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with `etcd` and the access flags, as (flag, reason); "" = not given."""
    listed = texts["etcd"].split(",")
    reason = (
        next(filter(None, map(endpoint_problem, listed)), "") if texts["etcd"] else "is missing"
    )
    if reason:
        yield "--etcd", reason
        return
    endpoints = [parse_endpoint(each) for each in listed]
    with_tls = {each.tls for each in endpoints}
    if len(with_tls) > 1:
        yield "--etcd", "has members with https:// and members without: use one of both for all"
    if True not in with_tls:
        for flag in _TLS_FLAGS:
            if texts[flag]:
                yield f"--{flag}", "is for members with https://, and --etcd names none"
    else:
        yield from _tls_problems(texts)
    yield from _user_problems(texts, endpoints)


def _tls_problems(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if texts["etcd-ca"] and (reason := _ca_problem(texts["etcd-ca"])):
        yield "--etcd-ca", reason
    cert, key = texts["etcd-cert"], texts["etcd-key"]
    if cert and not key:
        yield "--etcd-key", "is missing: it belongs to --etcd-cert"
    elif key and not cert:
        yield "--etcd-cert", "is missing: it belongs to --etcd-key"
    elif cert:
        reasons = [_unreadable(cert), _unreadable(key)]
        for flag, reason in zip(("--etcd-cert", "--etcd-key"), reasons, strict=True):
            if reason:
                yield flag, reason
        if not any(reasons) and (reason := _pair_problem(cert, key)):
            yield "--etcd-cert", reason


def _unreadable(path: str) -> str:
    try:
        Path(path).read_bytes()
    except OSError as error:
        return f"{shown(path)} cannot be read: {error.strerror}"
    return ""


def _ca_problem(path: str) -> str:
    if reason := _unreadable(path):
        return reason
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{shown(path)} holds no certificate in PEM"
    return ""


def _pair_problem(cert: str, key: str) -> str:
    try:
        # With a password at hand OpenSSL asks nobody at the terminal for the one of the key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{shown(cert)} is not the certificate of {shown(key)} (--etcd-key)"
        return f"{shown(cert)} and {shown(key)} (--etcd-key, without a password) must both be PEM"
    return ""


def _user_problems(
    texts: Mapping[str, str], endpoints: list[Endpoint]
) -> Iterator[tuple[str, str]]:
    user, path = texts["etcd-user"], texts["etcd-password-file"]
    if user and not path:
        yield "--etcd-password-file", "is missing: it belongs to --etcd-user"
    if path and not user:
        yield "--etcd-user", "is missing: it belongs to --etcd-password-file"
    if len(user) > _LONGEST_USER:
        yield "--etcd-user", f"has more than {_LONGEST_USER} characters"
    if path and (reason := file_problem(path)):
        yield "--etcd-password-file", reason
    if user and not all(each.tls or each.local for each in endpoints):
        yield "--etcd-user", "would send its password in the clear: write --etcd with https://"


def read_access(texts: Mapping[str, str]) -> EtcdAccess:
    """The access that flags without problems describe."""
    path = texts["etcd-password-file"]
    return EtcdAccess(
        ca=_read(texts["etcd-ca"]),
        cert=_read(texts["etcd-cert"]),
        key=_read(texts["etcd-key"]),
        user=texts["etcd-user"],
        password=first_line(path) if path else "",
    )


def _read(path: str) -> Pem | None:
    return Pem(path, Path(path).read_bytes()) if path else None
