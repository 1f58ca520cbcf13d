"""Assembles the gRPC server of a node: what is served, behind one door.

Decides the options of the transport. Promises that every registered service is behind the door;
health is open, all else wants a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from mainspring.internal.v1 import node_pb2, node_pb2_grpc
from mainspring.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    approval_pb2,
    approval_pb2_grpc,
    dag_pb2,
    dag_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
)

from controlplane.api.admin_servicer import AdminServicer
from controlplane.api.approval_servicer import ApprovalServicer
from controlplane.api.credentials import Gatekeeper
from controlplane.api.dag_servicer import DagServicer
from controlplane.api.door import MAX_APPLY_BYTES, Door
from controlplane.api.listeners import Listener, open_port
from controlplane.api.node_servicer import NodeServicer
from controlplane.api.run_servicer import RunServicer

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_APPLY_BYTES),
    ("grpc.max_send_message_length", MAX_APPLY_BYTES),
    # Two servers on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_concurrent_streams", 10_000),
)


@dataclass(frozen=True, slots=True)
class Extra:
    """A service that another layer implements: its full name, and how it is registered."""

    service: str
    register: Callable[[grpc.aio.Server], None]


@dataclass(frozen=True, slots=True)
class Servicers:
    """What this package serves."""

    dags: DagServicer
    runs: RunServicer
    approvals: ApprovalServicer
    admin: AdminServicer
    node: NodeServicer


@dataclass(frozen=True, slots=True)
class Built:
    """A server that is not started yet, its ports, and where its health is set."""

    server: grpc.aio.Server
    ports: tuple[int, ...]
    health: health.aio.HealthServicer


def build_server(
    servicers: Servicers,
    gatekeeper: Gatekeeper,
    listeners: Sequence[Listener],
    extras: Sequence[Extra] = (),
) -> Built:
    """A server with all services. Raises ListenerError when an address cannot be had."""
    server = grpc.aio.server(interceptors=[Door(gatekeeper)], options=_OPTIONS)
    dag_pb2_grpc.add_DagServiceServicer_to_server(servicers.dags, server)
    run_pb2_grpc.add_RunServiceServicer_to_server(servicers.runs, server)
    approval_pb2_grpc.add_ApprovalServiceServicer_to_server(servicers.approvals, server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(servicers.admin, server)
    node_pb2_grpc.add_NodeServiceServicer_to_server(servicers.node, server)
    for extra in extras:
        extra.register(server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection(_names(extras), server)
    ports = tuple(open_port(server, listener) for listener in listeners)
    return Built(server, ports, healthy)


def _names(extras: Sequence[Extra]) -> list[str]:
    files = (dag_pb2, run_pb2, approval_pb2, admin_pb2, node_pb2, health_pb2)
    names = [
        service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()
    ]
    return [*names, reflection.SERVICE_NAME, *(extra.service for extra in extras)]
