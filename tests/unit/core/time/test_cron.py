"""What a cron expression means, what is refused and how, against a naive reading of dates."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.time.cron import (
    LAST_YEAR,
    MACROS,
    MAX_EXPRESSION_CHARS,
    next_match,
    parse_cron,
)
from controlplane.core.time.errors import CronError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def minute_of(text: str) -> int:
    return (datetime.fromisoformat(text + "+00:00") - EPOCH) // timedelta(minutes=1)


def matches(expression: str, start: str, count: int) -> list[str]:
    found, minute = [], minute_of(start)
    for _ in range(count):
        match = next_match(parse_cron(expression), minute)
        assert match is not None
        found.append((EPOCH + timedelta(minutes=match)).strftime("%Y-%m-%d %H:%M"))
        minute = match + 1
    return found


def mask(values) -> int:
    return sum(1 << value for value in values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("*", range(60)),
        ("7", [7]),
        ("07", [7]),
        ("1,3,3,2", [1, 2, 3]),
        ("10-13", [10, 11, 12, 13]),
        ("*/20", [0, 20, 40]),
        ("*/100", [0]),
        ("*/99999999999999999999", [0]),
        ("0-59", range(60)),
        ("59-59", [59]),
        ("5-5/3", [5]),
        ("23-40/24", [23]),
        ("0/25", [0, 25, 50]),
        ("59/5", [59]),
        ("50/1", range(50, 60)),
        ("1-9/4,30,*/30", [0, 1, 5, 9, 30]),
    ],
)
def test_a_minute_field(text, values):
    assert parse_cron(f"{text} * * * *").minutes == mask(values)


@pytest.mark.parametrize(
    ("text", "months"),
    [("jan", [1]), ("DEC,feb", [2, 12]), ("Mar-May", [3, 4, 5]), ("jan-12/6", [1, 7])],
)
def test_months_have_names(text, months):
    assert parse_cron(f"0 0 1 {text} *").months == mask(months)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("7", "0"),
        ("SUN", "0"),
        ("mon-fri", "1-5"),
        ("5-7", "5,6,0"),
        ("7-7", "0"),
        ("0-7", "*"),
        ("1-7", "*"),
        ("*/7", "0"),
        ("5/2", "5,0"),
        ("7L", "0L"),
        ("friL", "5l"),
        ("MON#2", "1#2"),
        ("7#1", "0#1"),
    ],
)
def test_weekdays_have_names_and_two_sundays(text, same):
    parsed, wanted = (parse_cron(f"0 0 * * {field}") for field in (text, same))
    assert parsed.days == wanted.days


@pytest.mark.parametrize(("macro", "expression"), MACROS.items())
def test_macros_stand_for_five_fields(macro, expression):
    assert parse_cron(macro) == parse_cron(expression)
    assert parse_cron(f" {macro.upper()} ") == parse_cron(expression)


def test_blanks_and_tabs_separate_fields():
    assert parse_cron("  0\t2  * * \t*  ") == parse_cron("0 2 * * *")


@pytest.mark.parametrize(
    ("expression", "fixed"),
    [
        ("0 2 * * *", True),
        ("0 0-23 * * *", True),
        ("* 2 * * *", False),
        ("*/5 2 * * *", False),
        ("0 */2 * * *", False),
        ("5,*/30 2 * * *", True),
    ],
)
def test_a_job_is_fixed_time_unless_minute_or_hour_begins_with_a_star(expression, fixed):
    assert parse_cron(expression).fixed_time is fixed


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("0 0 13 * 5", "2026-01-01T00:00", ["2026-01-02 00:00", "2026-01-09 00:00"]),
        ("0 0 13 * */5", "2026-01-01T00:00", ["2026-02-13 00:00", "2026-03-13 00:00"]),
        ("0 0 */2 * 5", "2026-01-01T00:00", ["2026-01-09 00:00", "2026-01-23 00:00"]),
        ("0 0 L * *", "2024-01-31T00:01", ["2024-02-29 00:00", "2024-03-31 00:00"]),
        ("0 0 l,15 * *", "2026-04-01T00:00", ["2026-04-15 00:00", "2026-04-30 00:00"]),
        ("0 0 LW * *", "2026-01-01T00:00", ["2026-01-30 00:00", "2026-02-27 00:00"]),
        ("0 0 LW 5 *", "2026-01-01T00:00", ["2026-05-29 00:00", "2027-05-31 00:00"]),
        ("0 0 * * 5L", "2026-01-01T00:00", ["2026-01-30 00:00", "2026-02-27 00:00"]),
        ("0 0 * * 1#5", "2026-01-01T00:00", ["2026-03-30 00:00", "2026-06-29 00:00"]),
        ("0 0 * * 1#1,3", "2026-01-01T00:00", ["2026-01-05 00:00", "2026-01-07 00:00"]),
        ("0 0 L * 1#1", "2026-01-01T00:00", ["2026-01-05 00:00", "2026-01-31 00:00"]),
        ("0 0 29 2 *", "2096-02-29T00:01", ["2104-02-29 00:00", "2108-02-29 00:00"]),
        ("0 0 29 2 */7", "2072-02-29T00:00", ["2088-02-29 00:00", "2128-02-29 00:00"]),
        ("59 23 31 12 *", "2026-12-31T23:59", ["2026-12-31 23:59", "2027-12-31 23:59"]),
        ("10,20 5,7 * * *", "2026-01-01T05:20", ["2026-01-01 05:20", "2026-01-01 07:10"]),
        ("10,20 5,7 * * *", "2026-01-01T05:21", ["2026-01-01 07:10", "2026-01-01 07:20"]),
        ("10,20 5,7 * * *", "2026-01-31T07:21", ["2026-02-01 05:10", "2026-02-01 05:20"]),
    ],
)
def test_the_walk(expression, start, expected):
    assert matches(expression, start, 2) == expected


@pytest.mark.parametrize(
    "expression",
    ["0 0 31 2 *", "0 0 30 2 *", "* * 31 4,6,9,11 *", "1 1 */100 * MON#4", "0 0 30,31 feb */1"],
)
def test_dates_that_never_come(expression):
    cron = parse_cron(expression)
    assert not cron.fires
    assert next_match(cron, minute_of("2026-01-01T00:00")) is None


@pytest.mark.parametrize(
    "expression", ["0 0 29 2 *", "0 0 31 2 1", "0 0 31 2,3 *", "0 0 L 2 *", "0 0 29 2 */7"]
)
def test_dates_that_come(expression):
    assert parse_cron(expression).fires


def test_nothing_matches_after_the_last_year():
    end = minute_of(f"{LAST_YEAR}-12-31T23:59")
    assert next_match(parse_cron("* * * * *"), end) == end
    assert next_match(parse_cron("* * * * *"), end + 1) is None
    assert next_match(parse_cron("0 0 1 1 *"), end) is None


@pytest.mark.parametrize(
    ("expression", "field", "part", "way_out"),
    [
        ("61 * * * *", "minute", "61", "use 0 to 59"),
        ("1-61 * * * *", "minute", "1-61", "use 0 to 59"),
        ("60/5 * * * *", "minute", "60/5", "use 0 to 59"),
        ("* 24 * * *", "hour", "24", "use 0 to 23"),
        ("* 1-9999999999999999999999 * * *", "hour", None, "use 0 to 23"),
        ("* * 0 * *", "day-of-month", "0", "use 1 to 31"),
        ("* * * 13 *", "month", "13", "use 1 to 12"),
        ("* * * XYZ *", "month", "XYZ", "use 1 to 12 or jan to dec"),
        ("* * * * 8", "day-of-week", "8", "use 0 to 7"),
        ("* * * * JAN", "day-of-week", "JAN", "use 0 to 7 or sun to sat"),
        ("MON * * * *", "minute", "MON", "use 0 to 59"),
        ("* 22-2 * * *", "hour", "22-2", "write 22-23,0-2"),
        ("* * * * SAT-SUN", "day-of-week", "SAT-SUN", "runs backwards"),
        ("*/0 * * * *", "minute", "*/0", "use 1 or more"),
        ("*/-1 * * * *", "minute", "*/-1", "not understood"),
        ("1,,2 * * * *", "minute", "", "not understood"),
        ("5, * * * *", "minute", "", "not understood"),
        ("H * * * *", "minute", "H", "not understood"),
        ("R * * * *", "minute", "R", "not understood"),
        ("1_0 * * * *", "minute", "1_0", "not understood"),
        ("¹ * * * *", "minute", "¹", "not understood"),
        ("\u0661 * * * *", "minute", "\u0661", "not understood"),
        ("* * ? * *", "day-of-month", "?", "L (last day) or LW"),
        ("* * L-3 * *", "day-of-month", "L-3", "L (last day) or LW"),
        ("* * 15W * *", "day-of-month", "15W", "L (last day) or LW"),
        ("* * * * ?", "day-of-week", "?", "5L (last Friday)"),
        ("* * * * L", "day-of-week", "L", "5L (last Friday)"),
        ("* * * * 1#6", "day-of-week", "1#6", "up to #5"),
        ("* * * * 9#1", "day-of-week", "9#1", "weekdays are 0 to 7"),
        ("* * * * 8L", "day-of-week", "8L", "weekdays are 0 to 7"),
        ("* * * * xyz#1", "day-of-week", "xyz#1", "use 0 to 7 or sun to sat"),
        ("0 0 * *", "expression", None, "has 4 fields; exactly 5"),
        ("0 0 0 * * *", "expression", None, "has 6 fields; exactly 5"),
        ("0 0 0 * * * 2026", "expression", None, "has 7 fields; exactly 5"),
        ("", "expression", "", "has 0 fields; exactly 5"),
        ("0 0\n* * *", "expression", None, "has 4 fields"),
        ("@reboot", "expression", "@reboot", "use one of @hourly"),
        ("@once", "expression", "@once", "kind 'once'"),
        ("1," * 600 + "1 * * * *", "expression", None, f"the limit is {MAX_EXPRESSION_CHARS}"),
    ],
)
def test_a_refusal_names_the_field_the_part_and_the_way_out(expression, field, part, way_out):
    with pytest.raises(CronError) as refusal:
        parse_cron(expression)
    assert refusal.value.field == field
    assert part is None or refusal.value.part == part
    assert way_out in str(refusal.value)


PLAIN_ITEMS = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day": (1, 31),
    "month": (1, 12),
    "weekday": (0, 7),
}


@st.composite
def plain_field(draw, name):
    """A field's text, and its values by the plainest possible reading."""
    low, high = PLAIN_ITEMS[name]
    texts: list[str] = []
    values: set[int] = set()
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, high + 2))
        text, found = draw(
            st.sampled_from(
                [
                    ("*", range(low, high + 1)),
                    (f"*/{step}", range(low, high + 1, step)),
                    (str(first), [first]),
                    (f"{first}-{last}", range(first, last + 1)),
                    (f"{first}-{last}/{step}", range(first, last + 1, step)),
                    (f"{first}/{step}", range(first, high + 1, step)),
                ]
            )
        )
        texts.append(text)
        values.update(found)
    return ",".join(texts), values


def day_matches(day: date, days, weekdays, both) -> bool:
    by_date = day.day in days
    by_weekday = day.isoweekday() % 7 in {weekday % 7 for weekday in weekdays}
    return (by_date and by_weekday) if both else (by_date or by_weekday)


@settings(deadline=None)
@given(
    minute=plain_field("minute"),
    hour=plain_field("hour"),
    days=plain_field("day"),
    months=plain_field("month"),
    weekdays=plain_field("weekday"),
    start=st.datetimes(datetime(1950, 1, 1), datetime(2150, 1, 1)),  # noqa: DTZ001  # wall time
)
def test_the_walk_agrees_with_a_search_day_by_day(minute, hour, days, months, weekdays, start):
    expression = " ".join(field[0] for field in (minute, hour, days, months, weekdays))
    both = days[0].startswith("*") or weekdays[0].startswith("*")
    start_minute = (start.replace(tzinfo=UTC) - EPOCH) // timedelta(minutes=1)
    found = next_match(parse_cron(expression), start_minute)
    horizon_days = 400
    expected = None
    for offset in range(horizon_days):
        day = start.date() + timedelta(days=offset)
        if day.month in months[1] and day_matches(day, days[1], weekdays[1], both):
            base = (day - EPOCH.date()).days * 1_440
            times = sorted(base + h * 60 + m for h in hour[1] for m in minute[1])
            later = [time for time in times if time >= start_minute]
            if later:
                expected = later[0]
                break
    if expected is not None:
        assert found == expected
    else:
        assert found is None or found >= start_minute + (horizon_days - 1) * 1_440


@settings(deadline=None)
@given(
    year=st.integers(1971, 2400),
    month=st.integers(1, 12),
    weekday=st.integers(0, 6),
    nth=st.integers(1, 5),
)
def test_special_days_of_any_month(year, month, weekday, nth):
    length = monthrange(year, month)[1]
    of_month = [date(year, month, day) for day in range(1, length + 1)]
    same_weekday = [day for day in of_month if day.isoweekday() % 7 == weekday]
    workdays = [day for day in of_month if day.isoweekday() <= 5]
    start = (of_month[0] - EPOCH.date()).days * 1_440
    wanted = {
        f"0 0 L {month} *": of_month[-1],
        f"0 0 LW {month} *": workdays[-1],
        f"0 0 * {month} {weekday}L": same_weekday[-1],
    }
    if nth <= len(same_weekday):
        wanted[f"0 0 * {month} {weekday}#{nth}"] = same_weekday[nth - 1]
    for expression, day in wanted.items():
        assert next_match(parse_cron(expression), start) == (day - EPOCH.date()).days * 1_440
