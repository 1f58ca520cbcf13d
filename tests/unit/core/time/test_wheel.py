"""The timing wheel against a sorted list, and its corners one by one."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.core.time.wheel import HORIZON_BITS, MAX_DEADLINE_MS, Wheel

HORIZON_MS = 1 << HORIZON_BITS


def drain(wheel: Wheel[str]) -> list[tuple[int, list[str]]]:
    """What fires when, for a caller that follows `next_deadline`."""
    fired = []
    while (at := wheel.next_deadline()) is not None:
        if payloads := wheel.advance(at):
            fired.append((at, payloads))
    return fired


def test_an_empty_wheel_has_no_deadline_and_fires_nothing():
    wheel: Wheel[str] = Wheel(5)
    assert wheel.next_deadline() is None
    assert wheel.advance(10_000) == []
    assert len(wheel) == 0


def test_timers_fire_in_order_of_deadline_then_insertion():
    wheel: Wheel[str] = Wheel(0)
    for deadline_ms, payload in ((300, "c"), (5, "a"), (300, "d"), (70, "b"), (300, "e")):
        wheel.insert(deadline_ms, payload)
    assert wheel.advance(299) == ["a", "b"]
    wheel.insert(300, "f")
    assert wheel.advance(300) == ["c", "d", "e", "f"]


@pytest.mark.parametrize("deadline_ms", [-5, 0, 99, 100])
def test_a_deadline_that_has_passed_fires_at_the_next_advance(deadline_ms):
    wheel: Wheel[str] = Wheel(100)
    wheel.insert(deadline_ms, "late")
    assert wheel.next_deadline() == 100
    assert wheel.advance(100) == ["late"]


def test_late_timers_come_out_by_their_own_deadlines():
    wheel: Wheel[str] = Wheel(100)
    wheel.insert(100, "c")
    wheel.insert(50, "b")
    wheel.insert(20, "a")
    assert wheel.advance(100) == ["a", "b", "c"]


def test_time_never_goes_back():
    wheel: Wheel[str] = Wheel(100)
    wheel.advance(500)
    wheel.insert(450, "late")
    assert wheel.advance(200) == ["late"]
    wheel.insert(510, "next")
    assert wheel.next_deadline() == 510


@pytest.mark.parametrize("distance_ms", [1, 63, 64, 4_095, 4_096, 10**6, 10**9, HORIZON_MS - 1])
def test_every_level_fires_at_the_exact_deadline(distance_ms):
    wheel: Wheel[str] = Wheel(1)
    wheel.insert(1 + distance_ms, "x")
    assert drain(wheel) == [(1 + distance_ms, ["x"])]


def test_following_next_deadline_takes_at_most_six_calls():
    wheel: Wheel[str] = Wheel(0)
    wheel.insert(HORIZON_MS - 1, "x")
    calls = 0
    while len(wheel):
        at = wheel.next_deadline()
        assert at is not None
        wheel.advance(at)
        calls += 1
    assert calls == 6


def test_deadlines_beyond_the_horizon_wait_in_the_heap():
    wheel: Wheel[str] = Wheel(7)
    far = 3 * HORIZON_MS + 12_345
    wheel.insert(far + HORIZON_MS, "c")
    wheel.insert(far, "a")
    wheel.insert(far + 1, "b")
    assert wheel.next_deadline() == far
    assert wheel.advance(far - 1) == []
    assert drain(wheel) == [(far, ["a"]), (far + 1, ["b"]), (far + HORIZON_MS, ["c"])]


def test_a_horizon_that_has_begun_mixes_heap_and_levels_in_order():
    wheel: Wheel[str] = Wheel(0)
    wheel.insert(HORIZON_MS + 50, "old")
    wheel.advance(HORIZON_MS + 10)
    wheel.insert(HORIZON_MS + 50, "new")
    assert wheel.advance(HORIZON_MS + 60) == ["old", "new"]


def test_cancel_disarms_once():
    wheel: Wheel[str] = Wheel(0)
    kept, gone = wheel.insert(10, "kept"), wheel.insert(10, "gone")
    assert wheel.cancel(gone)
    assert not wheel.cancel(gone)
    assert wheel.advance(10) == ["kept"]
    assert not wheel.cancel(kept)


def test_cancelling_the_first_of_a_slot_keeps_the_others():
    wheel: Wheel[str] = Wheel(0)
    ids = [wheel.insert(10, name) for name in "abc"]
    assert wheel.cancel(ids[0])
    assert wheel.cancel(ids[2])
    assert wheel.advance(10) == ["b"]


def test_cancelling_the_last_timer_empties_the_wheel():
    wheel: Wheel[str] = Wheel(0)
    assert wheel.cancel(wheel.insert(10_000, "x"))
    assert wheel.next_deadline() is None
    assert len(wheel) == 0


def test_an_id_is_never_valid_again():
    wheel: Wheel[str] = Wheel(0)
    first = wheel.insert(10, "first")
    wheel.cancel(first)
    second = wheel.insert(10, "second")
    assert not wheel.cancel(first)
    assert not wheel.cancel(second + 10**6)
    assert wheel.advance(10) == ["second"]


def test_cancelled_heap_entries_are_bounded_by_the_live_ones():
    wheel: Wheel[str] = Wheel(0)
    live = wheel.insert(5 * HORIZON_MS, "live")
    for turn in range(100):
        assert wheel.cancel(wheel.insert((2 + turn) * HORIZON_MS, "gone"))
    assert len(wheel._overflow) <= 2
    assert len(wheel) == 1
    assert drain(wheel) == [(5 * HORIZON_MS, ["live"])]
    assert not wheel.cancel(live)


def test_the_heap_is_made_anew_when_more_than_half_of_it_is_cancelled():
    wheel: Wheel[str] = Wheel(0)
    first, *ids = [wheel.insert(2 * HORIZON_MS + at, "x") for at in range(17)]
    sizes = []
    for timer_id in (first, *reversed(ids)):
        wheel.cancel(timer_id)
        sizes.append(len(wheel._overflow))
    assert sizes == [16] * 9 + [7] * 4 + [3] * 2 + [1, 0]


def test_a_cancelled_heap_entry_between_live_ones_never_fires():
    wheel: Wheel[str] = Wheel(0)
    far = 2 * HORIZON_MS
    ids = [wheel.insert(far + at, str(at)) for at in range(6)]
    wheel.cancel(ids[2])
    wheel.cancel(ids[0])
    assert wheel.next_deadline() == far + 1
    assert wheel.advance(far + 10) == ["1", "3", "4", "5"]


def test_a_heap_of_cancelled_entries_is_empty():
    wheel: Wheel[str] = Wheel(0)
    ids = [wheel.insert(2 * HORIZON_MS + at, "x") for at in range(3)]
    for timer_id in ids:
        wheel.cancel(timer_id)
    assert wheel.next_deadline() is None
    assert wheel.advance(4 * HORIZON_MS) == []


def test_a_timer_costs_26_bytes_beside_its_payload():
    wheel: Wheel[str] = Wheel(0)
    columns = (wheel._deadline, wheel._sequence, wheel._place, wheel._position)
    assert sum(column.itemsize for column in (*columns, array("i"))) == 26


@pytest.mark.parametrize("now_ms", [-1, MAX_DEADLINE_MS + 1])
def test_a_clock_out_of_range_is_our_bug(now_ms):
    with pytest.raises(AssertionError):
        Wheel(now_ms)


def test_a_deadline_out_of_range_is_our_bug():
    with pytest.raises(AssertionError):
        Wheel(0).insert(MAX_DEADLINE_MS + 1, "x")


DISTANCES = st.one_of(
    st.integers(-100, 200),
    st.integers(0, 300_000),
    st.integers(0, 3 * HORIZON_MS),
    st.sampled_from([64**level + edge for level in range(1, 7) for edge in (-1, 0, 1)]),
)


class WheelAgainstSortedList(RuleBasedStateMachine):
    """Any sequence of operations agrees with a list kept in order."""

    @initialize(now_ms=st.integers(0, 2 * HORIZON_MS))
    def start(self, now_ms):
        self.now_ms = now_ms
        self.wheel: Wheel[int] = Wheel(now_ms)
        self.model: dict[int, tuple[int, int]] = {}
        self.inserted = 0
        self.ids: list[int] = []

    @rule(distance_ms=DISTANCES)
    def insert(self, distance_ms):
        self.inserted += 1
        deadline_ms = self.now_ms + distance_ms
        timer_id = self.wheel.insert(deadline_ms, self.inserted)
        assert timer_id not in self.ids
        self.ids.append(timer_id)
        self.model[timer_id] = (deadline_ms, self.inserted)

    @rule(pick=st.integers(0, 10**6))
    def cancel(self, pick):
        if self.ids:
            timer_id = self.ids[pick % len(self.ids)]
            assert self.wheel.cancel(timer_id) == (self.model.pop(timer_id, None) is not None)

    @rule(distance_ms=DISTANCES)
    def advance(self, distance_ms):
        self.now_ms = max(self.now_ms, self.now_ms + distance_ms)
        self.expect_fired()

    @rule()
    def advance_to_next(self):
        deadline_ms = self.wheel.next_deadline()
        if deadline_ms is not None:
            self.now_ms = max(self.now_ms, deadline_ms)
            self.expect_fired()

    def expect_fired(self):
        due = sorted(entry for entry in self.model.values() if entry[0] <= self.now_ms)
        assert self.wheel.advance(self.now_ms) == [payload for _, payload in due]
        self.model = {key: entry for key, entry in self.model.items() if entry not in due}

    @invariant()
    def cancelled_heap_entries_are_counted(self):
        wheel = self.wheel
        gone = [e for e in wheel._overflow if wheel._sequence[e[2]] != e[1]]
        assert wheel._stale == len(gone)

    @invariant()
    def next_deadline_is_a_bound(self):
        assert len(self.wheel) == len(self.model)
        bound = self.wheel.next_deadline()
        assert (bound is None) == (not self.model)
        if bound is not None:
            earliest = max(self.now_ms, min(self.model.values())[0])
            assert self.now_ms <= bound <= earliest
            if earliest - self.now_ms < 64 - self.now_ms % 64:
                assert bound == earliest


TestWheelAgainstSortedList = WheelAgainstSortedList.TestCase
TestWheelAgainstSortedList.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=40
)
