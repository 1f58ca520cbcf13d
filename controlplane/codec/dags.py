"""Decides how DAGs, versions, shards, nodes and agents look to the public.

Does not know where their rows are kept.
"""

from __future__ import annotations

from typing import NamedTuple

from mainspring.v1 import admin_pb2, dag_pb2

from controlplane.codec.durations import timestamp


class DagView(NamedTuple):
    """What is known of a DAG; `next_us` is its next instant, paused or not."""

    dag: str
    shard: int
    digest: bytes
    task_count: int
    paused: bool
    pause_reason: str
    revision: int
    created_us: int
    updated_us: int
    next_us: int | None


class AgentView(NamedTuple):
    """What is known of an agent; amounts in thousandths of a core and in bytes."""

    agent: str
    connected: bool
    cpu_millis: int
    memory_bytes: int
    live_attempts: int
    incarnation: bytes
    connected_us: int
    granted_cpu_millis: int
    containment: str = ""


def dag_message(view: DagView, spec: dag_pb2.DagSpec | None = None) -> dag_pb2.Dag:
    """A DAG; lists leave the definition out."""
    return dag_pb2.Dag(
        name=f"dags/{view.dag}",
        spec=spec,
        digest=view.digest.hex(),
        paused=view.paused,
        pause_reason=view.pause_reason,
        create_time=timestamp(view.created_us),
        update_time=timestamp(view.updated_us),
        etag=str(view.revision),
        shard=view.shard,
        task_count=view.task_count,
        next_instant=None if view.paused else timestamp(view.next_us),
    )


def unapplied_dag(spec: dag_pb2.DagSpec, digest: bytes, shard: int = 0) -> dag_pb2.Dag:
    """A definition that is no current version yet."""
    return dag_pb2.Dag(
        name=f"dags/{spec.dag}",
        spec=spec,
        digest=digest.hex(),
        shard=shard,
        task_count=len(spec.tasks),
    )


def version_message(
    dag: str, digest: bytes, task_count: int, created_us: int, *, current: bool
) -> dag_pb2.DagVersion:
    """A version of a DAG."""
    return dag_pb2.DagVersion(
        name=f"dags/{dag}/versions/{digest.hex()}",
        digest=digest.hex(),
        create_time=timestamp(created_us),
        current=current,
        task_count=task_count,
    )


def agent_message(view: AgentView) -> admin_pb2.Agent:
    """An agent."""
    return admin_pb2.Agent(
        name=f"agents/{view.agent}",
        connected=view.connected,
        cpu=view.cpu_millis / 1_000,
        memory_bytes=view.memory_bytes,
        live_attempts=view.live_attempts,
        incarnation=view.incarnation.hex(),
        connect_time=timestamp(view.connected_us),
        granted_cpu=view.granted_cpu_millis / 1_000,
        containment=view.containment,
    )
