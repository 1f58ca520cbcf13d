"""Reads HOST:PORT and says what may be reached without encryption.

Decides: what a loopback address is; names other than `localhost` are never resolved for it.
Promises: an address that is parsed has a host and a port from 1 to 65535.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mainspring.client.errors import InvalidArgumentError, Violation

_SHOWN = 80
_MOST_ADDRESSES = 64


@dataclass(frozen=True, slots=True)
class Address:
    """One place to call."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it never leaves this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def key(self) -> tuple[str, int]:
        """Equal for all spellings of one loopback port."""
        return ("localhost" if self.loopback else self.host, self.port)


def parse_address(text: str) -> Address:
    """Reads HOST:PORT or [IPV6]:PORT; raises InvalidArgumentError on anything else."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    good_host = bool(host) and host.isascii() and not set(host) & set("/@ \t\r\n")
    if not colon or not good_host or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise _refused(text)
    if not 1 <= int(port) <= 65_535:
        raise _refused(text)
    return Address(host.lower(), int(port))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Reads addresses separated by commas, in the order in which they are tried."""
    parts = [part for part in text.split(",") if part.strip()]
    if not parts or len(parts) > _MOST_ADDRESSES:
        raise _refused(text)
    return tuple(dict.fromkeys(parse_address(part) for part in parts))


def _refused(text: str) -> InvalidArgumentError:
    rule = "HOST:PORT is expected, such as 127.0.0.1:7070"
    return InvalidArgumentError(
        f"{text[:_SHOWN]!a} is no address: {rule}", violations=[Violation("address", rule)]
    )
