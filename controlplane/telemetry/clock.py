"""Reads the clocks and draws the random ids of a process; the only place that both come from.

Everything below the shell takes a `Clock` and an `EntropySource` as arguments, so that a test can
pass virtual time and ids from a seed.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

from controlplane.core.time.deadlines import Now
from controlplane.core.types import uuid7

_ATTEMPT_ID_BYTES = 16
_HOLDER_BYTES = 16


class Clock(Protocol):
    """Both clocks of a process in one reading."""

    def now(self) -> Now: ...


class Ticker(Protocol):
    """A clock for measurements."""

    def ticks_us(self) -> int:
        """Microseconds of a monotonic clock of unknown origin."""
        ...


class Entropy(Protocol):
    """Where random ids come from."""

    def attempt_ids(self, count: int) -> list[bytes]:
        """New ids of attempts, 16 bytes each."""
        ...

    def holder(self) -> bytes:
        """A new id of a takeover, 16 bytes."""
        ...

    def run_id(self, wall_us: int) -> bytes:
        """A new id of a run, a UUID of version 7: 16 bytes."""
        ...


class SystemClock:
    """The clocks of the machine. The monotonic one goes on while the machine is suspended: what a
    fence allowed before that must be over afterwards.
    """

    def now(self) -> Now:
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Now(time.time_ns() // 1_000, boot_ns // 1_000_000)

    def ticks_us(self) -> int:
        return time.perf_counter_ns() // 1_000


class EntropySource:
    """The random numbers of the machine."""

    def attempt_ids(self, count: int) -> list[bytes]:
        pool = os.urandom(_ATTEMPT_ID_BYTES * count)
        return [pool[at : at + _ATTEMPT_ID_BYTES] for at in range(0, len(pool), _ATTEMPT_ID_BYTES)]

    def holder(self) -> bytes:
        return os.urandom(_HOLDER_BYTES)

    def run_id(self, wall_us: int) -> bytes:
        return uuid7(wall_us, os.urandom(16))
