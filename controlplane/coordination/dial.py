"""How a member of etcd is reached.

Decides channel options, credentials, and the metadata that all calls carry; the token that some
carry beside it is kept by `tokens`. Knows nothing of requests.
"""

from __future__ import annotations

import dataclasses

import grpc
import grpc.aio

from controlplane.settings.etcd import Endpoint, EtcdAccess, Pem

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


def open_channel(endpoint: Endpoint, access: EtcdAccess) -> grpc.aio.Channel:
    if not endpoint.tls:
        return grpc.aio.insecure_channel(endpoint.address, options=_OPTIONS)
    return grpc.aio.secure_channel(endpoint.address, _credentials(access), options=_OPTIONS)


def open_blocking_channel(endpoint: Endpoint, access: EtcdAccess) -> grpc.Channel:
    if not endpoint.tls:
        return grpc.insecure_channel(endpoint.address, options=_OPTIONS)
    return grpc.secure_channel(endpoint.address, _credentials(access), options=_OPTIONS)


def _credentials(access: EtcdAccess) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        _content(access.ca), _content(access.key), _content(access.cert)
    )


def _content(pem: Pem | None) -> bytes | None:
    return None if pem is None else pem.content


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
