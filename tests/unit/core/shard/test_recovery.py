"""A new leader goes on where the rows say that the last one was."""

from __future__ import annotations

import pytest

from controlplane.core.effects import AssignMessage, WaitKind
from controlplane.core.shard.admission import REFUSAL_PAUSE_MS
from controlplane.core.shard.attempts import STARTED_AFTER_MS
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.deadlines import Now
from tests.unit.core.bench import LEASES, LOST_MS, ShardBench, cores, dag, retries


def running(parents, **options):
    bench = ShardBench()
    bench.agent()
    bench.start(dag(parents, **options))
    return bench


def back(bench, *agents):
    """Another leader takes over and the agents tell it what they hold."""
    bench.recover()
    for agent in agents or ("ant",):
        bench.inventory(agent)


def test_recovering_writes_and_sends_nothing():
    bench = running({"a": "", "b": "a"})
    bench.recover()
    effects = bench.step()
    assert not effects.writes
    assert effects.messages == []


def test_a_diamond_goes_on_in_the_middle():
    bench = running({"a": "", "b": "a", "c": "a", "d": "b c"})
    bench.finish("a")
    bench.finish("b")
    back(bench)
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "ASSIGNED", "d": "WAITING"}
    bench.finish("c")
    assert bench.assigned == ["d"]
    bench.finish("d")
    assert bench.state() is RunState.SUCCEEDED


def test_failures_are_remembered():
    bench = running({"a": "", "b": "a", "c": ""})
    bench.fail("a")
    back(bench)
    bench.finish("c")
    assert bench.state() is RunState.FAILED


def test_an_attempt_that_the_agent_never_saw_keeps_its_id():
    bench = running({"a": ""})
    _, attempt_id = bench.holder("a")
    bench.held.clear()
    back(bench)
    assert [message.attempt_id for message in bench.of(AssignMessage)] == [attempt_id]


def test_live_attempts_are_charged_to_their_agents():
    bench = running(dict.fromkeys("abc", ""))
    back(bench)
    assert bench.fleet.room("ant").free == cores(1, 16)
    bench.finish("a")
    assert bench.fleet.room("ant").free == cores(2, 16)


def test_ready_tasks_wait_for_the_agents_and_then_go():
    bench = ShardBench()
    bench.start(dag({"a": "", "b": ""}))
    bench.recover()
    assert bench.shard.next_deadline() == bench.now.mono_ms
    bench.step()
    assert bench.shard.next_deadline() is None
    bench.agent()
    assert bench.assigned == ["a", "b"]


def test_a_backoff_keeps_its_instant_and_its_number():
    bench = running({"a": ""}, retry=retries(3))
    bench.fail("a")
    bench.wait(400)
    back(bench)
    bench.wait(599)
    assert bench.assigned == []
    bench.wait(1)
    assert [message.number for message in bench.of(AssignMessage)] == [2]


def test_a_backoff_that_ended_without_a_leader_is_over_at_once():
    bench = running({"a": ""}, retry=retries(3))
    bench.fail("a")
    bench.now = Now(bench.now.wall_us + 9_000_000, bench.now.mono_ms + 9_000)
    back(bench)
    assert bench.assigned == ["a"]


def test_numbers_go_on_where_they_were():
    bench = running({"a": ""}, retry=retries(3))
    bench.fail("a")
    bench.wait(1_000)
    back(bench)
    bench.fail("a")
    assert bench.effects.writes.waits[0].number == 3


def test_a_refused_attempt_is_tried_again_under_its_number():
    bench = running({"a": ""}, retry=retries(3))
    bench.fail("a")
    bench.wait(1_000)
    bench.reject("a")
    back(bench)
    assert [message.number for message in bench.of(AssignMessage)] == [2]


def test_a_refusal_before_a_live_attempt_is_history():
    bench = running({"a": ""}, retry=retries(2))
    bench.reject("a")
    bench.wait(REFUSAL_PAUSE_MS)
    back(bench)
    bench.fail("a")
    assert bench.effects.writes.waits[0].number == 2


def test_a_start_that_was_stored_is_known_and_one_that_was_not_is_told_again():
    bench = running({"a": "", "b": ""})
    bench.started("a")
    bench.wait(STARTED_AFTER_MS)
    bench.started("b")
    bench.recover()
    assert bench.tasks() == {"a": "RUNNING", "b": "ASSIGNED"}
    bench.started("b")
    assert bench.tasks() == {"a": "RUNNING", "b": "RUNNING"}


def test_queued_runs_stay_in_their_order():
    bench = running({"a": ""}, max_active_runs=1)
    first, second, third = bench.run_id, bench.trigger(), bench.trigger()
    back(bench)
    bench.finish("a", run_id=first)
    bench.finish("a", run_id=second)
    assert bench.state(third) is RunState.RUNNING


def test_a_run_that_was_being_cancelled_is_cancelled():
    bench = running({"a": "", "b": "", "c": "a b"})
    bench.cancel(reason="by hand")
    _, attempt_id = bench.holder("b")
    bench.finish("a")
    back(bench)
    assert bench.cancelled == [attempt_id]
    bench.stopped("b")
    assert bench.state() is RunState.CANCELLED
    assert bench.reason() == "by hand"
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "CANCELLED", "c": "CANCELLED"}


def test_the_timeout_of_a_run_goes_on_from_its_beginning():
    bench = running({"a": ""}, run_timeout_ms=10_000)
    bench.wait(9_000)
    back(bench)
    bench.wait(999)
    assert bench.state() is RunState.RUNNING
    bench.wait(1)
    assert bench.state() is RunState.TIMING_OUT


def test_the_age_of_ready_tasks_survives():
    bench = running({"a": "", "b": "a", "x": ""}, requests={"a": cores(2), "x": cores(2)})
    young = bench.trigger()
    old = next(row.run_id for row in bench.store.runs.values() if row.run_id != young)
    bench.gone()
    bench.wait(1_000)
    bench.finish("a", run_id=old)
    bench.wait(1_000)
    bench.recover()
    bench.held.clear()
    bench.agent(size=cores(64))
    ready = [(message.run_id == old, message.task) for message in bench.of(AssignMessage)]
    assert ready == [(True, "x"), (False, "a"), (False, "x"), (True, "b")]


def test_schedules_pauses_and_revisions_are_kept():
    bench = ShardBench()
    bench.apply(dag({"a": ""}, schedules={"hourly": "cron UTC 30 * * * *"}))
    bench.pause()
    before = dict(bench.store.dags)
    bench.recover()
    bench.pause()
    assert bench.store.dags == before
    bench.pause(paused=False)
    bench.wait(3_600_000)
    assert len(bench.effects.writes.instants) == 1


def test_a_version_that_is_not_in_memory_is_asked_for():
    bench = ShardBench()
    version = dag({"a": ""})
    bench.apply(version)
    bench.recover()
    triggering = bench.triggering()
    assert bench.shard.missing_versions([triggering]) == {(version.key, version.digest)}
    bench.step(triggering)
    assert bench.state() is RunState.RUNNING
    assert bench.shard.missing_versions([bench.triggering()]) == set()


def test_a_version_is_asked_for_although_another_may_be_applied_before():
    """The apply may be refused, and then the run is of the version before it."""
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    bench.recover()
    bench.step(bench.applying(dag({"b": ""}), etag="stale"), bench.triggering())
    assert bench.tasks() == {"a": "READY"}


def test_a_shard_without_a_past_is_empty():
    bench = ShardBench()
    bench.recover()
    assert bench.shard.live_runs == 0
    assert bench.shard.next_deadline() is None


# Given up, in doubt, late


def doubtful(parents, **options):
    """A run whose task `a` waits for an approval; its agent is away."""
    bench = running(parents, once=["a"], **options)
    report = bench.result("a")
    bench.gone()
    bench.wait(LOST_MS + 1)
    return bench, report


def test_an_approval_is_still_asked_for_and_its_answer_goes_on_with_the_number():
    bench, _ = doubtful({"a": "", "b": "a"}, retry=retries(2))
    bench.recover()
    bench.agent("bee")
    assert (bench.assigned, bench.timers) == ([], [])
    assert bench.tasks() == {"a": "AWAITING_APPROVAL", "b": "WAITING"}
    bench.decide("a", approved=True)
    assert [message.number for message in bench.of(AssignMessage)] == [1]
    assert not bench.store.waits


def test_an_approved_task_that_found_no_place_is_ready_under_its_number():
    bench, report = doubtful({"a": ""}, retry=retries(2))
    bench.decide("a", approved=True)
    bench.recover()
    assert bench.tasks() == {"a": "READY"}
    bench.agent("bee")
    assert [message.number for message in bench.of(AssignMessage)] == [1]
    bench.step(report)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]


def test_a_mark_is_remembered():
    bench, _ = doubtful({"a": "", "b": "a", "x": ""})
    bench.decide("a", approved=False)
    bench.recover()
    assert bench.tasks() == {"a": "FAILED", "b": "UPSTREAM_FAILED", "x": "READY"}
    bench.agent("bee")
    bench.finish("x")
    assert bench.state() is RunState.FAILED
    assert [row.kind for row in bench.store.waits.values()] == [WaitKind.MARK]
    bench.recover()
    assert bench.shard.live_runs == 0


@pytest.mark.parametrize("once", [["a"], []])
def test_a_late_success_is_adopted_by_the_next_leader(once):
    bench = running({"a": "", "b": "a"}, once=once)
    report = bench.result("a")
    bench.gone()
    bench.wait(LOST_MS + 1)
    bench.recover()
    bench.connect()
    bench.inventory(live={}, finished=[report])
    assert bench.late == [(AttemptState.SUCCEEDED, True)]
    assert bench.assigned == ["b"]


def test_a_late_success_that_was_adopted_is_known_to_the_next_leader():
    bench, report = doubtful({"a": "", "b": "a"})
    bench.step(report)
    bench.recover()
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "READY"}
    bench.step(report)
    assert (bench.late, bench.acknowledged) == ([], [report.attempt_id])


def test_a_late_success_while_a_newer_attempt_is_live_changes_nothing_after_a_takeover():
    bench = running({"a": ""})
    report = bench.result("a")
    bench.gone()
    bench.wait(LOST_MS + 1)
    bench.agent("bee")
    back(bench, "bee")
    bench.step(report)
    assert bench.late == [(AttemptState.SUCCEEDED, False)]
    bench.reject("a")
    bench.step(report)
    assert bench.late == []
    assert bench.tasks() == {"a": "READY"}


def test_the_doubt_of_a_run_that_was_being_cancelled_is_gone():
    bench = running({"a": "", "b": ""}, once=["a"])
    bench.step(bench.result("a", AttemptState.LOST))
    assert bench.tasks()["a"] == "AWAITING_APPROVAL"
    bench.gone()
    bench.cancel()
    bench.recover()
    assert bench.tasks() == {"a": "READY", "b": "ASSIGNED"}
    bench.wait(LEASES.authority_ms + LOST_MS + 1)
    assert bench.state() is RunState.CANCELLED
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}


def test_attempts_of_agents_that_never_come_back_are_given_up():
    bench = running({"a": ""})
    bench.wait(LOST_MS)
    bench.recover()
    bench.agent("bee")
    bench.wait(LEASES.authority_ms + LOST_MS)
    assert bench.assigned == []
    bench.wait(1)
    assert bench.assigned == ["a"]
