"""Errors of time are values too: a field, a part, close names."""

from __future__ import annotations

from controlplane.core.time.errors import CronError, TimetableError, ZoneError


def test_every_error_is_a_value_error_with_its_field():
    errors = (
        TimetableError("every_ms", "too short"),
        CronError("minute", "61", "out of range"),
        ZoneError("unknown", ("UTC",)),
    )
    assert [error.field for error in errors] == ["every_ms", "minute", "zone"]
    assert all(isinstance(error, ValueError) for error in errors)
    assert all(isinstance(error, TimetableError) for error in errors)


def test_details_are_kept():
    assert CronError("minute", "61", "out of range").part == "61"
    assert ZoneError("unknown", ("UTC",)).matches == ("UTC",)
    assert str(TimetableError("every_ms", "too short")) == "too short"
