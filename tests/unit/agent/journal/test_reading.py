from __future__ import annotations

import pytest
from mainspring.agent.v1 import journal_pb2 as pb

from agent.journal.codec import Header, encode_header, encode_record
from agent.journal.frames import frame
from agent.journal.reading import NotAJournal, read_journal
from tests.unit.agent.journal.samples import ALL_KINDS, INCARNATION

HEAD = frame(encode_header(Header(INCARNATION, 3)))
FRAMES = [frame(encode_record(record)) for record in ALL_KINDS]
WHOLE = HEAD + b"".join(FRAMES)


def test_a_journal_reads_as_its_records():
    reading = read_journal(WHOLE)
    assert reading.header == Header(INCARNATION, 3)
    assert tuple(record for _, record in reading.records) == ALL_KINDS
    assert reading.records[0][0] == len(HEAD)
    assert (reading.end, reading.size, reading.damaged) == (len(WHOLE), len(WHOLE), False)


def test_every_cut_reads_as_the_records_before_it():
    for length in range(len(HEAD), len(WHOLE) + 1):
        reading = read_journal(WHOLE[:length])
        records = tuple(record for _, record in reading.records)
        assert records == ALL_KINDS[: len(records)]
        assert reading.end == len(HEAD) + sum(map(len, FRAMES[: len(records)]))
        assert length - reading.end < len(FRAMES[min(len(records), len(FRAMES) - 1)])
        assert not reading.damaged


def test_a_cut_header_is_no_journal():
    for length in range(len(HEAD)):
        with pytest.raises(NotAJournal, match="its header cannot be read"):
            read_journal(WHOLE[:length])


def test_a_whole_record_of_an_unknown_kind_is_damage():
    reading = read_journal(HEAD + frame(pb.JournalRecord().SerializeToString() or b"\x78\x01"))
    assert (reading.end, reading.damaged) == (len(HEAD), True)
