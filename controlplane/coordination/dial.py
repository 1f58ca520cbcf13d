"""How a member of etcd is reached.

Decides channel options, the metadata of every call, and what an endpoint may look like; channel
credentials and the authentication token belong here and nowhere else. Knows nothing of requests.
"""

from __future__ import annotations

import dataclasses

import grpc
import grpc.aio

# A member cut off from the majority must refuse rather than wait or answer from the past.
METADATA = (("hasleader", "true"),)

_OPTIONS = (
    # Rotation is ours: a member that comes back must be found at once, not after minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Without the timeout a stopped peer is not noticed; etcd drops clients that ping more often.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    # Each channel has its own connection: the lease does not wait behind anything else.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


def parse_endpoint(text: str) -> str:
    """Return "host:port"; ValueError for anything that cannot be reached in plain text."""
    address = text.removeprefix("http://").rstrip("/")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise ValueError(f"etcd endpoint {text!r}: expected host:port or http://host:port")
    return address


def is_endpoint(text: str) -> bool:
    try:
        parse_endpoint(text)
    except ValueError:
        return False
    return True


def open_channel(endpoint: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)


def open_blocking_channel(endpoint: str) -> grpc.Channel:
    return grpc.insecure_channel(endpoint, options=_OPTIONS)


@dataclasses.dataclass(slots=True)
class Rotation:
    """Which of several members is used now.

    A hung member keeps its connection and would be kept for ever; whoever misses an answer says so
    and the next member has its turn. Only the member in use can be left: many calls that fail
    together move on by one.
    """

    size: int
    current: int = 0

    def leave(self, member: int) -> None:
        if member == self.current:
            self.current = (member + 1) % self.size
