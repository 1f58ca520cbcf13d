"""A person decides what becomes of a task that must not run twice."""

from __future__ import annotations

import pytest

from controlplane.core.effects import AssignMessage, CommandOutcome, WaitKind
from controlplane.core.states import AttemptState, RunState
from tests.unit.core.bench import LOST_MS, retries, running

APPLIED, REFUSED = CommandOutcome.APPLIED, CommandOutcome.REFUSED
NOT_FOUND = CommandOutcome.NOT_FOUND


def doubtful(parents=None, **options):
    """A run whose task `a` waits for an approval, and an agent that is free."""
    bench = running(parents or {"a": "", "b": "a"}, once=["a"], **options)
    report = bench.result("a")
    bench.gone()
    bench.agent("bee")
    bench.wait(LOST_MS + 1)
    assert bench.tasks()["a"] == "AWAITING_APPROVAL"
    return bench, report


def answer(row):
    return row.outcome, row.detail


def test_an_approved_task_runs_again_under_the_same_number():
    bench, _ = doubtful(retry=retries(2))
    assert answer(bench.decide("a", approved=True)) == (APPLIED, "")
    assert [row.kind for row in bench.effects.writes.waits_gone] == [WaitKind.APPROVAL]
    assert [(message.task, message.number) for message in bench.of(AssignMessage)] == [("a", 1)]
    assert not bench.store.waits
    bench.fail("a")
    assert bench.tasks() == {"a": "BACKOFF", "b": "WAITING"}


def test_a_rejected_task_has_failed_and_the_reason_stays():
    bench, _ = doubtful({"a": "", "b": "a", "c": "a"}, after_all=["c"])
    assert answer(bench.decide("a", approved=False, reason="paid twice")) == (APPLIED, "")
    assert bench.tasks() == {"a": "FAILED", "b": "UPSTREAM_FAILED", "c": "ASSIGNED"}
    bench.finish("c")
    assert bench.state() is RunState.FAILED
    row = next(iter(bench.store.waits.values()))
    assert (row.kind, row.reason, row.number) == (WaitKind.MARK, "paid twice", 1)


def test_a_rejection_may_end_the_run():
    bench, _ = doubtful()
    bench.decide("a", approved=False)
    assert bench.state() is RunState.FAILED
    assert [row.kind for row in bench.effects.writes.waits_gone] == [WaitKind.APPROVAL]


def test_a_decision_is_taken_once():
    bench, _ = doubtful()
    bench.step(bench.deciding("a", approved=True), bench.deciding("a", approved=False))
    first, second = bench.effects.writes.applied
    assert first.outcome is APPLIED
    detail = "task 'a' waits for no approval: it is READY"
    assert (second.outcome, second.detail) == (REFUSED, detail)
    assert bench.tasks()["a"] == "ASSIGNED"


def test_a_decision_about_what_does_not_wait_is_refused():
    bench = running({"a": "", "b": "a"})
    detail = "task 'b' waits for no approval: it is WAITING"
    assert answer(bench.decide("b", approved=True)) == (REFUSED, detail)
    detail = "task 'a' waits for no approval: it is ASSIGNED"
    assert answer(bench.decide("a", approved=False)) == (REFUSED, detail)
    assert answer(bench.decide("c", approved=True)) == (NOT_FOUND, "the run has no task 'c'")
    bench.finish("a")
    bench.finish("b")
    assert answer(bench.decide("a", approved=True)) == (REFUSED, "the run is final already")


def test_a_decision_in_a_run_that_is_being_stopped_is_refused():
    bench, _ = doubtful({"a": "", "b": ""})
    bench.cancel()
    assert bench.state() is RunState.CANCELLING
    assert [row.kind for row in bench.store.waits.values()] == []
    assert answer(bench.decide("a", approved=True)) == (REFUSED, "the run is being stopped")
    bench.stopped("b")
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert bench.state() is RunState.CANCELLED


def test_a_run_that_only_waits_for_approvals_can_be_cancelled():
    bench, _ = doubtful()
    bench.cancel()
    assert bench.state() is RunState.CANCELLED
    assert not bench.store.waits


def test_a_run_that_waits_for_an_approval_may_reach_its_timeout():
    bench, _ = doubtful(run_timeout_ms=10 * LOST_MS)
    bench.wait(10 * LOST_MS)
    assert bench.state() is RunState.FAILED
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}


@pytest.mark.parametrize("approved", [True, False])
def test_a_late_success_before_the_decision_in_one_step_wins(approved):
    bench, report = doubtful()
    bench.step(report, bench.deciding("a", approved=approved))
    detail = "task 'a' waits for no approval: it is SUCCEEDED"
    assert answer(bench.effects.writes.applied[0]) == (REFUSED, detail)
    assert bench.late == [(AttemptState.SUCCEEDED, True)]
    assert len(bench.effects.writes.waits_gone) == 1
    assert bench.assigned == ["b"]


def test_a_late_success_after_the_approval_in_one_step_wins_too():
    bench, report = doubtful()
    bench.step(bench.deciding("a", approved=True), report)
    assert bench.effects.writes.applied[0].outcome is APPLIED
    assert bench.late == [(AttemptState.SUCCEEDED, True)]
    assert len(bench.effects.writes.waits_gone) == 1
    assert bench.assigned == ["b"]


def test_a_late_success_after_the_rejection_in_one_step_comes_too_late():
    bench, report = doubtful({"a": "", "x": ""})
    bench.step(bench.deciding("a", approved=False), report)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]
    assert bench.tasks()["a"] == "FAILED"


def test_a_decision_that_comes_with_the_doubt_leaves_no_wait():
    bench = running(once=["a"])
    lost = bench.result("a", AttemptState.LOST)
    bench.step(lost, bench.deciding("a", approved=True))
    assert (bench.effects.writes.waits, bench.effects.writes.waits_gone) == ([], [])
    assert bench.tasks() == {"a": "ASSIGNED"}


def test_a_rejection_that_comes_with_the_doubt_leaves_the_mark():
    bench = running({"a": "", "b": ""}, once=["a"])
    lost = bench.result("a", AttemptState.LOST)
    bench.step(lost, bench.deciding("a", approved=False))
    assert [row.kind for row in bench.effects.writes.waits] == [WaitKind.MARK]
    assert not bench.effects.writes.waits_gone
    assert bench.tasks() == {"a": "FAILED", "b": "ASSIGNED"}
