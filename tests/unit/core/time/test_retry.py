"""Backoff grows to its ceiling, jitter is a hash, and bad policies name every field."""

from __future__ import annotations

import math
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.time.retry import backoff_ms
from controlplane.core.types import RetryPolicy, RetryPolicyError

EXACT = RetryPolicy(10, 100, 2.0, 5_000, 0.0)
POLICIES = st.builds(
    lambda initial, more, multiplier, jitter: RetryPolicy(
        5, initial, multiplier, initial + more, jitter
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
    st.floats(1, 100),
    st.floats(0, 1),
)


def test_backoff_doubles_up_to_the_ceiling():
    waits = [backoff_ms(EXACT, number, b"task") for number in range(1, 9)]
    assert waits == [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]


def test_a_multiplier_of_one_keeps_the_wait():
    policy = RetryPolicy(5, 700, 1.0, 5_000, 0.0)
    assert [backoff_ms(policy, number, b"task") for number in (1, 2, 10**9)] == [700] * 3


@pytest.mark.parametrize("number", [1_100, 10**6, 10**30])
def test_huge_attempt_numbers_stay_at_the_ceiling(number):
    assert backoff_ms(EXACT, number, b"task") == 5_000


def test_no_initial_backoff_means_no_wait():
    assert backoff_ms(RetryPolicy(5, 0, 2.0, 0, 1.0), 4, b"task") == 0


def test_jitter_is_the_same_for_the_same_attempt_and_differs_between_attempts():
    policy = RetryPolicy(9, 1_000_000, 1.0, 1_000_000, 1.0)
    waits = [backoff_ms(policy, number, b"task") for number in range(1, 6)]
    assert waits == [backoff_ms(policy, number, b"task") for number in range(1, 6)]
    assert len(set(waits)) == 5
    assert backoff_ms(policy, 1, b"other") != waits[0]


def test_jitter_is_pinned_so_that_versions_agree():
    assert backoff_ms(RetryPolicy(9, 1_000_000, 1.0, 1_000_000, 1.0), 1, b"task") == 52159


def test_full_jitter_spreads_evenly():
    policy = RetryPolicy(2, 10_000, 1.0, 10_000, 1.0)
    waits = [backoff_ms(policy, 1, b"task %d" % index) for index in range(2_000)]
    assert abs(mean(waits) - 5_000) < 250
    assert min(waits) < 100
    assert max(waits) > 9_900


@settings(deadline=None)
@given(policy=POLICIES, number=st.integers(1, 10**6), key=st.binary(max_size=64))
def test_a_wait_lies_between_the_jittered_floor_and_the_ceiling(policy, number, key):
    wait = backoff_ms(policy, number, key)
    floor = min(policy.initial_backoff_ms, policy.max_backoff_ms) * (1 - policy.jitter)
    assert math.floor(floor) - 1 <= wait <= policy.max_backoff_ms


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 10**7}, "max_attempts"),
        ({"initial_backoff_ms": -1}, "initial_backoff_ms"),
        ({"multiplier": 0.5}, "multiplier"),
        ({"multiplier": math.nan}, "multiplier"),
        ({"multiplier": math.inf}, "multiplier"),
        ({"max_backoff_ms": 999}, "max_backoff_ms"),
        ({"max_backoff_ms": 10**12}, "max_backoff_ms"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": math.nan}, "jitter"),
    ],
)
def test_a_bad_field_is_named(change, field):
    with pytest.raises(RetryPolicyError) as refusal:
        RetryPolicy(**change)
    assert [name for name, _ in refusal.value.problems] == [field]
    assert f"{field}: " in str(refusal.value)


def test_all_bad_fields_are_named_at_once():
    with pytest.raises(RetryPolicyError) as refusal:
        RetryPolicy(max_attempts=0, multiplier=0.0, jitter=-1.0)
    assert [name for name, _ in refusal.value.problems] == ["max_attempts", "multiplier", "jitter"]


def test_attempts_count_from_one():
    with pytest.raises(AssertionError):
        backoff_ms(EXACT, 0, b"task")
