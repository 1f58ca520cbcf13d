"""Durations, memory and numbers: what they amount to, and how they are written back."""

from __future__ import annotations

import pytest
from mainspring.definition.quantities import (
    QuantityError,
    format_duration,
    format_size,
    parse_duration,
    parse_number,
    parse_size,
    parse_whole,
)

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("500ms", S // 2),
        ("90s", 90 * S),
        ("5m", 300 * S),
        ("2h", 7_200 * S),
        ("1d", 86_400 * S),
        ("1h30m", 5_400 * S),
        ("1d2h3m4s5ms", 93_784 * S + 5_000_000),
        ("1.5h", 5_400 * S),
        ("2", 2 * S),
        ("0.25", S // 4),
        ("0", 0),
        ("5m5ms", 300 * S + 5_000_000),
        ("0.000001ms", 1),
    ],
)
def test_duration(text: str, nanos: int) -> None:
    assert parse_duration(text) == nanos


@pytest.mark.parametrize(
    "text", ["", "s", "1x", "1h 30m", "1h1h", "1m1h", "1,5s", "+5s", "1e3", ".5s", "5.s", "P1D"]
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(QuantityError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0s"),
        (1, "0.000000001s"),
        (S // 2, "500ms"),
        (5_400 * S, "1h30m"),
        (86_400 * S + 1_000_000, "1d1ms"),
        (61 * S + 1_500_000, "1m1.0015s"),
    ],
)
def test_duration_is_written_briefly(nanos: int, text: str) -> None:
    assert format_duration(nanos) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512MiB", 512 * 2**20),
        ("2GB", 2 * 10**9),
        ("1Gi", 2**30),
        ("1.5 KiB", 1_536),
        ("7b", 7),
        ("3kb", 3_000),
        ("1pib", 2**50),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1_000, "1000"), (2**20, "1MiB"), (2**60, "1024PiB")]
)
def test_size_is_written_in_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("text", ["", "MiB", "1 0", "1e6", "0x10"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_size(text)


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_number, parse_whole])
@pytest.mark.parametrize("text", ["nan", ".inf", "-Infinity", "1" * 100, "", "٣"])
def test_odd_text_is_no_quantity(parse: object, text: str) -> None:
    with pytest.raises(QuantityError):
        parse(text)  # type: ignore[operator]


def test_numbers() -> None:
    assert parse_number("-1.5e3") == -1_500
    assert parse_whole("-12") == -12
