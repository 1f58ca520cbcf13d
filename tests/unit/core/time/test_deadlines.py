"""Wall instants and monotonic deadlines agree, rounded so that nothing is early."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.time.deadlines import Now, to_instant, to_monotonic

NOW = Now(wall_us=1_700_000_000_000_000, mono_ms=50_000)
MICROS = st.integers(-(10**17), 10**17)


@pytest.mark.parametrize(
    ("ahead_us", "deadline_ms"),
    [(0, 50_000), (1, 50_001), (1_000, 50_001), (1_001, 50_002), (-1, 50_000), (-1_000, 49_999)],
)
def test_a_deadline_is_rounded_up(ahead_us, deadline_ms):
    assert to_monotonic(NOW.wall_us + ahead_us, NOW) == deadline_ms


def test_a_deadline_stands_for_an_instant():
    assert to_instant(51_500, NOW) == NOW.wall_us + 1_500_000


@settings(deadline=None)
@given(instant_us=MICROS, wall_us=MICROS, mono_ms=st.integers(0, 10**14))
def test_the_way_there_and_back_is_late_by_less_than_a_millisecond(instant_us, wall_us, mono_ms):
    now = Now(wall_us, mono_ms)
    assert 0 <= to_instant(to_monotonic(instant_us, now), now) - instant_us < 1_000


def test_now_is_a_frozen_value():
    assert Now(1, 2) == Now(1, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        NOW.wall_us = 0  # type: ignore[misc]
