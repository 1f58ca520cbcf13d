"""Maps the entries of the core to the messages of the contract, and back.

Promises: an assignment whose specification cannot be read is passed on without one, so that the
attempt ends with that message instead of ending the session. A frame that breaks the contract
otherwise raises CodecError. Frames are cut so that none comes near the limit of a message. What a
journal keeps (assignments, results) can be encoded and decoded to equal values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from mainspring.agent.v1 import session_pb2 as pb

from agent.core import entries
from agent.core.types import Amount, ExecSpec, Outcome, RefusalReason

PROTOCOL_VERSION = 2
ATTEMPT_ID_BYTES = 16
# What one frame may weigh; the limit of a message is 4 MB.
FRAME_BYTES = 1_000_000
# Roughly what an entry weighs beside its data or text.
ENTRY_BYTES = 128
# Stands for a specification that could not be read: it cannot be read again.
UNREADABLE = b"\xff"


class CodecError(Exception):
    """A message breaks the contract."""


def encode(pending: deque[entries.Entry]) -> pb.SessionRequest:
    """Takes entries from the front until the frame is full; at least one is there."""
    frame, weight = pb.SessionRequest(), 0
    while pending and weight < FRAME_BYTES:
        entry = pending.popleft()
        _ENCODERS[type(entry)](frame, entry)
        weight += _weight(entry)
    return frame


def decode(frame: pb.SessionResponse) -> entries.NodeFrame:
    """All entries of a frame of a node."""
    parts = {
        field.name: _DECODERS[field.name](value)
        for field, value in frame.ListFields()
        if field.name in _DECODERS
    }
    return entries.NodeFrame(**parts)


def attempt_id_of(attempt_id: bytes) -> bytes:
    """The id of an attempt as it came; raises CodecError if it cannot be one."""
    if len(attempt_id) != ATTEMPT_ID_BYTES:
        raise CodecError(f"the id of an attempt has {len(attempt_id)} bytes")
    return attempt_id


def _amount(message: pb.Capacity) -> Amount:
    return Amount(message.cpu_millis, message.memory_bytes)


def _capacity(amount: Amount) -> pb.Capacity:
    return pb.Capacity(cpu_millis=amount.cpu_millis, memory_bytes=amount.memory_bytes)


@lru_cache(maxsize=1024)
def _spec(encoded: bytes) -> ExecSpec | None:
    """Attempts of one task carry the same bytes: they are read once."""
    try:
        spec = pb.ExecSpec.FromString(encoded)
    except DecodeError:
        return None
    return ExecSpec(
        tuple(spec.argv),
        tuple(sorted(spec.env.items())),
        spec.cwd,
        spec.timeout_ms,
        spec.grace_ms,
        _amount(spec.request),
        spec.overtime_ms,
    )


@lru_cache(maxsize=1024)
def _spec_bytes(spec: ExecSpec | None) -> bytes:
    if spec is None:
        return UNREADABLE
    message = pb.ExecSpec(
        argv=spec.argv,
        env=dict(spec.env),
        cwd=spec.cwd,
        timeout_ms=spec.timeout_ms,
        grace_ms=spec.grace_ms,
        request=_capacity(spec.request),
        overtime_ms=spec.overtime_ms,
    )
    return message.SerializeToString()


def assign_message(entry: entries.Assign) -> pb.Assign:
    """An assignment as it could have come."""
    return pb.Assign(
        shard=entry.shard,
        epoch=entry.epoch,
        batch=entry.batch,
        attempt_id=entry.attempt_id,
        incarnation=entry.incarnation,
        beat=entry.beat,
        number=entry.number,
        dag=entry.dag,
        run=entry.run,
        task=entry.task,
        tenant=entry.tenant,
        logical_time_us=entry.logical_time_us,
        spec=_spec_bytes(entry.spec),
    )


def assign_of(message: pb.Assign) -> entries.Assign:
    """Raises CodecError."""
    return entries.Assign(
        message.shard,
        message.epoch,
        message.batch,
        attempt_id_of(message.attempt_id),
        message.incarnation,
        message.beat,
        message.number,
        message.dag,
        message.run,
        message.task,
        message.tenant,
        message.logical_time_us,
        _spec(message.spec),
    )


def _welcome(message: pb.Welcome) -> entries.Welcome:
    shards = tuple(
        entries.Leadership(claim.shard, claim.epoch, claim.holder, claim.batch)
        for claim in message.shards
    )
    return entries.Welcome(
        message.node,
        shards,
        tuple(message.peers),
        message.heartbeat_ms,
        message.session,
        message.attempt_lease_ms,
    )


def _cancel(message: pb.Cancel) -> entries.Cancel:
    return entries.Cancel(message.shard, message.epoch, attempt_id_of(message.attempt_id))


def _extension(message: pb.LeaseExtension) -> entries.LeaseExtension:
    return entries.LeaseExtension(message.shard, message.epoch, message.beat)


def _demand(message: pb.Demand) -> entries.Demand:
    return entries.Demand(tuple(map(_shape, message.shapes)), message.grant_number)


def _shape(message: pb.ShapeDemand) -> entries.ShapeDemand:
    rank = message.rank
    return entries.ShapeDemand(
        _amount(message.request),
        message.count,
        entries.Rank(rank.priority_class, rank.share_ppm, rank.oldest_ready_us),
    )


def _release(message: pb.Release) -> entries.Release:
    return entries.Release(message.number, _amount(message.amount))


def _log_tail(message: pb.LogTail) -> entries.LogTail:
    return entries.LogTail(
        message.tail,
        message.attempt_id,
        message.stdout_offset,
        message.stderr_offset,
        message.stop,
    )


def _refusal(message: pb.Refusal) -> entries.Refusal:
    try:
        reason = RefusalReason(message.reason)
    except ValueError:
        reason = RefusalReason.UNSPECIFIED
    return entries.Refusal(reason, message.message)


def _weight(entry: entries.Entry) -> int:
    if isinstance(entry, entries.LogData):
        return ENTRY_BYTES + len(entry.data)
    if isinstance(entry, entries.Inventory):
        return ENTRY_BYTES * (1 + len(entry.live) + len(entry.finished) + len(entry.subjects))
    return ENTRY_BYTES


def _hello(frame: pb.SessionRequest, entry: entries.Hello) -> None:
    frame.hello.agent = entry.agent
    frame.hello.incarnation = entry.incarnation
    frame.hello.boot_id = entry.boot_id
    frame.hello.protocol_version = PROTOCOL_VERSION
    frame.hello.capacity.CopyFrom(_capacity(entry.capacity))
    frame.hello.labels.update(dict(entry.labels))
    frame.hello.version = entry.version
    frame.hello.session = entry.session
    frame.hello.containment = pb.Containment.ValueType(entry.containment)
    frame.hello.memories.extend(map(_memory_message, entry.memories))


def _memory_message(entry: entries.ShardMemory) -> pb.ShardMemory:
    return pb.ShardMemory(
        shard=entry.shard, epoch=entry.epoch, batch=entry.batch, holder=entry.holder
    )


def _memory(frame: pb.SessionRequest, entry: entries.ShardMemory) -> None:
    frame.memories.append(_memory_message(entry))


def _heartbeat(frame: pb.SessionRequest, entry: entries.Heartbeat) -> None:
    frame.heartbeat.beat = entry.beat
    frame.heartbeat.cpu_used_millis = entry.used.cpu_millis
    frame.heartbeat.memory_used_bytes = entry.used.memory_bytes


def _inventory(frame: pb.SessionRequest, entry: entries.Inventory) -> None:
    live = [
        pb.LiveAttempt(attempt_id=a.attempt_id, started_at_us=a.started_at_us) for a in entry.live
    ]
    finished = [result_message(result) for result in entry.finished]
    subjects = [
        pb.AttemptSubject(attempt_id=s.attempt_id, run=s.run, task=s.task, number=s.number)
        for s in entry.subjects
    ]
    frame.inventories.add(
        shard=entry.shard, epoch=entry.epoch, live=live, finished=finished, subjects=subjects
    )


def _accepted(frame: pb.SessionRequest, entry: entries.Accepted) -> None:
    frame.accepted.add(shard=entry.shard, attempt_id=entry.attempt_id)


def _started(frame: pb.SessionRequest, entry: entries.Started) -> None:
    frame.started.add(
        shard=entry.shard, attempt_id=entry.attempt_id, started_at_us=entry.started_at_us
    )


def result_message(entry: entries.Result) -> pb.Result:
    """A result as it is sent."""
    return pb.Result(
        shard=entry.shard,
        attempt_id=entry.attempt_id,
        outcome=pb.Outcome.ValueType(entry.outcome),
        exit_code=entry.exit_code,
        signal=entry.signal,
        started_at_us=entry.started_at_us,
        finished_at_us=entry.finished_at_us,
        stdout_bytes=entry.stdout_bytes,
        stderr_bytes=entry.stderr_bytes,
        message=entry.message,
    )


def result_of(message: pb.Result) -> entries.Result:
    """Raises CodecError."""
    try:
        outcome = Outcome(message.outcome)
    except ValueError:
        raise CodecError(f"an attempt that ended as {message.outcome}") from None
    return entries.Result(
        message.shard,
        attempt_id_of(message.attempt_id),
        outcome,
        message.exit_code,
        message.signal,
        message.started_at_us,
        message.finished_at_us,
        message.stdout_bytes,
        message.stderr_bytes,
        message.message,
    )


def _result(frame: pb.SessionRequest, entry: entries.Result) -> None:
    frame.results.append(result_message(entry))


def _rejected(frame: pb.SessionRequest, entry: entries.Rejected) -> None:
    frame.rejected.add(
        shard=entry.shard,
        attempt_id=entry.attempt_id,
        reason=pb.RejectReason.ValueType(entry.reason),
        message=entry.message,
    )


def _grant(frame: pb.SessionRequest, entry: entries.Grant) -> None:
    frame.grant.number = entry.number
    frame.grant.amount.CopyFrom(_capacity(entry.amount))


def _recall(frame: pb.SessionRequest, entry: entries.Recall) -> None:
    frame.recall.number = entry.number
    frame.recall.amount.CopyFrom(_capacity(entry.amount))


def _log_data(frame: pb.SessionRequest, entry: entries.LogData) -> None:
    frame.log_data.add(
        tail=entry.tail,
        is_stderr=entry.is_stderr,
        offset=entry.offset,
        data=entry.data,
        eof=entry.eof,
    )


# Of heartbeats, grants and recalls a frame holds one: the last replaces those before it, as the
# contract says of them.
_ENCODERS: dict[type[object], Callable[[pb.SessionRequest, Any], None]] = {
    entries.Hello: _hello,
    entries.Heartbeat: _heartbeat,
    entries.ShardMemory: _memory,
    entries.Inventory: _inventory,
    entries.Accepted: _accepted,
    entries.Started: _started,
    entries.Result: _result,
    entries.Rejected: _rejected,
    entries.Grant: _grant,
    entries.Recall: _recall,
    entries.LogData: _log_data,
}
# By field of a frame; the others are of no interest to the core.
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "welcome": _welcome,
    "assigns": lambda assigns: tuple(map(assign_of, assigns)),
    "cancels": lambda cancels: tuple(map(_cancel, cancels)),
    "result_acks": lambda acks: tuple([ack.attempt_id for ack in acks]),
    "demand": _demand,
    "release": _release,
    "log_tails": lambda tails: tuple(map(_log_tail, tails)),
    "refusal": _refusal,
    "lease_extensions": lambda extensions: tuple(map(_extension, extensions)),
}
