"""Values of the core: amounts, retry policies, buckets, ids."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from controlplane.core.types import (
    BUCKETS,
    DagKey,
    Resources,
    RetryPolicy,
    RetryPolicyError,
    bucket_of,
    day_of,
    uuid7,
    uuid7_instant_us,
    uuid_text,
)


def test_amounts_add_up_and_fit_only_in_both_dimensions():
    assert Resources(1, 2) + Resources(3, 4) == Resources(4, 6)
    assert Resources(3, 4) - Resources(1, 2) == Resources(2, 2)
    assert Resources(1, 2).fits(Resources(1, 2))
    assert not Resources(2, 2).fits(Resources(1, 9))
    assert not Resources(1, 3).fits(Resources(9, 2))


def test_a_retry_policy_names_every_field_that_is_out_of_range():
    with pytest.raises(RetryPolicyError) as raised:
        RetryPolicy(0, -1, 0.5, -2, float("nan"))
    assert [field for field, _ in raised.value.problems] == [
        "max_attempts",
        "initial_backoff_ms",
        "multiplier",
        "max_backoff_ms",
        "jitter",
    ]
    assert "max_attempts: 0 is refused; it must be between 1 and 1000" in str(raised.value)


def test_the_defaults_try_once():
    assert RetryPolicy().max_attempts == 1


def test_the_bucket_of_a_dag_is_for_ever():
    assert bucket_of(DagKey("acme", "etl")) == 308
    assert bucket_of(DagKey("a", "b")) != bucket_of(DagKey("b", "a"))


def test_buckets_spread():
    found = Counter(bucket_of(DagKey("acme", f"dag-{n}")) for n in range(20_000))
    assert all(0 <= bucket < BUCKETS for bucket in found)
    assert len(found) > 0.95 * BUCKETS
    assert max(found.values()) < 25


def test_days_are_counted_from_the_epoch():
    assert day_of(0) == 0
    assert day_of(86_399_999_999) == 0
    assert day_of(86_400_000_000) == 1


def test_a_run_id_is_a_uuid_of_version_7_that_holds_its_instant():
    raw = uuid7(1_750_075_200_123_456, bytes(range(16)))
    text = uuid_text(raw)
    assert uuid.UUID(text).bytes == raw
    assert uuid.UUID(text).version == 7
    assert uuid.UUID(text).variant == uuid.RFC_4122
    assert uuid7_instant_us(raw) == 1_750_075_200_123_000
