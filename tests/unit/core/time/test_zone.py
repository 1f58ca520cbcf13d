"""Spans of constant offset, first occurrences, and names that are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.metadata import version
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.time.errors import ZoneError
from controlplane.core.time.zone import (
    TZDATA_VERSION,
    check_zone,
    first_reach,
    span_at,
    zone_names,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = st.sampled_from(
    ["UTC", "Europe/Riga", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]
)
SECONDS = st.integers(-2_000_000_000, 6_000_000_000)


def pinned(name: str) -> ZoneInfo:
    with resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def seconds(text: str) -> int:
    return (datetime.fromisoformat(text + "+00:00") - EPOCH) // timedelta(seconds=1)


def test_the_version_of_the_time_zones_is_that_of_the_distribution():
    assert version("tzdata") == TZDATA_VERSION


@settings(deadline=None)
@given(zone=ZONES, t=SECONDS)
def test_a_span_shows_the_offset_that_the_zone_has(zone, t):
    span = span_at(zone, t)
    assert span.start_s <= t < span.end_s
    for probe in (t, span.start_s, span.end_s - 1):
        shown = datetime.fromtimestamp(probe, pinned(zone))
        assert shown.utcoffset() == timedelta(seconds=span.offset_s)
    before = datetime.fromtimestamp(span.start_s - 1, pinned(zone))
    assert before.utcoffset() == timedelta(seconds=span.offset_before_s)


@pytest.mark.parametrize(
    ("zone", "change", "before_s", "after_s"),
    [
        ("Europe/Riga", "2021-03-28T01:00:00", 7_200, 10_800),
        ("Europe/Riga", "2021-10-31T01:00:00", 10_800, 7_200),
        ("Australia/Lord_Howe", "2025-04-05T15:00:00", 39_600, 37_800),
        ("Pacific/Apia", "2011-12-30T10:00:00", -36_000, 50_400),
        ("Africa/Casablanca", "2025-02-23T02:00:00", 3_600, 0),
    ],
)
def test_a_change_is_found_to_the_second(zone, change, before_s, after_s):
    span = span_at(zone, seconds(change))
    assert span.start_s == seconds(change)
    assert (span.offset_before_s, span.offset_s) == (before_s, after_s)
    assert span_at(zone, seconds(change) - 1).end_s == seconds(change)


def test_spans_follow_each_other_without_holes():
    t, spans = seconds("1990-01-01T00:00:00"), []
    while t < seconds("2040-01-01T00:00:00"):
        spans.append(span_at("Europe/Riga", t))
        t = spans[-1].end_s
    for earlier, later in pairwise(spans):
        assert later.start_s == earlier.end_s
        assert later.offset_before_s == earlier.offset_s


@pytest.mark.parametrize(
    ("wall", "utc"),
    [
        ("2021-03-28T02:59:59", "2021-03-28T00:59:59"),
        ("2021-03-28T03:00:00", "2021-03-28T01:00:00"),
        ("2021-03-28T03:30:00", "2021-03-28T01:00:00"),
        ("2021-03-28T04:00:00", "2021-03-28T01:00:00"),
        ("2021-03-28T04:00:01", "2021-03-28T01:00:01"),
        ("2021-10-31T03:30:00", "2021-10-31T00:30:00"),
        ("2021-10-31T04:00:00", "2021-10-31T02:00:00"),
    ],
)
def test_first_reach_takes_the_end_of_a_gap_and_the_first_of_two(wall, utc):
    assert first_reach("Europe/Riga", seconds(wall)) == seconds(utc)


def test_a_day_that_a_zone_left_out_is_reached_when_the_next_begins():
    noon = seconds("2011-12-30T12:00:00")
    assert first_reach("Pacific/Apia", noon) == seconds("2011-12-30T10:00:00")


def test_known_names_pass():
    for name in ("UTC", "Europe/Berlin", "US/Eastern", "America/Argentina/Ushuaia"):
        check_zone(name)
    assert len(zone_names()) > 400


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("utc", "UTC"),
        ("America/NewYork", "America/New_York"),
    ],
)
def test_an_unknown_name_is_refused_with_close_ones(name, match):
    with pytest.raises(ZoneError, match="did you mean") as refusal:
        check_zone(name)
    assert match in refusal.value.matches
    assert refusal.value.field == "zone"


@pytest.mark.parametrize("name", ["", "+03:00", "../../etc/passwd", "x" * 10**6, "a\x00b"])
def test_a_name_like_no_other_gets_an_example(name):
    with pytest.raises(ZoneError, match="use a name like Europe/Berlin") as refusal:
        check_zone(name)
    assert refusal.value.matches == ()
    assert len(str(refusal.value)) < 300
