"""Decides how durations and times of the wire stand for whole milliseconds and microseconds.

Durations are rounded up to milliseconds: a limit above zero never becomes zero, which would mean
no limit. Does not know any clock.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

NANOS_PER_MS = 1_000_000
NANOS_PER_S = 1_000_000_000
MICROS_PER_S = 1_000_000
# The years 1 and 9999 end the range of google.protobuf.Timestamp.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
MAX_DURATION_MS = 10 * 366 * 86_400_000


def duration_ms(duration: Duration) -> int:
    """A duration in milliseconds, rounded up."""
    return duration.seconds * 1_000 + -(-duration.nanos // NANOS_PER_MS)


def duration_problem(duration: Duration) -> str | None:
    """Why a duration is refused, or None."""
    if duration.seconds < 0 or duration.nanos < 0:
        return "is negative; give zero or more"
    if duration.nanos >= NANOS_PER_S:
        return f"has {duration.nanos:,} nanoseconds beside its seconds; give less than a second"
    if duration_ms(duration) > MAX_DURATION_MS:
        return f"is {duration.seconds:,} seconds; give at most 10 years"
    return None


def timestamp_problem(time: Timestamp) -> str | None:
    """Why a time is refused, or None."""
    if not _FIRST_S <= time.seconds <= _LAST_S or not 0 <= time.nanos < NANOS_PER_S:
        return "is no time between the years 1 and 9999"
    return None


def instant_us(time: Timestamp) -> int:
    """A time in microseconds since the epoch, rounded down."""
    return time.seconds * MICROS_PER_S + time.nanos // 1_000


def timestamp(instant_us: int | None) -> Timestamp | None:
    """The message of an instant; None stays unset."""
    if instant_us is None:
        return None
    seconds, micros = divmod(instant_us, MICROS_PER_S)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)
