"""Frames of records in a run of bytes.

Decides: what is a whole record (length and CRC-32 fit, not empty) and where the readable part of a
file ends. Promises: a file that was cut anywhere reads as the records before the cut. Does not know
what is in a record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

_PREFIX = struct.Struct("<II")


class Framed(NamedTuple):
    """A record and the place of its frame: the bytes from `begin` to before `end`."""

    begin: int
    end: int
    record: bytes


def frame(record: bytes) -> bytes:
    """A record as it is written."""
    return _PREFIX.pack(len(record), crc32(record)) + record


def frames(data: bytes) -> Iterator[Framed]:
    """Every record up to the first that is not whole."""
    begin = 0
    while (record := _record_at(data, begin)) is not None:
        end = begin + _PREFIX.size + len(record)
        yield Framed(begin, end, record)
        begin = end


def goes_on(data: bytes, offset: int) -> bool:
    """Whether a whole record begins somewhere after `offset`: then what is not readable there was
    damaged, since a write that did not finish has nothing behind it.
    """
    return any(_record_at(data, start) is not None for start in range(offset + 1, len(data)))


def _record_at(data: bytes, offset: int) -> bytes | None:
    """An empty record counts as none: it is what a hole full of zeros looks like."""
    begin = offset + _PREFIX.size
    if begin > len(data):
        return None
    length, checksum = _PREFIX.unpack_from(data, offset)
    if not 0 < length <= len(data) - begin:
        return None
    record = data[begin : begin + length]
    return record if crc32(record) == checksum else None
