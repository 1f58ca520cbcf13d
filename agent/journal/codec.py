"""Maps the records of the core to the messages of the journal, and back.

Promises: a record that was encoded decodes to an equal one. What is not a record of this format
raises CodecError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from mainspring.agent.v1 import journal_pb2 as pb

from agent.core.entries import Leadership, Result
from agent.core.records import AcceptedRecord, AckedRecord, Record, StartedRecord, StartOfAgent
from agent.stream.codec import (
    CodecError,
    assign_message,
    assign_of,
    attempt_id_of,
    result_message,
    result_of,
)

FORMAT = 1
INCARNATION_BYTES = 16


class Header(NamedTuple):
    """Whose journal it is: the incarnation of its agent, and the inode of its file."""

    incarnation: bytes
    inode: int


def encode_header(header: Header) -> bytes:
    message = pb.JournalHeader(format=FORMAT, incarnation=header.incarnation, inode=header.inode)
    return pb.JournalRecord(header=message).SerializeToString()


def decode_header(data: bytes) -> Header:
    """The header in an encoded record; raises CodecError where it is none of this format."""
    record = _parse(data)
    header = record.header
    if record.WhichOneof("kind") != "header":
        raise CodecError("the first record is not a header")
    if header.format != FORMAT:
        raise CodecError(f"its format is {header.format}, this version reads {FORMAT}")
    if len(header.incarnation) != INCARNATION_BYTES:
        raise CodecError(f"its id has {len(header.incarnation)} bytes")
    return Header(header.incarnation, header.inode)


def encode_record(record: Record) -> bytes:
    return _ENCODERS[type(record)](record).SerializeToString()


def decode_record(data: bytes) -> Record:
    record = _parse(data)
    kind = record.WhichOneof("kind")
    if kind is None or kind not in _DECODERS:
        raise CodecError(f"a record of the kind {kind}")
    return _DECODERS[kind](getattr(record, kind))


def _parse(data: bytes) -> pb.JournalRecord:
    try:
        return pb.JournalRecord.FromString(data)
    except DecodeError:
        raise CodecError("not a record") from None


def _start(record: StartOfAgent) -> pb.JournalRecord:
    message = pb.JournalStart(number=record.number, boot_id=record.boot_id, at_us=record.at_us)
    return pb.JournalRecord(start=message)


def _start_of(message: pb.JournalStart) -> StartOfAgent:
    return StartOfAgent(message.number, message.boot_id, message.at_us)


def _epoch(record: Leadership) -> pb.JournalRecord:
    message = pb.JournalEpoch(
        shard=record.shard, epoch=record.epoch, holder=record.holder, batch=record.batch
    )
    return pb.JournalRecord(epoch=message)


def _epoch_of(message: pb.JournalEpoch) -> Leadership:
    return Leadership(message.shard, message.epoch, message.holder, message.batch)


def _accepted(record: AcceptedRecord) -> pb.JournalRecord:
    message = pb.JournalAccepted(
        assign=assign_message(record.assign), lease_until_ms=record.lease_until_ms
    )
    return pb.JournalRecord(accepted=message)


def _accepted_of(message: pb.JournalAccepted) -> AcceptedRecord:
    return AcceptedRecord(assign_of(message.assign), message.lease_until_ms)


def _started(record: StartedRecord) -> pb.JournalRecord:
    message = pb.JournalStarted(
        attempt_id=record.attempt_id,
        pid=record.pid,
        started_at_us=record.started_at_us,
        start_ticks=record.start_ticks,
        boot_id=record.boot_id,
    )
    return pb.JournalRecord(started=message)


def _started_of(message: pb.JournalStarted) -> StartedRecord:
    return StartedRecord(
        attempt_id_of(message.attempt_id),
        message.pid,
        message.started_at_us,
        message.start_ticks,
        message.boot_id,
    )


def _finished(record: Result) -> pb.JournalRecord:
    return pb.JournalRecord(finished=result_message(record))


def _acked(record: AckedRecord) -> pb.JournalRecord:
    return pb.JournalRecord(acked=pb.JournalAcked(attempt_id=record.attempt_id))


def _acked_of(message: pb.JournalAcked) -> AckedRecord:
    return AckedRecord(attempt_id_of(message.attempt_id))


_ENCODERS: dict[type[object], Callable[[Any], pb.JournalRecord]] = {
    StartOfAgent: _start,
    Leadership: _epoch,
    AcceptedRecord: _accepted,
    StartedRecord: _started,
    Result: _finished,
    AckedRecord: _acked,
}
_DECODERS: dict[str, Callable[[Any], Record]] = {
    "start": _start_of,
    "epoch": _epoch_of,
    "accepted": _accepted_of,
    "started": _started_of,
    "finished": result_of,
    "acked": _acked_of,
}
