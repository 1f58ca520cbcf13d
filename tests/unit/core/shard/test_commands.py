"""What a command does, and the one row that says what became of it."""

from __future__ import annotations

from controlplane.core.effects import CommandOutcome
from controlplane.core.states import RunState
from tests.unit.core.bench import ShardBench, dag

APPLIED, NOT_FOUND = CommandOutcome.APPLIED, CommandOutcome.NOT_FOUND
CONFLICT, REFUSED = CommandOutcome.CONFLICT, CommandOutcome.REFUSED


def answer(row):
    return row.outcome, row.detail


def head(bench):
    return next(iter(bench.store.dags.values()))


def test_a_new_dag_is_created():
    bench = ShardBench()
    version = dag({"a": "", "b": "a"})
    assert answer(bench.apply(version)) == (APPLIED, "created")
    row = head(bench)
    assert (row.dag, row.digest, row.task_count, row.revision) == ("etl", version.digest, 2, 1)
    assert row.created_us == row.updated_us == bench.now.wall_us
    assert [row.digest for row in bench.effects.writes.versions] == [version.digest]


def test_another_version_changes_the_dag():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    created_us = bench.now.wall_us
    bench.wait(5)
    assert answer(bench.apply(dag({"b": ""}))) == (APPLIED, "changed")
    row = head(bench)
    assert (row.revision, row.created_us, row.updated_us) == (2, created_us, bench.now.wall_us)


def test_the_same_version_changes_nothing():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    assert answer(bench.apply(dag({"a": ""}))) == (APPLIED, "unchanged")
    assert not bench.effects.writes.dags
    assert not bench.effects.writes.versions


def test_an_etag_of_the_present_is_accepted():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    assert answer(bench.apply(dag({"b": ""}), etag="1")) == (APPLIED, "changed")


def test_an_etag_of_the_past_is_a_conflict():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    bench.apply(dag({"b": ""}))
    assert answer(bench.apply(dag({"c": ""}), etag="1")) == (
        CONFLICT,
        "the etag was '1', it is '2' now; read the DAG again and decide anew",
    )
    assert head(bench).task_count == 1
    assert not bench.effects.writes.dags


def test_an_etag_of_nothing_is_a_conflict():
    bench = ShardBench()
    assert answer(bench.apply(dag({"a": ""}), etag="1")) == (
        CONFLICT,
        "the etag was '1', it does not exist; read the DAG again and decide anew",
    )


def test_two_versions_in_one_step_write_the_last_head():
    bench = ShardBench()
    first, second = dag({"a": ""}), dag({"b": ""})
    effects = bench.step(bench.applying(first), bench.applying(second))
    assert [(row.digest, row.revision) for row in effects.writes.dags] == [(second.digest, 2)]
    assert [row.digest for row in effects.writes.versions] == [first.digest, second.digest]


def test_a_trigger_makes_a_run_of_the_current_version():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    version = dag({"b": ""})
    bench.apply(version)
    triggering = bench.triggering()
    assert answer(bench.command(triggering)) == (APPLIED, "")
    row = bench.effects.writes.runs[0]
    assert (row.digest, row.logical_us) == (version.digest, triggering.logical_us)


def test_a_run_that_has_begun_keeps_its_version():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": "", "b": "a"}))
    bench.apply(dag({"c": ""}))
    bench.finish("a")
    assert bench.assigned == ["b"]


def test_a_trigger_of_a_dag_that_does_not_exist_is_answered():
    bench = ShardBench()
    row = bench.command(bench.triggering("ghost"))
    assert answer(row) == (NOT_FOUND, "there is no DAG 'ghost'")


def test_cancelling_twice_is_acknowledged_twice():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": ""}))
    _, attempt_id = bench.holder("a")
    assert answer(bench.cancel(reason="first")) == (APPLIED, "")
    assert answer(bench.cancel(reason="second")) == (APPLIED, "")
    assert bench.cancelled == [attempt_id], "it may be its agent that was away"
    assert bench.reason() == "first"


def test_a_run_that_is_final_cannot_be_cancelled():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": ""}))
    bench.finish("a")
    assert answer(bench.cancel()) == (REFUSED, "the run is final already")
    assert bench.state() is RunState.SUCCEEDED


def test_a_run_that_has_reached_its_timeout_cannot_be_cancelled():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": ""}, run_timeout_ms=10))
    bench.wait(10)
    assert answer(bench.cancel()) == (
        REFUSED,
        "the run has reached its timeout and is being stopped",
    )


def test_pausing_and_resuming_are_kept_with_the_reason():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    assert answer(bench.pause()) == (APPLIED, "")
    assert (head(bench).paused, head(bench).pause_reason) == (True, "maintenance")
    bench.pause(paused=False)
    assert (head(bench).paused, head(bench).revision) == (False, 3)


def test_pausing_twice_changes_nothing():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    bench.pause()
    assert answer(bench.pause()) == (APPLIED, "")
    assert not bench.effects.writes.dags


def test_pausing_what_does_not_exist_is_answered():
    row = ShardBench().pause(name="ghost")
    assert answer(row) == (NOT_FOUND, "there is no DAG 'ghost'")


def test_a_paused_dag_can_still_be_triggered():
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": ""}))
    bench.pause()
    bench.trigger()
    assert bench.assigned == ["a"]
