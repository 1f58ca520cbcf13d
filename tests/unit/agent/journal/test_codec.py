from __future__ import annotations

import pytest
from mainspring.agent.v1 import journal_pb2 as pb

from agent.core.records import AcceptedRecord, Record
from agent.journal.codec import Header, decode_header, decode_record, encode_header, encode_record
from agent.stream.codec import CodecError
from tests.unit.agent.journal.samples import ALL_KINDS, INCARNATION, accepted


@pytest.mark.parametrize("record", ALL_KINDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was(record: Record):
    assert decode_record(encode_record(record)) == record


def test_an_assignment_without_a_readable_specification_comes_back_without_one():
    given = accepted(1)
    record = AcceptedRecord(type(given.assign)(0, 1, 1, b"a" * 16, INCARNATION), 5)
    assert record.assign.spec is None
    assert decode_record(encode_record(record)) == record


def test_a_header_comes_back_as_it_was():
    header = Header(INCARNATION, 12)
    assert decode_header(encode_header(header)) == header


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xff", "not a record"),
        (pb.JournalRecord(acked=pb.JournalAcked()).SerializeToString(), "is not a header"),
        (
            pb.JournalRecord(header=pb.JournalHeader(format=9)).SerializeToString(),
            "its format is 9, this version reads 1",
        ),
        (
            pb.JournalRecord(header=pb.JournalHeader(format=1)).SerializeToString(),
            "its id has 0 bytes",
        ),
    ],
)
def test_what_is_no_header_is_refused(data: bytes, why: str):
    with pytest.raises(CodecError, match=why):
        decode_header(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "of the kind None"),
        (encode_header(Header(INCARNATION, 1)), "of the kind header"),
        (pb.JournalRecord(acked=pb.JournalAcked()).SerializeToString(), "has 0 bytes"),
    ],
)
def test_what_is_no_record_is_refused(data: bytes, why: str):
    with pytest.raises(CodecError, match=why):
        decode_record(data)
