"""Decides how a row of the inbox stands for an event of the core, and back.

A command that applies a version names it by its digest; the compiled version is an argument. Does
not know where rows and versions are kept.
"""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import DecodeError
from mainspring.internal.v1 import command_pb2

from controlplane.codec.errors import CodecError
from controlplane.core.events import ApplyDag, CancelRun, DecideApproval, PauseDag, TriggerRun
from controlplane.core.types import DagKey, DagVersion

CommandEvent = ApplyDag | TriggerRun | CancelRun | PauseDag | DecideApproval
_RUN_ID_BYTES = 16
_DIGEST_BYTES = 32


class WantedVersion(NamedTuple):
    """A version that must be compiled before a command can become an event."""

    tenant: str
    dag: str
    digest: bytes


def parse_command(body: bytes) -> command_pb2.Command:
    """The command of the body of an inbox row; raises CodecError."""
    try:
        return command_pb2.Command.FromString(body)
    except DecodeError as error:
        raise CodecError(f"the body of a command cannot be read: {error}") from error


def wanted_version(tenant: str, command: command_pb2.Command) -> WantedVersion | None:
    """The version that `command_event` needs for this command, or None."""
    if command.WhichOneof("kind") != "apply_dag":
        return None
    return WantedVersion(tenant, command.apply_dag.dag, command.apply_dag.digest)


def command_event(
    number: int, tenant: str, command: command_pb2.Command, version: DagVersion | None = None
) -> CommandEvent:
    """The event of command `number` of a tenant.

    Raises CodecError for a command that this version does not know, or whose ids are no ids.
    """
    match command.WhichOneof("kind"):
        case "apply_dag":
            apply = command.apply_dag
            if version is None or len(apply.digest) != _DIGEST_BYTES:
                raise CodecError(f"there is no version {apply.digest.hex()} of {apply.dag!r}")
            return ApplyDag(number, version, apply.etag)
        case "trigger_run":
            trigger = command.trigger_run
            key = DagKey(tenant, trigger.dag)
            return TriggerRun(number, key, _run_id(trigger.run_id), trigger.logical_time_us)
        case "cancel_run":
            cancel = command.cancel_run
            key = DagKey(tenant, cancel.dag)
            return CancelRun(number, key, _run_id(cancel.run_id), cancel.reason)
        case "pause_dag":
            pause = command.pause_dag
            return PauseDag(number, DagKey(tenant, pause.dag), pause.paused, pause.reason)
        case "decide_approval":
            return _decision(number, tenant, command.decide_approval)
        case _:
            raise CodecError("the command is of a kind that this version does not know")


def _decision(
    number: int, tenant: str, decide: command_pb2.DecideApprovalCommand
) -> DecideApproval:
    key, run_id = DagKey(tenant, decide.dag), _run_id(decide.run_id)
    return DecideApproval(number, key, run_id, decide.task, decide.approved, decide.reason)


def _run_id(raw: bytes) -> bytes:
    if len(raw) != _RUN_ID_BYTES:
        raise CodecError(f"the id of a run has {_RUN_ID_BYTES} bytes, not {len(raw)}")
    return raw


def apply_dag(dag: str, digest: bytes, etag: str) -> bytes:
    """The body of a command that makes a stored version the current one."""
    kind = command_pb2.ApplyDagCommand(dag=dag, digest=digest, etag=etag)
    return _body(command_pb2.Command(apply_dag=kind))


def trigger_run(dag: str, run_id: bytes, logical_us: int) -> bytes:
    """The body of a command that makes a run."""
    kind = command_pb2.TriggerRunCommand(dag=dag, run_id=run_id, logical_time_us=logical_us)
    return _body(command_pb2.Command(trigger_run=kind))


def cancel_run(dag: str, run_id: bytes, reason: str) -> bytes:
    """The body of a command that cancels a run."""
    kind = command_pb2.CancelRunCommand(dag=dag, run_id=run_id, reason=reason)
    return _body(command_pb2.Command(cancel_run=kind))


def pause_dag(dag: str, reason: str, *, paused: bool) -> bytes:
    """The body of a command that pauses or resumes the schedules of a DAG."""
    kind = command_pb2.PauseDagCommand(dag=dag, paused=paused, reason=reason)
    return _body(command_pb2.Command(pause_dag=kind))


def decide_approval(dag: str, run_id: bytes, task: str, reason: str, *, approved: bool) -> bytes:
    """The body of a command that decides about a task instance that waits for an approval."""
    kind = command_pb2.DecideApprovalCommand(
        dag=dag, run_id=run_id, task=task, approved=approved, reason=reason
    )
    return _body(command_pb2.Command(decide_approval=kind))


def _body(command: command_pb2.Command) -> bytes:
    return command.SerializeToString(deterministic=True)
