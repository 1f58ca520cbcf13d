from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.codec.durations import (
    MAX_DURATION_MS,
    duration_ms,
    duration_problem,
    instant_us,
    timestamp,
    timestamp_problem,
)


def test_a_duration_above_zero_never_becomes_zero() -> None:
    assert duration_ms(Duration(nanos=1)) == 1
    assert duration_ms(Duration(seconds=2, nanos=500_000_000)) == 2_500
    assert duration_ms(Duration()) == 0


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (Duration(seconds=-1), "negative"),
        (Duration(nanos=-1), "negative"),
        (Duration(nanos=1_000_000_000), "less than a second"),
        (Duration(seconds=MAX_DURATION_MS // 1_000 + 1), "at most 10 years"),
        (Duration(seconds=2**63 - 1), "at most 10 years"),
    ],
)
def test_a_bad_duration_is_refused(duration: Duration, words: str) -> None:
    assert words in (duration_problem(duration) or "")


def test_the_longest_duration_passes() -> None:
    assert duration_problem(Duration(seconds=MAX_DURATION_MS // 1_000)) is None


@pytest.mark.parametrize("moment_us", [0, -1, 1, 1_700_000_000_123_456, -62_135_596_800_000_000])
def test_an_instant_survives_the_wire(moment_us: int) -> None:
    message = timestamp(moment_us)
    assert message is not None
    assert timestamp_problem(message) is None
    assert instant_us(message) == moment_us


def test_no_instant_is_no_message() -> None:
    assert timestamp(None) is None


@pytest.mark.parametrize(
    "time", [Timestamp(nanos=-1), Timestamp(nanos=10**9), Timestamp(seconds=2**62)]
)
def test_a_bad_time_is_refused(time: Timestamp) -> None:
    assert "years 1 and 9999" in (timestamp_problem(time) or "")
