"""Decides how entries of an agent's session stand for events and messages of the core.

What an agent says is checked here, once: what passes can be stored. Every function is on the path
of a hop. Does not know frames, sessions or grants.
"""

from __future__ import annotations

from uuid import UUID

from mainspring.agent.v1 import session_pb2

from controlplane.codec.errors import CodecError
from controlplane.core.effects import AssignMessage, CancelMessage, ResultAckMessage
from controlplane.core.events import Finished, Inventory, Rejected, Started, Subject
from controlplane.core.states import AttemptState
from controlplane.core.types import Resources, uuid_text

MAX_MESSAGE = 1_000
NO_EXIT_CODE = -1
_MAX_SIGNAL = 127
_ATTEMPT_ID_BYTES = 16
_STATES = {
    session_pb2.OUTCOME_SUCCEEDED: AttemptState.SUCCEEDED,
    session_pb2.OUTCOME_FAILED: AttemptState.FAILED,
    session_pb2.OUTCOME_TIMED_OUT: AttemptState.TIMED_OUT,
    session_pb2.OUTCOME_CANCELLED: AttemptState.CANCELLED,
    session_pb2.OUTCOME_LOST: AttemptState.LOST,
}


def finished(agent: str, result: session_pb2.Result) -> Finished:
    """The end of an attempt; raises CodecError."""
    state = _STATES.get(result.outcome)
    if state is None:
        raise CodecError(f"outcome {result.outcome} of an attempt is unknown")
    if not 0 <= result.signal <= _MAX_SIGNAL:
        raise CodecError(f"signal {result.signal} of an attempt is unknown")
    exit_code = result.exit_code
    return Finished(
        agent,
        _attempt_id(result.attempt_id),
        state,
        result.started_at_us,
        result.finished_at_us,
        None if exit_code == NO_EXIT_CODE else exit_code,
        result.signal,
        result.stdout_bytes,
        result.stderr_bytes,
        _text(result.message),
    )


def started(agent: str, entry: session_pb2.Started) -> Started:
    """The start of an attempt; raises CodecError."""
    return Started(agent, _attempt_id(entry.attempt_id), entry.started_at_us)


def rejected(agent: str, entry: session_pb2.Rejected) -> Rejected:
    """An assignment refused; raises CodecError."""
    reason = session_pb2.RejectReason.Name(entry.reason) if entry.reason in _REASONS else "unknown"
    word = reason.removeprefix("REJECT_REASON_").lower()
    return Rejected(agent, _attempt_id(entry.attempt_id), _text(f"{word}: {entry.message}"))


def inventory(agent: str, incarnation: bytes, entry: session_pb2.Inventory) -> Inventory:
    """All that an agent holds for a shard; raises CodecError."""
    return Inventory(
        agent,
        incarnation,
        tuple((_attempt_id(each.attempt_id), each.started_at_us) for each in entry.live),
        tuple(finished(agent, each) for each in entry.finished),
        tuple(subject for each in entry.subjects if (subject := _subject(each)) is not None),
    )


def _subject(entry: session_pb2.AttemptSubject) -> Subject | None:
    """What an attempt is of; None: it cannot be of anything here."""
    try:
        run_id = UUID(entry.run).bytes
    except ValueError:
        return None
    if not entry.number > 0:
        return None
    return Subject(_attempt_id(entry.attempt_id), run_id, entry.task, entry.number)


def assign(
    message: AssignMessage, shard: int, epoch: int, batch: int, beat: int
) -> session_pb2.Assign:
    """The entry that gives an attempt to an agent."""
    return session_pb2.Assign(
        shard=shard,
        epoch=epoch,
        batch=batch,
        attempt_id=message.attempt_id,
        incarnation=message.incarnation,
        beat=beat,
        number=message.number,
        dag=message.dag,
        run=uuid_text(message.run_id),
        task=message.task,
        tenant=message.tenant,
        logical_time_us=message.logical_us,
        spec=message.exec_spec,
    )


def cancel(message: CancelMessage, shard: int, epoch: int) -> session_pb2.Cancel:
    """The entry that stops an attempt."""
    return session_pb2.Cancel(shard=shard, epoch=epoch, attempt_id=message.attempt_id)


def result_ack(message: ResultAckMessage) -> session_pb2.ResultAck:
    """The entry that says that a result is recorded."""
    return session_pb2.ResultAck(attempt_id=message.attempt_id)


def resources(capacity: session_pb2.Capacity) -> Resources:
    """An amount of resources; raises CodecError for a negative one."""
    if capacity.cpu_millis < 0 or capacity.memory_bytes < 0:
        raise CodecError("a capacity is negative")
    return Resources(capacity.cpu_millis, capacity.memory_bytes)


def capacity(amount: Resources) -> session_pb2.Capacity:
    """The message of an amount of resources."""
    return session_pb2.Capacity(cpu_millis=amount.cpu_millis, memory_bytes=amount.memory_bytes)


_REASONS = frozenset(session_pb2.RejectReason.values())


def _attempt_id(raw: bytes) -> bytes:
    if len(raw) != _ATTEMPT_ID_BYTES:
        raise CodecError(f"the id of an attempt has {_ATTEMPT_ID_BYTES} bytes, not {len(raw)}")
    return raw


def _text(text: str) -> str:
    """Text that PostgreSQL stores: without NUL, and not longer than the contract says."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_MESSAGE] if text else ""
