"""What a caller can get wrong about time. Every message names the part and the way out."""

from __future__ import annotations


class TimetableError(ValueError):
    """A timetable that cannot be built; `field` is the input to correct."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CronError(TimetableError):
    """A cron expression that is refused; `part` is the offending text inside `field`."""

    def __init__(self, field: str, part: str, message: str) -> None:
        super().__init__(field, message)
        self.part = part


class ZoneError(TimetableError):
    """A time zone that the pinned tz database does not know; `matches` are close names."""

    def __init__(self, message: str, matches: tuple[str, ...]) -> None:
        super().__init__("zone", message)
        self.matches = matches
