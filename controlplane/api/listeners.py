"""Decides where a server may listen: without encryption on this machine only.

Does not know what is served there.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc


class ListenerError(Exception):
    """An address at which nobody may or can listen; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain and its private key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Listener:
    """`host:port`; port 0 takes a free one."""

    address: str
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        host = host_of(self.address)
        if self.tls is None and not is_loopback(host):
            message = (
                f"{self.address} can be reached from outside this machine: give a certificate and "
                "its key, or listen on 127.0.0.1"
            )
            raise ListenerError(message)


def host_of(address: str) -> str:
    """The host of `host:port`; raises ListenerError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ListenerError(f"{address!r} is no address to listen on; write host:port")
    return host.removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_port(server: grpc.aio.Server, listener: Listener) -> int:
    """Binds a listener and returns its port; raises ListenerError when the address is taken."""
    try:
        if listener.tls is None:
            return server.add_insecure_port(listener.address)
        pair = (listener.tls.key.read_bytes(), listener.tls.certificate.read_bytes())
        return server.add_secure_port(listener.address, grpc.ssl_server_credentials([pair]))
    except OSError as error:
        raise ListenerError(f"{error.filename}: {error.strerror}") from error
    except RuntimeError as error:
        message = f"{listener.address} cannot be listened on: in use, or not of this machine"
        raise ListenerError(message) from error
