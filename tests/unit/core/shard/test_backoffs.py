"""A failed attempt is tried again after a wait, until attempts run out."""

from __future__ import annotations

from controlplane.core.effects import AssignMessage, WaitKind
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.deadlines import Now
from tests.unit.core.bench import retries, running


def test_a_failed_attempt_waits_and_is_tried_again_with_the_next_number():
    bench = running(retry=retries(3, backoff_ms=1_000))
    bench.fail("a")
    wait = bench.effects.writes.waits[0]
    assert (wait.kind, wait.number) == (WaitKind.BACKOFF, 2)
    assert wait.due_us == bench.now.wall_us + 1_000_000
    assert wait.reason == "attempt 1 ended as FAILED"
    assert bench.tasks() == {"a": "BACKOFF"}
    bench.wait(999)
    assert bench.assigned == []
    bench.wait(1)
    assert [message.number for message in bench.of(AssignMessage)] == [2]
    assert len(bench.effects.writes.waits_gone) == 1


def test_backoffs_grow_until_attempts_run_out():
    bench = running({"a": "", "b": "a"}, retry=retries(3, backoff_ms=1_000))
    bench.fail("a")
    bench.wait(1_000)
    bench.fail("a")
    assert bench.effects.writes.waits[0].due_us == bench.now.wall_us + 2_000_000
    bench.wait(2_000)
    bench.fail("a")
    assert bench.tasks() == {"a": "FAILED", "b": "UPSTREAM_FAILED"}
    assert bench.state() is RunState.FAILED
    assert [bench.store.numbers[row.attempt_id] for row in bench.store.history] == [1, 2, 3]


def test_a_timeout_of_an_attempt_is_tried_again_too():
    bench = running(retry=retries(2))
    bench.step(bench.result("a", AttemptState.TIMED_OUT))
    assert bench.tasks() == {"a": "BACKOFF"}
    assert bench.effects.writes.waits[0].reason == "attempt 1 ended as TIMED_OUT"


def test_the_row_of_a_backoff_stays_until_the_next_attempt_is_assigned():
    bench = running(retry=retries(2))
    bench.fail("a")
    bench.gone()
    bench.wait(1_000)
    assert bench.tasks() == {"a": "READY"}
    assert len(bench.store.waits) == 1
    bench.agent()
    assert bench.assigned == ["a"]
    assert not bench.store.waits


def test_without_backoff_the_next_attempt_follows_in_the_next_step():
    bench = running(retry=retries(2, backoff_ms=0))
    bench.fail("a")
    assert bench.shard.next_deadline() <= bench.now.mono_ms
    bench.settle()
    assert bench.assigned == ["a"]


def test_a_backoff_due_when_its_run_reaches_its_timeout_is_forgotten():
    bench = running(retry=retries(2, backoff_ms=1_000), run_timeout_ms=1_000)
    bench.fail("a")
    bench.wait(1_000)
    assert bench.state() is RunState.FAILED
    assert bench.tasks() == {"a": "CANCELLED"}


def test_a_backoff_due_after_its_run_was_stopped_by_the_same_moment_does_not_start():
    bench = running({"a": "", "b": ""}, retry=retries(2, backoff_ms=1_000), run_timeout_ms=1_000)
    bench.fail("a")
    bench.wait(1_000)
    assert bench.state() is RunState.TIMING_OUT
    assert bench.tasks() == {"a": "BACKOFF", "b": "ASSIGNED"}
    bench.stopped("b")
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}


HOUR_US = 3_600_000_000


def test_a_wall_clock_that_is_set_back_prolongs_no_backoff():
    """It was an hour ahead when the attempt failed."""
    bench = running(retry=retries(2, backoff_ms=1_000))
    bench.now = Now(bench.now.wall_us + HOUR_US, bench.now.mono_ms)
    bench.fail("a")
    bench.now = Now(bench.now.wall_us - HOUR_US, bench.now.mono_ms)
    bench.step()
    bench.wait(1_000)
    assert bench.assigned == ["a"]


def test_a_leader_whose_clock_is_behind_the_last_one_prolongs_no_backoff():
    bench = running(retry=retries(2, backoff_ms=1_000))
    bench.fail("a")
    bench.now = Now(bench.now.wall_us - HOUR_US, bench.now.mono_ms)
    bench.recover()
    bench.agent()
    bench.wait(1_000)
    assert bench.assigned == ["a"]
