"""Decides at which instants a schedule is due.

A timetable is a value; its next instant is a function of the previous one, never of the
present. Instants are microseconds since the epoch, UTC.

Cron timetables meet daylight saving as Debian's cron does. A fixed-time job (neither minute
nor hour begins with `*`) is due at the first instant at which the wall clock shows its time
or later: inside a gap that is the first instant after it, in a repeated hour the first
occurrence. Every other job follows real time: each minute that the wall clock really shows,
as often as it shows it. An interval counts elapsed time and knows no wall clock.

Does not know jitter, catch-up, overlap, or when a schedule starts and ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from controlplane.core.time.cron import (
    LAST_YEAR,
    ONCE,
    CronExpression,
    next_match,
    parse_cron,
)
from controlplane.core.time.errors import TimetableError
from controlplane.core.time.zone import check_zone, first_reach, span_at

MICROS_PER_S = 1_000_000
MIN_INTERVAL_MS = 1_000
MAX_INTERVAL_MS = 10 * 366 * 86_400_000
EARLIEST_INSTANT_US: Final = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp()) * MICROS_PER_S
LATEST_INSTANT_US: Final = int(datetime(LAST_YEAR, 12, 1, tzinfo=UTC).timestamp()) * MICROS_PER_S


@dataclass(frozen=True, slots=True)
class Cron:
    """Recurs by a cron expression on the wall clock of an IANA zone."""

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        parse_cron(self.expression)
        check_zone(self.zone)


@dataclass(frozen=True, slots=True)
class Interval:
    """Recurs every `every_ms` of elapsed time; the first instant is `anchor_us` itself."""

    every_ms: int
    anchor_us: int = 0

    def __post_init__(self) -> None:
        if not MIN_INTERVAL_MS <= self.every_ms <= MAX_INTERVAL_MS:
            message = (
                f"every_ms: {self.every_ms} is out of range; an interval is at least "
                f"{MIN_INTERVAL_MS} (1 s) and at most {MAX_INTERVAL_MS} (10 years)"
            )
            raise TimetableError("every_ms", message)
        _check_instant("anchor_us", self.anchor_us)


@dataclass(frozen=True, slots=True)
class Once:
    """Is due at one instant."""

    instant_us: int

    def __post_init__(self) -> None:
        _check_instant("instant_us", self.instant_us)


Timetable = Cron | Interval | Once


def _check_instant(field: str, instant_us: int) -> None:
    if not EARLIEST_INSTANT_US <= instant_us <= LATEST_INSTANT_US:
        message = (
            f"{field}: {instant_us} is out of range; instants are microseconds since the "
            f"epoch, between the years 1900 and {LAST_YEAR}"
        )
        raise TimetableError(field, message)


def parse_timetable(
    kind: str,
    *,
    expression: str = "",
    zone: str = "UTC",
    every_ms: int = 0,
    start_us: int = 0,
) -> Timetable:
    """The timetable of `kind` `cron`, `interval` or `once`; raises `TimetableError`.

    `start_us` is the anchor of an interval, the instant of `once`, and the instant at which
    the cron macro `@once` is due: the schedule's start, else the time of its apply.
    """
    if kind == "cron" and expression.strip().lower() == ONCE:
        check_zone(zone)
        return Once(start_us)
    if kind == "cron":
        return Cron(expression, zone)
    if kind == "interval":
        return Interval(every_ms, start_us)
    if kind == "once":
        return Once(start_us)
    raise TimetableError("kind", f"kind: {kind!r} is unknown; use cron, interval or once")


def warnings_of(timetable: Timetable) -> tuple[str, ...]:
    """What a person should hear about an accepted timetable."""
    if isinstance(timetable, Cron) and not parse_cron(timetable.expression).fires:
        never = f"cron expression {timetable.expression!r} names no date that exists; "
        return (never + "it never fires (pause the schedule if that is meant)",)
    return ()


def next_instant(timetable: Timetable, after: int) -> int | None:
    """The first instant later than `after`, or None when there is none before `LAST_YEAR` ends."""
    if isinstance(timetable, Once):
        return timetable.instant_us if timetable.instant_us > after else None
    if after >= LATEST_INSTANT_US:
        return None
    if isinstance(timetable, Interval):
        return _next_interval(timetable, after)
    cron = parse_cron(timetable.expression)
    follow = _next_fixed if cron.fixed_time else _next_wildcard
    # Instants lie on whole seconds: "later than" is decided on the second that has begun.
    found = follow(cron, timetable.zone, max(after, EARLIEST_INSTANT_US) // MICROS_PER_S)
    return None if found is None else found * MICROS_PER_S


def instants(timetable: Timetable, after: int, count: int) -> Iterator[int]:
    """Up to `count` instants later than `after`, in order."""
    for _ in range(count):
        following = next_instant(timetable, after)
        if following is None:
            return
        yield following
        after = following


def _next_interval(interval: Interval, after: int) -> int:
    if after < interval.anchor_us:
        return interval.anchor_us
    every_us = interval.every_ms * 1_000
    return after + every_us - (after - interval.anchor_us) % every_us


def _next_fixed(cron: CronExpression, zone: str, after_s: int) -> int | None:
    span = span_at(zone, after_s)
    # What the clock has shown so far: in a repeated hour more than it shows now.
    shown = max(after_s + span.offset_s, span.start_s + span.offset_before_s - 1)
    minute = next_match(cron, shown // 60 + 1)
    if minute is None:
        return None
    wall = minute * 60
    if wall - span.offset_s < span.end_s:
        return wall - span.offset_s
    return first_reach(zone, wall)


def _next_wildcard(cron: CronExpression, zone: str, after_s: int) -> int | None:
    t = after_s + 1
    while True:
        span = span_at(zone, t)
        minute = next_match(cron, -(-(t + span.offset_s) // 60))
        if minute is None:
            return None
        if minute * 60 - span.offset_s < span.end_s:
            return minute * 60 - span.offset_s
        t = span.end_s
