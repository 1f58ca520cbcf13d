"""When a failed call is tried again, on a clock that the test turns."""

from __future__ import annotations

import pytest
from mainspring.client.errors import (
    DeadlineExceededError,
    NotFoundError,
    UnavailableError,
)
from mainspring.client.retry import Tries

GONE = UnavailableError("gone")
LATE = DeadlineExceededError("late")


def test_other_addresses_are_asked_at_once_then_pauses_double() -> None:
    tries = Tries(addresses=2, patience_s=60, started_s=0)
    pauses = [tries.pause_s(GONE, 0, dice=0.999_999) for _ in range(8)]
    expected = [0.0, 0.05, 0.05, 0.1, 0.1, 0.2, 0.2, 0.4]
    assert pauses == pytest.approx(expected, rel=1e-4)


def test_pauses_vary_and_have_a_ceiling() -> None:
    tries = Tries(addresses=1, patience_s=60, started_s=0)
    pauses = [tries.pause_s(GONE, 0, dice=0.0) for _ in range(30)]
    assert pauses[0] == pytest.approx(0.025)
    assert max(pause for pause in pauses if pause) == pytest.approx(0.5)


def test_patience_ends() -> None:
    tries = Tries(addresses=1, patience_s=3, started_s=100)
    assert tries.pause_s(GONE, 102.9, dice=0.5) is not None
    assert tries.pause_s(GONE, 103, dice=0.5) is None


def test_an_answer_renews_patience() -> None:
    tries = Tries(addresses=1, patience_s=3, started_s=0)
    assert tries.pause_s(GONE, 4, dice=0.5) is None
    tries.answered(10)
    assert tries.pause_s(GONE, 12, dice=0.5) == pytest.approx(0.0375)


def test_a_late_answer_is_asked_of_each_other_address_once() -> None:
    tries = Tries(addresses=3, patience_s=60, started_s=0)
    assert [tries.pause_s(LATE, 10, dice=0.5) for _ in range(3)] == [0.0, 0.0, None]
    assert Tries(addresses=1, patience_s=60, started_s=0).pause_s(LATE, 10, dice=0.5) is None


def test_an_answer_is_an_answer() -> None:
    assert Tries(addresses=3, patience_s=60, started_s=0).pause_s(NotFoundError("x"), 0, 0) is None
