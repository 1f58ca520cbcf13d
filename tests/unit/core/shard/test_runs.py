"""When runs begin, how they are stopped, when they are final."""

from __future__ import annotations

from controlplane.core.effects import CommandOutcome
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import DagKey
from tests.unit.core.bench import ShardBench, dag, retries


def running(parents=None, **options):
    bench = ShardBench()
    bench.agent()
    bench.start(dag(parents or {"a": ""}, **options))
    return bench


def queueing(limit=1, runs=3):
    """Runs of a DAG that has a limit; the first `limit` of them are running."""
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": ""}, max_active_runs=limit))
    return bench, [bench.trigger() for _ in range(runs)]


def states(bench, runs):
    return [bench.state(run).name for run in runs]


def test_a_run_begins_with_its_roots():
    bench = running({"a": "", "b": "", "c": "a b"})
    row = bench.effects.writes.runs[0]
    assert row.run_id == bench.run_id
    assert row.state is RunState.RUNNING
    assert row.started_us == row.created_us == bench.now.wall_us
    assert bench.tasks() == {"a": "ASSIGNED", "b": "ASSIGNED", "c": "WAITING"}


def test_a_run_in_which_all_succeeded_has_succeeded():
    bench = running({"a": "", "b": "a"})
    bench.finish("a")
    bench.wait(50)
    effects = bench.finish("b")
    change = effects.writes.run_changes[0]
    assert (change.state, change.finished_us) == (RunState.SUCCEEDED, bench.now.wall_us)
    assert effects.writes.sealed[0].states == bytes([6, 6])
    assert bench.shard.live_runs == 0


def test_one_failure_fails_the_run_when_the_rest_is_done():
    bench = running({"a": "", "b": "", "c": "a"})
    bench.fail("a")
    assert bench.state() is RunState.RUNNING
    bench.finish("b")
    assert bench.state() is RunState.FAILED
    assert bench.tasks() == {"a": "FAILED", "b": "SUCCEEDED", "c": "UPSTREAM_FAILED"}


def test_cleaning_up_after_a_failure_does_not_make_it_a_success():
    bench = running({"a": "", "clean": "a"}, after_all=["clean"])
    bench.fail("a")
    bench.finish("clean")
    assert bench.state() is RunState.FAILED


def test_runs_beyond_the_limit_queue_and_follow_in_order():
    bench, runs = queueing()
    assert states(bench, runs) == ["RUNNING", "QUEUED", "QUEUED"]
    assert bench.tasks(runs[1]) == {"a": "WAITING"}
    bench.wait(10)
    bench.finish("a", run_id=runs[0])
    assert states(bench, runs) == ["SUCCEEDED", "RUNNING", "QUEUED"]
    assert bench.row(runs[1]).started_us == bench.now.wall_us
    bench.finish("a", run_id=runs[1])
    assert states(bench, runs) == ["SUCCEEDED", "SUCCEEDED", "RUNNING"]


def test_a_higher_limit_lets_queued_runs_begin():
    bench, runs = queueing(limit=1, runs=4)
    bench.apply(dag({"a": ""}, max_active_runs=3))
    assert states(bench, runs) == ["RUNNING", "RUNNING", "RUNNING", "QUEUED"]
    bench.apply(dag({"a": ""}))
    assert states(bench, runs) == ["RUNNING"] * 4


def test_a_lower_limit_starts_nothing_until_there_is_place():
    bench, runs = queueing(limit=2, runs=4)
    bench.apply(dag({"a": ""}, max_active_runs=1))
    bench.finish("a", run_id=runs[0])
    assert states(bench, runs) == ["SUCCEEDED", "RUNNING", "QUEUED", "QUEUED"]
    bench.finish("a", run_id=runs[1])
    assert states(bench, runs) == ["SUCCEEDED", "SUCCEEDED", "RUNNING", "QUEUED"]


def test_a_queued_run_goes_by_its_own_limit_until_the_current_one_is_known():
    bench, runs = queueing(limit=1, runs=2)
    bench.shard._book.dags[DagKey("acme", "etl")].version = None
    bench.finish("a", run_id=runs[0])
    assert states(bench, runs) == ["SUCCEEDED", "RUNNING"]


def test_a_queued_run_keeps_the_version_that_it_was_made_of():
    bench, runs = queueing(limit=1, runs=2)
    bench.apply(dag({"z": ""}, max_active_runs=1))
    bench.finish("a", run_id=runs[0])
    assert bench.tasks(runs[1]) == {"a": "ASSIGNED"}


def test_cancelling_a_queued_run_ends_it_at_once():
    bench, runs = queueing(runs=3)
    bench.cancel(runs[1], "too many")
    assert states(bench, runs) == ["RUNNING", "CANCELLED", "QUEUED"]
    assert bench.reason(runs[1]) == "too many"
    assert bench.tasks(runs[1]) == {"a": "CANCELLED"}
    bench.finish("a", run_id=runs[0])
    assert states(bench, runs) == ["SUCCEEDED", "CANCELLED", "RUNNING"]


def test_a_cancelled_run_makes_place_for_the_next():
    bench, runs = queueing(runs=2)
    bench.cancel(runs[0])
    assert states(bench, runs) == ["CANCELLING", "QUEUED"]
    bench.finish("a", run_id=runs[0])
    assert states(bench, runs) == ["CANCELLED", "RUNNING"]


def test_a_run_without_live_attempts_is_cancelled_at_once():
    bench = ShardBench()
    bench.start(dag({"a": "", "b": "a"}))
    bench.cancel(reason="wrong input")
    assert bench.state() is RunState.CANCELLED
    assert bench.reason() == "wrong input"
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}
    bench.agent()
    assert bench.assigned == []


def test_a_run_with_live_attempts_is_cancelled_when_they_have_ended():
    bench = running({"a": "", "b": "", "c": "a", "d": "b"})
    _, first = bench.holder("a")
    _, second = bench.holder("b")
    bench.cancel()
    assert sorted(bench.cancelled) == sorted([first, second])
    assert bench.state() is RunState.CANCELLING
    bench.finish("a")
    assert bench.assigned == []
    assert bench.state() is RunState.CANCELLING
    bench.stopped("b")
    assert bench.state() is RunState.CANCELLED
    assert bench.tasks() == {
        "a": "SUCCEEDED",
        "b": "CANCELLED",
        "c": "CANCELLED",
        "d": "CANCELLED",
    }


def test_a_backoff_ends_with_the_cancellation():
    bench = running({"a": "", "b": ""}, retry=retries(3))
    bench.fail("a")
    bench.cancel()
    assert len(bench.effects.writes.waits_gone) == 1
    assert not bench.store.waits
    bench.fail("b")
    assert not bench.effects.writes.waits
    assert bench.state() is RunState.CANCELLED
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}
    bench.wait(60_000)
    assert bench.assigned == []


def test_a_backoff_that_is_over_but_found_no_place_ends_with_the_cancellation():
    bench = running(retry=retries(3))
    bench.fail("a")
    bench.gone()
    bench.wait(1_000)
    bench.cancel()
    assert bench.state() is RunState.CANCELLED
    assert not bench.store.waits


def test_a_failure_and_a_cancellation_in_one_step_leave_no_wait_behind():
    bench = running(retry=retries(3))
    effects = bench.step(bench.result("a", AttemptState.FAILED), bench.cancelling())
    assert (effects.writes.waits, effects.writes.waits_gone) == ([], [])
    assert bench.state() is RunState.CANCELLED


def test_a_last_failure_during_a_cancellation_is_final():
    bench = running({"a": "", "b": "a", "c": "b"})
    bench.cancel()
    bench.fail("a")
    assert bench.tasks() == {"a": "FAILED", "b": "UPSTREAM_FAILED", "c": "UPSTREAM_FAILED"}
    assert bench.state() is RunState.CANCELLED


def test_a_cancellation_that_meets_the_last_result_comes_too_late():
    bench = running()
    cancelling = bench.cancelling()
    bench.step(bench.result("a"), cancelling)
    assert bench.state() is RunState.SUCCEEDED
    assert bench.store.applied[cancelling.command].outcome is CommandOutcome.REFUSED


def test_a_run_that_takes_too_long_is_stopped_and_has_failed():
    bench = running({"a": "", "b": "a"}, run_timeout_ms=90_000)
    _, attempt_id = bench.holder("a")
    bench.wait(89_999)
    assert bench.state() is RunState.RUNNING
    bench.wait(1)
    assert bench.state() is RunState.TIMING_OUT
    assert bench.reason() == "the run took longer than its timeout of 90 s"
    assert bench.cancelled == [attempt_id]
    bench.stopped("a")
    assert bench.state() is RunState.FAILED
    assert bench.tasks() == {"a": "CANCELLED", "b": "CANCELLED"}


def test_a_run_that_ends_in_time_has_no_timer_left():
    bench = running(run_timeout_ms=90_000)
    bench.finish("a")
    assert bench.at_rest


def test_the_timeout_counts_from_the_beginning_not_from_the_queue():
    bench, runs = queueing(runs=0)
    bench.apply(dag({"a": ""}, max_active_runs=1, run_timeout_ms=1_000))
    runs = [bench.trigger(), bench.trigger()]
    bench.wait(900)
    bench.finish("a", run_id=runs[0])
    bench.wait(900)
    assert states(bench, runs) == ["SUCCEEDED", "RUNNING"]
    bench.wait(100)
    assert states(bench, runs) == ["SUCCEEDED", "TIMING_OUT"]


def test_the_timeout_of_a_run_that_is_being_cancelled_changes_nothing():
    bench = running(run_timeout_ms=1_000)
    bench.cancel(reason="by hand")
    bench.wait(1_000)
    assert bench.state() is RunState.CANCELLING
    assert bench.reason() == "by hand"


def test_a_run_triggered_and_cancelled_in_one_step_never_starts():
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": ""}))
    triggering = bench.triggering()
    bench.step(triggering, bench.cancelling())
    assert bench.assigned == []
    assert bench.state() is RunState.CANCELLED
