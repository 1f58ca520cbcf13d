"""Counts what happens in a process and how long it takes.

A time falls into one of 16 buckets per power of two (the scheme of HdrHistogram): a quantile is at
most 1/16 too high, a sample costs a fraction of a microsecond, and memory is bounded. For one
thread. Does not know what the names mean.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

_SUB_BITS = 4
_SUBS = 1 << _SUB_BITS
_LARGEST_US = (1 << 40) - 1
_BUCKETS = (40 - _SUB_BITS + 1) * _SUBS


@dataclass(frozen=True, slots=True)
class TimeSummary:
    """A distribution of times in microseconds; all zero when there is no sample."""

    count: int
    p50_us: int
    p95_us: int
    p99_us: int
    max_us: int
    sum_us: int


class TimeHistogram:
    """The distribution of a time."""

    __slots__ = ("_counts", "count", "max_us", "sum_us")

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * _BUCKETS))
        self.count = 0
        self.max_us = 0
        self.sum_us = 0

    def record(self, time_us: int) -> None:
        """Adds a sample; a clock that went back counts as zero."""
        value = min(max(time_us, 0), _LARGEST_US)
        shift = max(value.bit_length() - _SUB_BITS - 1, 0)
        self._counts[(shift << _SUB_BITS) + (value >> shift)] += 1
        self.count += 1
        self.sum_us += value
        self.max_us = max(self.max_us, value)

    def quantile_us(self, share: float) -> int:
        """What `share` of the samples are not above, rounded up to a bucket; 0 without samples."""
        left = max(1, round(share * self.count)) if self.count else 0
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0 and count:
                return min(_end_of(bucket), self.max_us)
        return 0

    def summary(self) -> TimeSummary:
        p50, p95, p99 = (self.quantile_us(share) for share in (0.5, 0.95, 0.99))
        return TimeSummary(self.count, p50, p95, p99, self.max_us, self.sum_us)


def _end_of(bucket: int) -> int:
    """The largest value of a bucket: above the first 32 values, 16 to 31 times a power of two."""
    shift = max((bucket >> _SUB_BITS) - 1, 0)
    return ((bucket - (shift << _SUB_BITS) + 1) << shift) - 1


class Stats:
    """Counters and times of a process by name; a name ends in its unit."""

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._times: dict[str, TimeHistogram] = {}

    def count(self, name: str, amount: int = 1) -> None:
        """Adds to a counter."""
        self._counters[name] = self._counters.get(name, 0) + amount

    def time(self, name: str, time_us: int) -> None:
        """Adds a sample of a time."""
        self.histogram(name).record(time_us)

    def histogram(self, name: str) -> TimeHistogram:
        """The distribution of a time, for callers that keep it; `reset` makes it stale."""
        found = self._times.get(name)
        if found is None:
            found = self._times[name] = TimeHistogram()
        return found

    def counters(self) -> dict[str, int]:
        return dict(self._counters)

    def times(self) -> dict[str, TimeSummary]:
        return {name: histogram.summary() for name, histogram in self._times.items()}

    def reset(self) -> None:
        """Starts all counters and times anew."""
        self._counters.clear()
        self._times.clear()
