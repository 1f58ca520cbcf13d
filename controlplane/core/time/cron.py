"""Decides which minutes of a wall calendar a cron expression names.

Five fields with Debian's rules: day-of-month and day-of-week are alternatives only when
neither begins with `*`; a job is fixed-time when neither minute nor hour begins with `*`.
Beyond Debian: `N/step` (from N to the end of the field), `L` and `LW` (last day, last working
day of the month), `nL` (last weekday n) and `n#k` (k-th weekday n), names and macros.

croniter judges and expands single plain items, and nothing else: it reads `5-5/3` as `*/3`,
lets ranges run backwards and draws `R` at random, so the grammar in front of it is strict.
Everything found is kept as bit masks, and days as one mask for each shape of a month (its
length and first weekday): the walk to the next match is a few bit operations a month, never
a step per minute. Does not know zones, instants or daylight saving.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from croniter import CroniterError, croniter

from controlplane.core.time.errors import CronError

MAX_EXPRESSION_CHARS = 1_000
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
ONCE = "@once"
LAST_YEAR = 9_990

_MINUTES_PER_DAY = 1_440
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# The longest wait for a date that exists: 29 February on a given weekday, across 2100.
_LOOK_AHEAD_YEARS = 41
_PLAIN = re.compile(r"(\*|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/([0-9]+))?", re.ASCII)
_NTH = re.compile(r"([0-9]+|[a-z]{3})#([1-5])", re.ASCII)
_LAST = re.compile(r"([0-9]+|[a-z]{3})l", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    position: int
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0


_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_MINUTE = _Field("minute", 0, 0, 59)
_HOUR = _Field("hour", 1, 0, 23)
_DAY_OF_MONTH = _Field("day-of-month", 2, 1, 31)
_MONTH = _Field("month", 3, 1, 12, _MONTH_NAMES, 1)
_DAY_OF_WEEK = _Field("day-of-week", 4, 0, 7, _DAY_NAMES)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A parsed expression: bit masks of minutes, hours, months, and days per shape of month."""

    minutes: int
    hours: int
    months: int
    days: tuple[int, ...]
    fixed_time: bool

    @property
    def fires(self) -> bool:
        """Whether any date that exists is named at all."""
        return any(
            self.days[_shape(length, first_weekday)]
            for month in _bits(self.months)
            for length in _lengths(month)
            for first_weekday in range(7)
        )


@dataclass(frozen=True, slots=True)
class _DayRule:
    """Which days of a month match; masks have bit d for day d, weekdays count from Sunday."""

    month_days: int
    last_day: bool
    last_workday: bool
    weekdays: int
    nth_weekdays: tuple[tuple[int, int], ...]
    last_weekdays: tuple[int, ...]
    both: bool

    def mask(self, length: int, first_weekday: int) -> int:
        by_date = self._by_date(length, first_weekday)
        by_weekday = self._by_weekday(length, first_weekday)
        matching = by_date & by_weekday if self.both else by_date | by_weekday
        return matching & ((2 << length) - 2)

    def _by_date(self, length: int, first_weekday: int) -> int:
        days = self.month_days
        if self.last_day:
            days |= 1 << length
        if self.last_workday:
            weekday = (first_weekday + length - 1) % 7
            days |= 1 << (length - {0: 2, 6: 1}.get(weekday, 0))
        return days

    def _by_weekday(self, length: int, first_weekday: int) -> int:
        days = 0
        for weekday in _bits(self.weekdays):
            first = 1 + (weekday - first_weekday) % 7
            days |= sum(1 << day for day in range(first, length + 1, 7))
        for weekday, nth in self.nth_weekdays:
            days |= 1 << (1 + (weekday - first_weekday) % 7 + 7 * (nth - 1))
        for weekday in self.last_weekdays:
            last_weekday = (first_weekday + length - 1) % 7
            days |= 1 << (length - (last_weekday - weekday) % 7)
        return days


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _lengths(month: int) -> tuple[int, ...]:
    if month == 2:
        return (28, 29)
    return (30,) if month in {4, 6, 9, 11} else (31,)


def _shape(length: int, first_weekday: int) -> int:
    return (length - 28) * 7 + first_weekday


@lru_cache(maxsize=16_384)
def parse_cron(expression: str) -> CronExpression:
    """The meaning of `expression`; raises `CronError` that names the field and the bad part.

    A date that never comes (30 February) is no error: see `CronExpression.fires`.
    """
    texts = _five_fields(expression)
    minutes, hours, months = (
        _plain_mask(field, texts[field.position]) for field in (_MINUTE, _HOUR, _MONTH)
    )
    rule = _day_rule(texts[_DAY_OF_MONTH.position], texts[_DAY_OF_WEEK.position])
    days = tuple(rule.mask(28 + shape // 7, shape % 7) for shape in range(28))
    fixed_time = not texts[0].startswith("*") and not texts[1].startswith("*")
    return CronExpression(minutes, hours, months, days, fixed_time)


def _five_fields(expression: str) -> list[str]:
    if len(expression) > MAX_EXPRESSION_CHARS:
        message = (
            f"cron expression of {len(expression)} characters; the limit is {MAX_EXPRESSION_CHARS}"
        )
        raise CronError("expression", expression[:40], message)
    text = expression.strip()
    if text.startswith("@"):
        text = _macro(expression, text.lower())
    # Newlines and other controls are no separators: they betray a pasted crontab.
    texts = [part for part in re.split(r"[ \t]+", text) if part]
    if len(texts) != len(_FIELDS):
        message = (
            f"cron expression {expression!r} has {len(texts)} fields; exactly 5 are needed: "
            "minute hour day-of-month month day-of-week"
            + (" (seconds and years are not supported)" if len(texts) > len(_FIELDS) else "")
        )
        raise CronError("expression", expression, message)
    return texts


def _macro(expression: str, text: str) -> str:
    if text == ONCE:
        message = f"{ONCE} names no recurring time; it stands for a timetable of kind 'once'"
        raise CronError("expression", expression, message)
    if text not in MACROS:
        message = f"cron macro {expression!r} is unknown; use one of {', '.join(MACROS)}, {ONCE}"
        raise CronError("expression", expression, message)
    return MACROS[text]


def _refuse(field: _Field, part: str, why: str) -> CronError:
    return CronError(field.name, part, f"cron {field.name}: {part!r} {why}")


def _plain_mask(field: _Field, text: str) -> int:
    mask = 0
    for item in text.split(","):
        mask |= _item_mask(field, item)
    return mask


@lru_cache(maxsize=16_384)
def _item_mask(field: _Field, item: str) -> int:
    low, high, step = _item_range(field, item)
    plain = str(low) if low == high else f"{low}-{high}/{step}"
    texts = ["*"] * len(_FIELDS)
    texts[field.position] = plain
    try:
        expanded = croniter.expand(" ".join(texts))[0][field.position]
    except CroniterError:
        why = f"is out of range; use {field.low} to {field.high}"
        raise _refuse(field, item, why) from None
    if low == high:
        return _mask_of(field, low, low)
    if expanded == ["*"]:
        return _mask_of(field, field.low, field.high)
    return sum(1 << int(value) for value in expanded)


def _mask_of(field: _Field, low: int, high: int) -> int:
    """The mask of `low` to `high`; the seventh weekday is the Sunday of bit 0."""
    mask = (2 << high) - (1 << low)
    return (mask | mask >> 7) & 0x7F if field is _DAY_OF_WEEK else mask


def _item_range(field: _Field, item: str) -> tuple[int, int, int]:
    found = _PLAIN.fullmatch(item.lower())
    if found is None:
        raise _refuse(field, item, _way_out(field))
    term, first, last, step_text = found.groups()
    step = 1 if step_text is None else _step(field, item, step_text)
    if term == "*":
        return field.low, field.high, step
    low = _number(field, item, first)
    if last is None:
        return low, low if step_text is None else max(low, field.high), step
    high = _number(field, item, last)
    if high < low <= field.high:
        why = f"runs backwards; write {low}-{field.high},{field.low}-{high}"
        raise _refuse(field, item, why)
    return low, high, step


def _way_out(field: _Field) -> str:
    forms = "use *, a number, a-b, a list with commas, or one of these with /step"
    if field is _DAY_OF_MONTH:
        forms += ", L (last day) or LW (last working day)"
    if field is _DAY_OF_WEEK:
        forms += ", 5L (last Friday) or 1#2 (second Monday, up to #5)"
    return f"is not understood; {forms}"


def _step(field: _Field, item: str, text: str) -> int:
    step = int(text)
    if step == 0:
        raise _refuse(field, item, "has step 0; use 1 or more")
    # A step beyond the field leaves its first value only; the cap keeps numbers small.
    return min(step, field.high + 1)


def _number(field: _Field, item: str, text: str) -> int:
    if text.isdigit():
        return int(text)
    if text not in field.names:
        names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
        why = f"names no {field.name}; use {field.low} to {field.high}{names}"
        raise _refuse(field, item, why)
    return field.first_name + field.names.index(text)


def _day_rule(month_days: str, weekdays: str) -> _DayRule:
    dates = month_days.split(",")
    plain_dates = [item for item in dates if item.upper() not in {"L", "LW"}]
    special_dates = {item.upper() for item in dates}
    plain_weekdays: list[str] = []
    nth: list[tuple[int, int]] = []
    last: list[int] = []
    for item in weekdays.split(","):
        if found := _NTH.fullmatch(item.lower()):
            nth.append((_weekday(item, found[1]), int(found[2])))
        elif found := _LAST.fullmatch(item.lower()):
            last.append(_weekday(item, found[1]))
        else:
            plain_weekdays.append(item)
    return _DayRule(
        month_days=_plain_mask(_DAY_OF_MONTH, ",".join(plain_dates)) if plain_dates else 0,
        last_day="L" in special_dates,
        last_workday="LW" in special_dates,
        weekdays=_plain_mask(_DAY_OF_WEEK, ",".join(plain_weekdays)) if plain_weekdays else 0,
        nth_weekdays=tuple(nth),
        last_weekdays=tuple(last),
        both=month_days.startswith("*") or weekdays.startswith("*"),
    )


def _weekday(item: str, text: str) -> int:
    """The weekday of `1#2` or `5L`, from Sunday = 0."""
    number = _number(_DAY_OF_WEEK, item, text)
    if number > _DAY_OF_WEEK.high:
        raise _refuse(_DAY_OF_WEEK, item, "is out of range; weekdays are 0 to 7")
    return number % 7


def next_match(cron: CronExpression, minute: int) -> int | None:
    """The first matching wall minute at or after `minute` (minutes since the epoch as shown)."""
    day, minute_of_day = divmod(minute, _MINUTES_PER_DAY)
    start = _next_day(cron, day)
    if start == day:
        found = _next_minute(cron, minute_of_day)
        if found is not None:
            return day * _MINUTES_PER_DAY + found
        start = _next_day(cron, day + 1)
    if start is None:
        return None
    hour = next(_bits(cron.hours))
    return start * _MINUTES_PER_DAY + hour * 60 + next(_bits(cron.minutes))


def _next_minute(cron: CronExpression, minute_of_day: int) -> int | None:
    hour, minute = divmod(minute_of_day, 60)
    if cron.hours >> hour & 1:
        later = cron.minutes >> minute << minute
        if later:
            return hour * 60 + (later & -later).bit_length() - 1
    hours = cron.hours >> hour + 1 << hour + 1
    if not hours:
        return None
    first = cron.minutes & -cron.minutes
    return ((hours & -hours).bit_length() - 1) * 60 + first.bit_length() - 1


def _next_day(cron: CronExpression, day: int) -> int | None:
    """The first matching day at or after `day` (days since the epoch)."""
    today = date.fromordinal(day + _EPOCH_DAY)
    month, since = today.month, today.day
    for year in range(today.year, min(today.year + _LOOK_AHEAD_YEARS, LAST_YEAR) + 1):
        for candidate in _bits(cron.months >> month << month):
            first = date(year, candidate, 1).toordinal()
            days = cron.days[_shape(_length(year, candidate), first % 7)]
            if candidate == today.month and year == today.year:
                days = days >> since << since
            if days:
                return first - _EPOCH_DAY + (days & -days).bit_length() - 2
        month = 1
    return None


def _length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return _lengths(month)[0]
