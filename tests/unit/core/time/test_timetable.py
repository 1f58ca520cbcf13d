"""Instants of timetables, above all around changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.time.cron import next_match, parse_cron
from controlplane.core.time.errors import CronError, TimetableError, ZoneError
from controlplane.core.time.timetable import (
    EARLIEST_INSTANT_US,
    LATEST_INSTANT_US,
    MAX_INTERVAL_MS,
    MICROS_PER_S,
    Cron,
    Interval,
    Once,
    instants,
    next_instant,
    parse_timetable,
    warnings_of,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE = Path(__file__).parents[4] / "docs" / "schedules.md"


def us(text: str) -> int:
    return (datetime.fromisoformat(text).astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def pinned(name: str) -> ZoneInfo:
    with resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def listed(timetable, after: str, count: int, zone: str = "UTC") -> list[str]:
    shown = pinned(zone)
    return [
        (EPOCH + timedelta(microseconds=instant)).astimezone(shown).isoformat()
        for instant in instants(timetable, us(after), count)
    ]


def test_a_fixed_time_in_the_gap_is_due_once_after_it():
    daily = Cron("30 3 * * *", "Europe/Riga")
    assert listed(daily, "2021-03-27T12:00:00+02:00", 2, "Europe/Riga") == [
        "2021-03-28T04:00:00+03:00",
        "2021-03-29T03:30:00+03:00",
    ]


def test_several_fixed_times_in_the_gap_and_right_after_it_are_one_instant():
    several = Cron("0,30 3,4 * * *", "Europe/Riga")
    assert listed(several, "2021-03-28T02:00:00+02:00", 2, "Europe/Riga") == [
        "2021-03-28T04:00:00+03:00",
        "2021-03-28T04:30:00+03:00",
    ]


def test_a_fixed_time_in_the_repeated_hour_is_due_the_first_time_only():
    daily = Cron("30 3 * * *", "Europe/Riga")
    assert listed(daily, "2021-10-31T00:00:00+03:00", 2, "Europe/Riga") == [
        "2021-10-31T03:30:00+03:00",
        "2021-11-01T03:30:00+02:00",
    ]


def test_asked_within_the_second_pass_a_fixed_time_is_not_due_again():
    daily = Cron("30 3 * * *", "Europe/Riga")
    assert listed(daily, "2021-10-31T03:10:00+02:00", 1, "Europe/Riga") == [
        "2021-11-01T03:30:00+02:00"
    ]


def test_a_wildcard_follows_real_time_over_a_shift_of_half_an_hour():
    six_hourly = Cron("0 */6 * * *", "Australia/Lord_Howe")
    assert listed(six_hourly, "2025-04-05T18:00:00+11:00", 3, "Australia/Lord_Howe") == [
        "2025-04-06T00:00:00+11:00",
        "2025-04-06T06:00:00+10:30",
        "2025-04-06T12:00:00+10:30",
    ]


def test_a_wildcard_is_not_due_in_the_gap_and_twice_in_the_repeated_hour():
    half_hourly = Cron("*/30 3 * * *", "Europe/Riga")
    assert listed(half_hourly, "2021-03-27T03:30:00+02:00", 1, "Europe/Riga") == [
        "2021-03-29T03:00:00+03:00"
    ]
    assert listed(half_hourly, "2021-10-31T00:00:00+03:00", 4, "Europe/Riga") == [
        "2021-10-31T03:00:00+03:00",
        "2021-10-31T03:30:00+03:00",
        "2021-10-31T03:00:00+02:00",
        "2021-10-31T03:30:00+02:00",
    ]


@pytest.mark.parametrize("expression", ["0 12 * * *", "0 */12 * * *"])
def test_instants_are_strictly_later_to_the_microsecond(expression):
    noon = us("2026-05-01T12:00:00+00:00")
    assert next_instant(Cron(expression), noon - 1) == noon
    later = next_instant(Cron(expression), noon)
    assert later is not None
    assert later > noon
    assert next_instant(Cron(expression), noon + 1) == later


@pytest.mark.parametrize(
    ("expression", "zone"), [("0 0 31 2 *", "UTC"), ("* * 30 2 *", "Africa/Cairo")]
)
def test_a_date_that_never_comes_is_accepted_with_a_warning(expression, zone):
    timetable = Cron(expression, zone)
    assert next_instant(timetable, 0) is None
    assert list(instants(timetable, 0, 5)) == []
    (warning,) = warnings_of(timetable)
    assert expression in warning
    assert "never fires" in warning


@pytest.mark.parametrize("timetable", [Cron("0 0 * * *"), Interval(1_000), Once(5)])
def test_other_timetables_have_no_warnings(timetable):
    assert warnings_of(timetable) == ()


@pytest.mark.parametrize("expression", ["0 2 * * *", "* * * * *"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_the_ends_of_time_are_safe(expression, zone):
    timetable = Cron(expression, zone)
    assert next_instant(timetable, LATEST_INSTANT_US) is None
    near_the_end = next_instant(timetable, LATEST_INSTANT_US - 1)
    assert near_the_end is not None
    first = next_instant(timetable, -(10**20))
    assert first is not None
    assert 0 < first - EARLIEST_INSTANT_US <= 86_400 * MICROS_PER_S
    last_ones = list(instants(timetable, LATEST_INSTANT_US - 3 * 86_400 * MICROS_PER_S, 10))
    assert last_ones == sorted(set(last_ones))


def test_an_interval_counts_from_its_anchor():
    timetable = Interval(90_000, us("2026-01-01T00:00:30+00:00"))
    assert listed(timetable, "2025-01-01T00:00:00+00:00", 3) == [
        "2026-01-01T00:00:30+00:00",
        "2026-01-01T00:02:00+00:00",
        "2026-01-01T00:03:30+00:00",
    ]
    assert next_instant(timetable, LATEST_INSTANT_US) is None


@settings(deadline=None)
@given(every_ms=st.integers(1_000, 10**9), anchor=st.integers(0, 10**16), ahead=st.integers(0))
def test_an_interval_is_the_next_multiple(every_ms, anchor, ahead):
    after = min(anchor + ahead, LATEST_INSTANT_US - 1)
    following = next_instant(Interval(every_ms, anchor), after)
    assert following is not None
    assert (following - anchor) % (every_ms * 1_000) == 0
    assert 0 < following - after <= every_ms * 1_000


def test_once_is_due_once():
    assert list(instants(Once(1_000), 0, 5)) == [1_000]
    assert next_instant(Once(1_000), 999) == 1_000
    assert next_instant(Once(1_000), 1_000) is None


def test_instants_stop_at_the_count():
    assert len(list(instants(Interval(1_000), 0, 4))) == 4
    assert list(instants(Interval(1_000), 0, 0)) == []


@pytest.mark.parametrize(
    ("inputs", "timetable"),
    [
        ({"kind": "cron", "expression": "0 2 * * *"}, Cron("0 2 * * *", "UTC")),
        (
            {"kind": "cron", "expression": "@daily", "zone": "Asia/Tokyo"},
            Cron("@daily", "Asia/Tokyo"),
        ),
        ({"kind": "cron", "expression": " @ONCE ", "start_us": 7}, Once(7)),
        ({"kind": "interval", "every_ms": 5_000, "start_us": 3}, Interval(5_000, 3)),
        ({"kind": "once", "start_us": 9}, Once(9)),
    ],
)
def test_a_timetable_from_its_parts(inputs, timetable):
    assert parse_timetable(**inputs) == timetable


@pytest.mark.parametrize(
    ("inputs", "error", "field", "message"),
    [
        ({"kind": "cron", "expression": "61 * * * *"}, CronError, "minute", "0 to 59"),
        (
            {"kind": "cron", "expression": "@daily", "zone": "Europe/Rigaa"},
            ZoneError,
            "zone",
            "Europe/Riga",
        ),
        ({"kind": "cron", "expression": "@once", "zone": "X"}, ZoneError, "zone", "tz database"),
        ({"kind": "interval", "every_ms": 999}, TimetableError, "every_ms", "at least 1000"),
        (
            {"kind": "interval", "every_ms": MAX_INTERVAL_MS + 1},
            TimetableError,
            "every_ms",
            "10 years",
        ),
        (
            {"kind": "interval", "every_ms": 1_000, "start_us": 10**30},
            TimetableError,
            "anchor_us",
            "out of range",
        ),
        ({"kind": "once", "start_us": -(10**30)}, TimetableError, "instant_us", "out of range"),
        ({"kind": "weekly"}, TimetableError, "kind", "use cron, interval or once"),
    ],
)
def test_bad_inputs_are_refused_by_field(inputs, error, field, message):
    with pytest.raises(error, match=message) as refusal:
        parse_timetable(**inputs)
    assert refusal.value.field == field


def matching_minutes(expression: str, low: int, high: int) -> set[int]:
    cron, found = parse_cron(expression), set()
    minute = next_match(cron, low)
    while minute is not None and minute <= high:
        found.add(minute)
        minute = next_match(cron, minute + 1)
    return found


def by_watching_the_clock(expression: str, zone: str, after: int, end: int) -> list[int]:
    """What a person sees who looks at the zone's clock every minute."""
    shown_zone = pinned(zone)
    matching = matching_minutes(expression, after // 60 - 3_000, end // 60 + 3_000)
    fixed = parse_cron(expression).fixed_time
    highest, due = None, []
    for t in range(after - 2 * 86_400, end, 60):
        offset = shown_zone.utcoffset(datetime.fromtimestamp(t, shown_zone))
        assert offset is not None
        shown = (t + int(offset.total_seconds())) // 60
        if fixed:
            since = shown if highest is None else highest + 1
            hit = any(minute in matching for minute in range(since, shown + 1))
            highest = shown if highest is None else max(highest, shown)
        else:
            hit = shown in matching
        if hit and t > after:
            due.append(t)
    return due


CHANGES = st.sampled_from(
    [
        ("Europe/Riga", "2021-03-28T01:00:00+00:00"),
        ("Europe/Riga", "2021-10-31T01:00:00+00:00"),
        ("Australia/Lord_Howe", "2025-04-05T15:00:00+00:00"),
        ("Australia/Lord_Howe", "2025-10-04T15:30:00+00:00"),
        ("America/Santiago", "2025-09-07T04:00:00+00:00"),
        ("America/Santiago", "2025-04-06T03:00:00+00:00"),
        ("America/St_Johns", "2006-10-29T02:31:00+00:00"),
        ("America/St_Johns", "2006-04-02T03:31:00+00:00"),
        ("Pacific/Apia", "2011-12-30T10:00:00+00:00"),
    ]
)
MINUTES = st.sampled_from(["0", "30", "1", "0,15,45", "59", "*/20", "*", "7-55/12"])
HOURS = st.sampled_from(["0", "2", "3", "1-4", "23", "0,23", "*", "*/3", "0-23/2", "2,*/6"])


@settings(max_examples=60, deadline=None)
@given(change=CHANGES, minute=MINUTES, hour=HOURS, ahead_minutes=st.integers(-400, 200))
def test_instants_around_a_change_are_those_that_the_clock_shows(
    change, minute, hour, ahead_minutes
):
    zone, instant = change
    after = us(instant) // MICROS_PER_S + ahead_minutes * 60
    expression = f"{minute} {hour} * * *"
    expected = by_watching_the_clock(expression, zone, after, after + 86_400)
    found = list(instants(Cron(expression, zone), after * MICROS_PER_S, len(expected)))
    assert found == [t * MICROS_PER_S for t in expected]


def page_examples() -> list[list[str]]:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if len(row) == 4]


@pytest.mark.parametrize("example", page_examples())
def test_the_examples_of_the_page_on_schedules_hold(example):
    expression, zone, after, following = example
    assert listed(Cron(expression, zone), after, 1, zone) == [following]
