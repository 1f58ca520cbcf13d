"""Converts between wall instants and monotonic deadlines.

Decides only the rounding: up, so that a deadline is early by no more than the shell rounded
`mono_ms` down. Both clocks are read together by the shell, once per turn, and handed to the
core as one `Now`; every decision of the turn uses that value. Does not know how the clocks
drift: a deadline made long ago should be made again from its instant when the wall clock is
corrected.
"""

from __future__ import annotations

from dataclasses import dataclass

MICROS_PER_MS = 1_000


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks.

    `wall_us`: microseconds since the epoch, UTC. `mono_ms`: milliseconds of the process's
    monotonic clock, of unknown origin and never going back.
    """

    wall_us: int
    mono_ms: int


def to_monotonic(instant_us: int, now: Now) -> int:
    """The first millisecond of the monotonic clock at which `instant_us` has come."""
    return now.mono_ms - (now.wall_us - instant_us) // MICROS_PER_MS


def to_instant(deadline_ms: int, now: Now) -> int:
    """The wall instant, in microseconds, that the monotonic `deadline_ms` stands for."""
    return now.wall_us + (deadline_ms - now.mono_ms) * MICROS_PER_MS
