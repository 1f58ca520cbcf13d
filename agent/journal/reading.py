"""Reads the bytes of a journal.

Decides: which part of a file is a journal, and whether the rest is a write that did not finish or
damage. Promises: records in their order, each with its place. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records import Record
from agent.journal.codec import Header, decode_header, decode_record
from agent.journal.frames import Framed, frames, goes_on
from agent.stream.codec import CodecError

NOTHING = Framed(0, 0, b"")


class NotAJournal(Exception):  # noqa: N818  # a finding about a file, raised only where it is read
    """The bytes are not those of a journal that can be relied on."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says. `end`: where its readable records end; `size`: where the file does.
    `damaged`: what follows is not the beginning of a last record.
    """

    header: Header
    records: tuple[tuple[int, Record], ...]
    end: int
    size: int
    damaged: bool


def read_journal(data: bytes) -> Reading:
    """Reads as far as it is readable. Raises NotAJournal if not even the header is."""
    framed = frames(data)
    _, end, first = next(framed, NOTHING)
    try:
        header = decode_header(first)
    except CodecError as error:
        raise NotAJournal(f"its header cannot be read: {error}") from None
    records: list[tuple[int, Record]] = []
    for begin, following, record in framed:
        try:
            records.append((begin, decode_record(record)))
        except CodecError:
            return Reading(header, tuple(records), end, len(data), damaged=True)
        end = following
    return Reading(header, tuple(records), end, len(data), goes_on(data, end))
