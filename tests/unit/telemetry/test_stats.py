from __future__ import annotations

import pytest

from controlplane.telemetry.stats import Stats, TimeHistogram, TimeSummary


def test_no_sample_is_all_zero() -> None:
    assert TimeHistogram().summary() == TimeSummary(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("value", [0, 1, 15, 16, 31, 32, 33, 1_000, 65_535, 65_536, 10**9, 1 << 39])
def test_a_single_sample_is_every_quantile(value: int) -> None:
    histogram = TimeHistogram()
    histogram.record(value)
    assert histogram.summary() == TimeSummary(1, value, value, value, value, value)


def test_quantiles_are_at_most_a_sixteenth_too_high() -> None:
    histogram = TimeHistogram()
    for value in range(1, 10_001):
        histogram.record(value)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = share * 10_000
        assert exact <= histogram.quantile_us(share) <= exact * 17 / 16


def test_values_beyond_the_range_are_kept_at_its_ends() -> None:
    histogram = TimeHistogram()
    histogram.record(-5)
    histogram.record(1 << 50)
    assert histogram.quantile_us(0.1) == 0
    assert histogram.max_us == (1 << 40) - 1


def test_counters_and_times_start_anew() -> None:
    stats = Stats()
    stats.count("commits")
    stats.count("commits", 4)
    stats.time("commit_us", 7)
    assert stats.counters() == {"commits": 5}
    assert stats.times()["commit_us"].count == 1
    stats.reset()
    assert (stats.counters(), stats.times()) == ({}, {})
