"""What the end of an attempt means: results, refusals, losses, and what comes late."""

from __future__ import annotations

import pytest

from controlplane.core.effects import AssignMessage, WaitKind
from controlplane.core.events import Finished, Rejected, Started
from controlplane.core.shard.admission import REFUSAL_PAUSE_MS
from controlplane.core.shard.outcomes import SILENT, UNASKED
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import OnDisconnect
from tests.unit.core.bench import (
    LEASES,
    LOST_MS,
    NOON_US,
    cores,
    finished,
    retries,
    running,
)

# Results


def test_a_result_is_recorded_as_it_was_reported():
    bench = running()
    agent, attempt_id = bench.holder("a")
    bench.step(Finished(agent, attempt_id, AttemptState.FAILED, 5, 9, None, 15, 70, 80, "killed"))
    done = bench.effects.writes.done[0]
    assert done[4:] == (attempt_id, AttemptState.FAILED, 5, 9, None, 15, 70, 80, "killed")


def test_a_result_without_a_start_takes_the_start_that_was_reported():
    bench = running()
    agent, attempt_id = bench.holder("a")
    bench.step(Started(agent, attempt_id, 77))
    bench.step(Finished(agent, attempt_id, AttemptState.FAILED, 0, 99, 1, 0, 0, 0, ""))
    assert bench.effects.writes.done[0].started_us == 77


def test_an_attempt_that_never_started_has_no_start():
    bench = running()
    bench.step(Finished(*bench.holder("a"), AttemptState.FAILED, 0, 99, 1, 0, 0, 0, "no such file"))
    assert bench.effects.writes.done[0].started_us is None


def test_a_second_result_is_acknowledged_and_changes_nothing():
    bench = running({"a": "", "b": "a"})
    result = bench.result("a")
    bench.step(result)
    effects = bench.step(result, result._replace(state=AttemptState.FAILED))
    assert not effects.writes
    assert bench.acknowledged == [result.attempt_id] * 2


def test_two_results_in_one_step_count_once():
    bench = running({"a": "", "b": "a"})
    result = bench.result("a")
    effects = bench.step(result, result._replace(state=AttemptState.FAILED))
    assert len(effects.writes.done) == 1
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "ASSIGNED"}


def test_a_late_result_of_a_run_that_is_final_is_acknowledged():
    bench = running()
    result = bench.result("a")
    bench.step(result)
    assert bench.state() is RunState.SUCCEEDED
    bench.step(result)
    assert bench.acknowledged == [result.attempt_id]


def test_a_stop_that_nobody_asked_for_is_a_failure():
    bench = running({"a": "", "b": "a"})
    bench.stopped("a")
    done = bench.effects.writes.done[0]
    assert (done.state, done.message) == (AttemptState.FAILED, UNASKED)
    assert bench.tasks() == {"a": "FAILED", "b": "UPSTREAM_FAILED"}


def test_a_stop_that_nobody_asked_for_keeps_its_message():
    bench = running(retry=retries(2))
    bench.step(bench.result("a", AttemptState.CANCELLED, message="shutting down"))
    assert bench.effects.writes.done[0].message == "shutting down"
    assert bench.effects.writes.waits[0].reason == "shutting down"


# Refused


def test_a_refused_attempt_is_followed_by_another_of_the_same_number():
    bench = running()
    _, refused = bench.holder("a")
    bench.reject("a", "beyond the grant")
    assert bench.effects.writes.done[0].state is AttemptState.REJECTED
    assert bench.effects.writes.done[0].message == "beyond the grant"
    bench.wait(REFUSAL_PAUSE_MS)
    message = bench.of(AssignMessage)[0]
    assert message.number == 1
    assert message.attempt_id != refused


def test_a_refusal_does_not_use_up_a_retry():
    bench = running(retry=retries(2))
    bench.fail("a")
    bench.wait(1_000)
    bench.reject("a")
    bench.wait(REFUSAL_PAUSE_MS)
    assert bench.of(AssignMessage)[0].number == 2
    bench.fail("a")
    assert bench.tasks() == {"a": "FAILED"}


def test_the_refusal_of_an_attempt_that_is_not_live_changes_nothing():
    bench = running()
    assert not bench.step(Rejected("ant", b"?" * 16, "full")).writes


def test_a_refusal_of_a_first_send_that_comes_after_the_second_was_accepted_changes_nothing():
    """Refused under one leader, sent again and accepted under the next, which failed as well."""
    bench = running()
    agent, attempt_id = bench.holder("a")
    bench.recover()
    bench.agent("bee")
    bench.connect(agent)
    assert not bench.step(Rejected(agent, attempt_id, "beyond the grant")).writes
    bench.inventory(agent, live={attempt_id: bench.now.wall_us})
    assert bench.holder("a") == (agent, attempt_id)
    assert bench.tasks() == {"a": "RUNNING"}


def test_a_refusal_before_the_inventory_has_the_attempt_sent_again():
    bench = running()
    agent, attempt_id = bench.holder("a")
    bench.recover()
    bench.connect(agent)
    bench.step(Rejected(agent, attempt_id, "beyond the grant"))
    bench.inventory(agent, live={})
    assert [message.attempt_id for message in bench.of(AssignMessage)] == [attempt_id]


def test_a_refusal_after_a_start_counts_as_a_failed_try():
    bench = running(retry=retries(2))
    bench.started("a")
    bench.reject("a", "lost it")
    assert bench.effects.writes.done[0].state is AttemptState.FAILED
    assert bench.tasks() == {"a": "BACKOFF"}


def test_a_refusal_in_a_run_that_is_stopped_ends_the_run():
    bench = running()
    bench.cancel()
    bench.reject("a")
    assert bench.state() is RunState.CANCELLED
    assert bench.tasks() == {"a": "CANCELLED"}


# Lost, as the agent says


@pytest.mark.parametrize("starts", [False, True])
def test_a_lost_attempt_is_followed_by_another_of_the_same_number(starts):
    bench = running()
    bench.agent("bee")
    _, lost = bench.holder("a")
    if starts:
        bench.started("a")
    bench.step(bench.result("a", AttemptState.LOST, message="its agent stopped"))
    done = bench.effects.writes.done[0]
    assert (done.state, done.message) == (AttemptState.LOST, "its agent stopped")
    assert bench.acknowledged == [lost]
    message = bench.of(AssignMessage)[0]
    assert (message.agent, message.number) == ("bee", 1)
    assert message.attempt_id != lost
    assert not bench.effects.writes.waits


def test_an_attempt_that_was_lost_before_it_started_has_no_start():
    bench = running()
    agent, attempt_id = bench.holder("a")
    bench.step(Finished(agent, attempt_id, AttemptState.LOST, 0, 99, None, 9, 0, 0, "stopped"))
    assert bench.effects.writes.done[0].started_us is None
    assert bench.tasks() == {"a": "READY"}


def test_a_lost_attempt_keeps_its_number_after_a_takeover():
    bench = running(retry=retries(3))
    bench.fail("a")
    bench.wait(1_000)
    bench.step(bench.result("a", AttemptState.LOST))
    bench.gone()
    bench.recover()
    bench.agent()
    assert [message.number for message in bench.of(AssignMessage)] == [2]


def test_an_attempt_lost_in_a_run_that_is_stopped_ends_as_cancelled():
    bench = running(retry=retries(3))
    bench.started("a")
    bench.cancel()
    bench.step(bench.result("a", AttemptState.LOST))
    assert bench.effects.writes.done[0].state is AttemptState.LOST
    assert bench.state() is RunState.CANCELLED
    assert bench.tasks() == {"a": "CANCELLED"}


# Given up


def test_attempts_of_an_agent_that_is_gone_stay_live():
    bench = running({"a": "", "b": "a"})
    bench.gone()
    bench.wait(LOST_MS)
    assert bench.tasks() == {"a": "ASSIGNED", "b": "WAITING"}
    bench.finish("a")
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "READY"}


@pytest.mark.parametrize("state", [AttemptState.SUCCEEDED, AttemptState.FAILED])
def test_a_result_of_an_attempt_that_the_agent_was_told_to_stop_counts(state):
    bench = running({"a": "", "b": "a"})
    bench.cancel()
    bench.step(bench.result("a", state))
    assert bench.tasks()["a"] == state.name
    assert bench.state() is RunState.CANCELLED


def gone_for(bench, ms):
    """The agent is away; what it had would say that it succeeded."""
    bench.gone()
    bench.wait(ms)


def test_an_attempt_of_a_silent_agent_is_given_up_and_its_task_is_ready_again():
    bench = running()
    _, given_up = bench.holder("a")
    bench.started("a")
    gone_for(bench, LOST_MS)
    assert bench.tasks() == {"a": "RUNNING"}
    began_us = NOON_US
    bench.wait(1)
    done = bench.effects.writes.done[0]
    assert (done.attempt_id, done.state, done.started_us) == (given_up, AttemptState.LOST, began_us)
    assert (done.finished_us, done.message) == (bench.now.wall_us, SILENT)
    assert bench.effects.messages == []
    assert bench.tasks() == {"a": "READY"}
    assert bench.fleet.rooms() == ()
    bench.agent("bee")
    message = bench.of(AssignMessage)[0]
    assert (message.number, message.attempt_id != given_up) == (1, True)


def test_giving_up_uses_up_no_try():
    bench = running(retry=retries(2))
    bench.fail("a")
    bench.wait(1_000)
    gone_for(bench, LOST_MS + 1)
    bench.agent("bee")
    assert [message.number for message in bench.of(AssignMessage)] == [2]
    bench.fail("a")
    assert bench.tasks() == {"a": "FAILED"}


@pytest.mark.parametrize("stop", ["cancel", "timeout"])
def test_a_run_that_is_stopped_ends_although_its_agent_never_comes_back(stop):
    bench = running({"a": "", "b": "a"}, run_timeout_ms=1_000 * (stop == "timeout"), once=["a"])
    bench.gone()
    if stop == "cancel":
        bench.cancel()
    bench.wait(LOST_MS + 1)
    bench.settle()
    assert bench.state() is (RunState.CANCELLED if stop == "cancel" else RunState.FAILED)
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert [row.state for row in bench.store.history] == [AttemptState.LOST]


def test_what_must_not_run_twice_waits_for_an_approval():
    bench = running(once=["a"], retry=retries(3))
    gone_for(bench, LOST_MS + 1)
    assert [row.state for row in bench.effects.writes.done] == [AttemptState.UNKNOWN]
    wait = bench.effects.writes.waits[0]
    assert (wait.kind, wait.due_us, wait.number) == (WaitKind.APPROVAL, bench.now.wall_us, 1)
    assert wait.reason == f"the outcome of attempt 1 is unknown: {SILENT}"
    bench.agent("bee")
    assert bench.assigned == []
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}
    assert bench.at_rest


def lost_report(bench, started_us):
    agent, attempt_id = bench.holder("a")
    at_us = bench.now.wall_us
    return Finished(
        agent, attempt_id, AttemptState.LOST, started_us, at_us, None, 9, 0, 0, "fenced"
    )


def test_what_surely_never_started_may_run_although_it_must_not_run_twice():
    bench = running(once=["a"])
    bench.step(lost_report(bench, 0))
    assert [row.state for row in bench.effects.writes.done] == [AttemptState.LOST]
    assert bench.tasks() == {"a": "READY"}


@pytest.mark.parametrize("told", ["before", "now"])
def test_what_was_fenced_after_its_start_is_unknown_if_it_must_not_run_twice(told):
    bench = running(once=["a"])
    if told == "before":
        bench.started("a")
    bench.step(lost_report(bench, 77 * (told == "now")))
    assert [row.state for row in bench.effects.writes.done] == [AttemptState.UNKNOWN]
    assert bench.effects.writes.waits[0].reason == "the outcome of attempt 1 is unknown: fenced"
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}


def test_a_refusal_after_a_start_is_unknown_if_it_must_not_run_twice():
    bench = running(once=["a"])
    bench.started("a")
    bench.reject("a", "lost it")
    assert [row.state for row in bench.effects.writes.done] == [AttemptState.UNKNOWN]
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}


def test_a_known_failure_is_tried_again_although_it_must_not_run_twice():
    bench = running(once=["a"], retry=retries(2))
    bench.fail("a")
    assert bench.tasks() == {"a": "BACKOFF"}


def test_a_wall_clock_that_was_set_gives_nothing_up():
    bench = running()
    bench.gone()
    for hour_us in (3_600_000_000, -7_200_000_000):
        bench.now = Now(bench.now.wall_us + hour_us, bench.now.mono_ms + 1_000)
        bench.step()
    assert bench.tasks() == {"a": "ASSIGNED"}
    bench.now = Now(bench.now.wall_us, bench.now.mono_ms - 2_000 + LOST_MS + 1)
    bench.step()
    assert bench.tasks() == {"a": "READY"}


# Late


def test_a_late_success_of_a_ready_task_is_adopted():
    bench = running({"a": "", "b": "a"})
    report = bench.result("a")
    gone_for(bench, LOST_MS + 1)
    assert [each.tasks for each in bench.shard.want] == [1]
    bench.connect()
    bench.inventory(live={}, finished=[report])
    row = bench.effects.writes.late[0]
    assert (row.attempt_id, row.state, row.adopted) == (report.attempt_id, report.state, True)
    assert (row.started_us, row.finished_us) == (report.started_us, report.finished_us)
    assert row.reported_us == bench.now.wall_us
    assert bench.acknowledged == [report.attempt_id]
    assert bench.assigned == ["b"], "the entry of the queue is out of date"
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "ASSIGNED"}
    assert not bench.shard.want


def test_a_late_result_is_recorded_when_the_run_is_final_too():
    bench = running()
    report = bench.result("a")
    bench.cancel()
    gone_for(bench, LOST_MS + 1)
    assert bench.state() is RunState.CANCELLED
    bench.step(report)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]
    assert bench.state() is RunState.CANCELLED


def test_a_late_success_may_end_the_run():
    bench = running()
    report = bench.result("a")
    gone_for(bench, LOST_MS + 1)
    bench.step(report)
    assert bench.state() is RunState.SUCCEEDED
    assert bench.store.history[0].state is AttemptState.LOST
    assert len(bench.shard._book.late) == 0


def test_a_success_that_comes_with_the_end_of_the_lease_is_adopted_in_the_same_step():
    bench = running({"a": "", "b": "a"}, once=["a"])
    report = bench.result("a")
    bench.agent("bee")
    bench.now = Now(bench.now.wall_us + 1_000, bench.now.mono_ms + LOST_MS + 1)
    effects = bench.step(report)
    assert [row.state for row in effects.writes.done] == [AttemptState.UNKNOWN]
    assert bench.late == [(AttemptState.SUCCEEDED, True)]
    assert (effects.writes.waits, effects.writes.waits_gone) == ([], [])
    assert bench.assigned == ["b"]


def test_a_late_success_answers_the_approval():
    bench = running({"a": "", "b": "a"}, once=["a"])
    report = bench.result("a")
    gone_for(bench, LOST_MS + 1)
    bench.step(report)
    assert bench.late == [(AttemptState.SUCCEEDED, True)]
    assert [row.kind for row in bench.effects.writes.waits_gone] == [WaitKind.APPROVAL]
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "READY"}


def test_a_late_success_after_the_next_attempt_was_assigned_is_only_recorded():
    bench = running()
    report = bench.result("a")
    gone_for(bench, LOST_MS + 1)
    bench.agent("bee")
    bench.step(report)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]
    assert bench.tasks() == {"a": "ASSIGNED"}
    bench.reject("a")
    assert bench.tasks() == {"a": "READY"}
    bench.step(report)
    assert (bench.late, bench.acknowledged) == ([], [report.attempt_id])
    assert bench.tasks() == {"a": "READY"}


def test_a_late_success_of_an_older_attempt_does_not_count_when_the_newer_is_lost_too():
    bench = running(once=["a"])
    older = bench.result("a")
    gone_for(bench, LOST_MS + 1)
    bench.decide("a", approved=True)
    bench.agent("bee")
    newer = bench.result("a")
    bench.gone("bee")
    bench.wait(LOST_MS + 1)
    bench.step(older)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}
    bench.step(newer)
    assert bench.state() is RunState.SUCCEEDED


@pytest.mark.parametrize("state", [AttemptState.FAILED, AttemptState.LOST, AttemptState.CANCELLED])
def test_a_late_end_that_is_no_success_is_only_recorded(state):
    bench = running(once=["a"])
    report = bench.result("a", state)
    gone_for(bench, LOST_MS + 1)
    bench.step(report)
    assert bench.late == [(state, False)]
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}


def test_two_late_results_of_one_attempt_count_once():
    bench = running({"a": "", "b": "", "c": "a"}, once=["a", "b"])
    a, b = bench.result("a"), bench.result("b", AttemptState.FAILED)
    gone_for(bench, LOST_MS + 1)
    bench.step(a, a, b, b)
    assert bench.late == [(AttemptState.SUCCEEDED, True), (AttemptState.FAILED, False)]
    assert bench.acknowledged == [a.attempt_id, a.attempt_id, b.attempt_id, b.attempt_id]
    bench.step(a, b)
    assert not bench.effects.writes
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "AWAITING_APPROVAL", "c": "READY"}


def test_a_late_success_in_a_run_that_is_being_stopped_is_only_recorded():
    bench = running({"a": "", "b": ""})
    report = bench.result("a")
    gone_for(bench, LOST_MS + 1)
    bench.agent("bee", cores(1))
    bench.decide("b", approved=True)
    bench.cancel()
    bench.step(report)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]
    assert bench.state() is RunState.CANCELLING


def test_a_refusal_of_an_attempt_that_was_given_up_changes_nothing():
    bench = running(once=["a"])
    holder = bench.holder("a")
    gone_for(bench, LOST_MS + 1)
    assert not bench.step(Rejected(*holder, "the lease is over")).writes
    assert not bench.step(Started(*holder, 5)).writes
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}


def test_what_runs_on_after_it_was_given_up_is_stopped_when_its_agent_is_back():
    """Retried at the end of the lease, while the process runs on: its result comes late."""
    bench = running(disconnect={"a": (OnDisconnect.RETRY, 3_600_000)})
    agent, attempt_id = bench.holder("a")
    bench.started("a")
    bench.gone()
    bench.agent("bee")
    bench.wait(LEASES.lease_ms)
    assert bench.tasks() == {"a": "RUNNING"}
    bench.wait(1)
    assert [message.agent for message in bench.of(AssignMessage)] == ["bee"]
    bench.connect()
    bench.inventory(live={attempt_id: NOON_US})
    assert bench.cancelled == [attempt_id]
    bench.step(finished(agent, attempt_id, AttemptState.CANCELLED, bench.now.wall_us))
    assert bench.late == [(AttemptState.CANCELLED, False)]
    bench.finish("a")
    assert bench.state() is RunState.SUCCEEDED
