"""Decides what a definition of a DAG means: its canonical bytes, its digest, its compiled form.

Promises that the same definition has the same bytes and digest everywhere, and that a definition
without problems (see `spec_checks`) compiles. Does not know who may apply it.
"""

from __future__ import annotations

from hashlib import sha256

from google.protobuf.message import DecodeError
from mainspring.agent.v1 import session_pb2
from mainspring.v1 import dag_pb2

from controlplane.codec.durations import duration_ms
from controlplane.codec.errors import CodecError
from controlplane.core.graph.edges import TaskEdges, compile_edges
from controlplane.core.types import (
    DagKey,
    DagVersion,
    OnDisconnect,
    Resources,
    RetryPolicy,
    ScheduleDef,
    TaskDef,
    TriggerRule,
)

DEFAULT_CPU_MILLIS = 1_000
DEFAULT_GRACE_MS = 10_000
DEFAULT_DISCONNECT_LIMIT_MS = 3_600_000
DEFAULT_SCHEDULE = "default"
DEFAULT_ZONE = "UTC"
_ONE_ATTEMPT = RetryPolicy()
_ALL_SUCCESS = dag_pb2.TRIGGER_RULE_ALL_SUCCESS


def canonical(spec: dag_pb2.DagSpec) -> tuple[bytes, bytes]:
    """The bytes that a definition is stored as, and their SHA-256 digest.

    Fields that this version does not know are left out: nobody has checked them.
    """
    known = dag_pb2.DagSpec()
    known.CopyFrom(spec)
    known.DiscardUnknownFields()
    stored = known.SerializeToString(deterministic=True)
    return stored, sha256(stored).digest()


def parse_spec(stored: bytes) -> dag_pb2.DagSpec:
    """The definition of its stored bytes; raises CodecError."""
    try:
        return dag_pb2.DagSpec.FromString(stored)
    except DecodeError as error:
        raise CodecError(f"a stored definition cannot be read: {error}") from error


def compile_version(tenant: str, spec: dag_pb2.DagSpec | bytes, digest: bytes) -> DagVersion:
    """The compiled form of a definition. Raises CodecError for one that was never checked."""
    if isinstance(spec, bytes):
        spec = parse_spec(spec)
    try:
        return _compile(tenant, spec, digest)
    except ValueError as error:
        raise CodecError(f"the definition of {spec.dag!r} does not compile: {error}") from error


def _compile(tenant: str, spec: dag_pb2.DagSpec, digest: bytes) -> DagVersion:
    edges, problems = compile_edges([TaskEdges(task.task, task.depends_on) for task in spec.tasks])
    if edges is None:
        raise ValueError("; ".join(f"{each.field}: {each.message}" for each in problems[:5]))
    return DagVersion(
        key=DagKey(tenant, spec.dag),
        digest=digest,
        tasks=tuple(map(task_def, spec.tasks)),
        edges=edges,
        schedules=tuple(map(schedule_def, spec.schedules)),
        run_timeout_ms=duration_ms(spec.run_timeout),
        max_active_runs=spec.max_active_runs,
    )


def task_def(task: dag_pb2.TaskSpec) -> TaskDef:
    """A task as the core has it; raises ValueError when its numbers are out of range."""
    request = _request(task)
    on_disconnect = OnDisconnect(task.on_disconnect or OnDisconnect.FENCE)
    overtime_ms = _overtime_ms(task, on_disconnect)
    return TaskDef(
        task=task.task,
        request=request,
        rule=TriggerRule(task.trigger_rule or _ALL_SUCCESS),
        retry=retry_policy(task.retry) if task.HasField("retry") else _ONE_ATTEMPT,
        priority=task.priority,
        exec_spec=_exec_spec(task, request, overtime_ms),
        idempotent=task.idempotent if task.HasField("idempotent") else True,
        on_disconnect=on_disconnect,
        overtime_ms=overtime_ms,
    )


def _overtime_ms(task: dag_pb2.TaskSpec, on_disconnect: OnDisconnect) -> int:
    """How long an attempt may run on after its attempt lease."""
    if on_disconnect is OnDisconnect.FENCE:
        return 0
    if not task.HasField("disconnect_limit"):
        return DEFAULT_DISCONNECT_LIMIT_MS
    return duration_ms(task.disconnect_limit)


def _request(task: dag_pb2.TaskSpec) -> Resources:
    if not task.HasField("resources"):
        return Resources(DEFAULT_CPU_MILLIS, 0)
    wanted = task.resources
    return Resources(cpu_millis(wanted), wanted.memory_bytes)


def cpu_millis(wanted: dag_pb2.ResourceRequest) -> int:
    """Thousandths of a core; a request above zero is never rounded to zero."""
    if not wanted.HasField("cpu"):
        return DEFAULT_CPU_MILLIS
    return max(round(wanted.cpu * 1_000), 1) if wanted.cpu else 0


def _exec_spec(task: dag_pb2.TaskSpec, request: Resources, overtime_ms: int) -> bytes:
    process = task.process
    spec = session_pb2.ExecSpec(
        argv=process.argv,
        env=process.env,
        cwd=process.cwd,
        timeout_ms=duration_ms(task.timeout),
        grace_ms=duration_ms(task.grace) if task.HasField("grace") else DEFAULT_GRACE_MS,
        request=session_pb2.Capacity(
            cpu_millis=request.cpu_millis, memory_bytes=request.memory_bytes
        ),
        overtime_ms=overtime_ms,
    )
    return spec.SerializeToString(deterministic=True)


def retry_policy(retry: dag_pb2.RetryPolicy) -> RetryPolicy:
    """A stated policy with its defaults filled in; raises RetryPolicyError."""
    initial_ms = _ONE_ATTEMPT.initial_backoff_ms
    if retry.HasField("initial_backoff"):
        initial_ms = duration_ms(retry.initial_backoff)
    longest_ms = max(_ONE_ATTEMPT.max_backoff_ms, initial_ms)
    if retry.HasField("max_backoff"):
        longest_ms = duration_ms(retry.max_backoff)
    return RetryPolicy(
        max_attempts=retry.max_attempts,
        initial_backoff_ms=initial_ms,
        multiplier=retry.multiplier if retry.HasField("multiplier") else _ONE_ATTEMPT.multiplier,
        max_backoff_ms=longest_ms,
        jitter=retry.jitter if retry.HasField("jitter") else _ONE_ATTEMPT.jitter,
    )


def schedule_def(schedule: dag_pb2.ScheduleSpec) -> ScheduleDef:
    """A schedule with the text that stands for its timetable in the store."""
    name = schedule.schedule or DEFAULT_SCHEDULE
    if schedule.WhichOneof("timetable") == "interval":
        return ScheduleDef(name, f"interval {duration_ms(schedule.interval)}")
    return ScheduleDef(name, f"cron {schedule.timezone or DEFAULT_ZONE} {schedule.cron}")
