"""The life of attempts: placed, started, ended, tried again, refused, adopted."""

from __future__ import annotations

import pytest

from controlplane.core.effects import AssignMessage, WaitKind
from controlplane.core.events import Finished, Rejected, Started
from controlplane.core.shard.admission import REFUSAL_PAUSE_MS
from controlplane.core.shard.attempts import STARTED_AFTER_MS
from controlplane.core.shard.outcomes import UNASKED
from controlplane.core.states import AttemptState, RunState
from tests.unit.core.bench import LOST_MS, ShardBench, cores, dag, finished, retries


def running(parents=None, **options):
    """A bench with one agent of four cores and a run that has begun."""
    bench = ShardBench()
    bench.agent()
    bench.start(dag(parents or {"a": ""}, **options))
    return bench


# Placed


def test_an_assignment_carries_all_that_the_agent_needs():
    bench = running()
    agent, attempt_id = bench.holder("a")
    assert bench.of(AssignMessage) == [
        AssignMessage(
            "ant",
            b"life-1-of-ant",
            attempt_id,
            1,
            "acme",
            "etl",
            bench.run_id,
            "a",
            bench.now.wall_us,
            b"run a",
        )
    ]
    live = bench.effects.writes.live[0]
    assert (live.agent, live.attempt_id, live.number) == (agent, attempt_id, 1)


def test_a_result_and_the_next_assignment_are_one_step():
    bench = running({"a": "", "b": "a"})
    effects = bench.finish("a")
    assert [row.state for row in effects.writes.done] == [AttemptState.SUCCEEDED]
    assert bench.assigned == ["b"]
    assert len(effects.writes.live) == 1


def test_no_more_is_assigned_than_fits():
    bench = running(dict.fromkeys("abcdef", ""))
    assert bench.assigned == ["a", "b", "c", "d"]
    bench.finish("b")
    assert bench.assigned == ["e"]


def test_a_shape_that_fits_nowhere_does_not_hold_up_the_others():
    bench = running(dict.fromkeys("abc", ""), requests={"a": cores(9)}, priorities={"a": 9})
    assert bench.assigned == ["b", "c"]
    assert [each.request for each in bench.shard.want] == [cores(9)]


def test_parked_tasks_are_tried_again_when_an_agent_comes():
    bench = running(dict.fromkeys("abcdef", ""))
    bench.agent("bee", cores(1))
    assert bench.assigned == ["e"]
    bench.agent("cat", cores(8))
    assert bench.assigned == ["f"]


def test_higher_priority_is_placed_first():
    bench = running(dict.fromkeys("abcde", ""), priorities={"e": 1, "c": 2})
    assert bench.assigned == ["c", "e", "a", "b"]


def test_older_tasks_are_placed_first():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    first = bench.trigger()
    bench.wait(1_000)
    bench.trigger()
    bench.agent(size=cores(1))
    assert [message.run_id for message in bench.of(AssignMessage)] == [first]


def test_shards_of_one_node_share_its_agents():
    one = ShardBench(1)
    two = ShardBench(2, one.fleet)
    one.agent(size=cores(3))
    two.inventory(live={})
    one.start(dag({"a": "", "b": ""}))
    two.start(dag({"c": "", "d": ""}))
    assert (one.assigned, two.assigned) == (["a", "b"], ["c"])
    one.finish("a")
    two.room()
    assert two.assigned == ["d"]


def two_shards(slots=1):
    """Two shards of a node with one agent."""
    one = ShardBench(1)
    two = ShardBench(2, one.fleet)
    one.agent(size=cores(slots))
    two.inventory(live={})
    return one, two


def test_room_that_a_shard_frees_goes_to_an_older_task_of_another_shard():
    one, two = two_shards()
    one.start(dag({"a": "", "b": "a"}))
    two.start(dag({"c": ""}))
    one.wait(5)
    one.finish("a")
    assert one.assigned == []
    assert one.at_rest, "it waits for the other"
    assert two.shard.next_deadline() == two.now.mono_ms
    two.settle()
    assert two.assigned == ["c"]
    assert one.shard.next_deadline() == one.now.mono_ms
    one.settle()
    assert (one.assigned, one.at_rest) == ([], True)
    two.finish("c")
    one.settle()
    assert one.assigned == ["b"]


def test_room_is_not_kept_for_a_task_that_cannot_use_it():
    one, two = two_shards()
    one.start(dag({"a": "", "b": "a"}))
    two.start(dag({"c": ""}, requests={"c": cores(2)}))
    one.wait(5)
    one.finish("a")
    assert one.assigned == ["b"]


def test_room_is_not_kept_for_a_task_whose_run_is_over():
    one, two = two_shards()
    one.start(dag({"a": "", "b": "a"}))
    two.start(dag({"c": ""}))
    two.cancel()
    one.wait(5)
    one.finish("a")
    assert one.assigned == []
    two.settle()
    one.settle()
    assert one.assigned == ["b"]


def test_a_shard_that_is_forgotten_claims_nothing():
    one, two = two_shards()
    one.start(dag({"a": "", "b": "a"}))
    two.start(dag({"c": ""}))
    one.wait(5)
    one.finish("a")
    one.fleet.forget(2)
    one.settle()
    assert one.assigned == ["b"]


def test_three_shards_that_wait_for_each_other_come_to_rest():
    one, two = two_shards(2)
    three = ShardBench(3, one.fleet)
    three.inventory(live={})
    one.start(dag({"a": "", "b": "", "late": "a"}))
    three.start(dag({"big": "", "low": ""}, requests={"big": cores(2)}))
    two.wait(2)
    two.start(dag({"c": ""}))
    one.wait(5)
    one.finish("a")
    two.settle()
    one.settle()
    two.settle()
    assert (one.assigned, two.assigned) == ([], [])
    assert one.at_rest
    assert two.at_rest
    three.settle()
    assert three.assigned == ["low"]


# Started


def test_the_start_of_a_short_attempt_is_not_stored():
    bench = running()
    bench.started("a")
    assert bench.tasks() == {"a": "RUNNING"}
    bench.finish("a")
    bench.wait(STARTED_AFTER_MS)
    assert not bench.effects.writes.started


def test_the_start_of_a_longer_attempt_is_stored_once():
    bench = running()
    bench.started("a")
    started_us = bench.now.wall_us
    bench.started("a")
    bench.wait(STARTED_AFTER_MS)
    assert [row.started_us for row in bench.effects.writes.started] == [started_us]
    bench.wait(STARTED_AFTER_MS)
    assert not bench.effects.writes.started


def test_a_start_without_a_time_is_now():
    bench = running()
    bench.step(Started(*bench.holder("a"), 0))
    bench.wait(STARTED_AFTER_MS)
    assert bench.effects.writes.started[0].started_us < bench.now.wall_us


def test_the_start_of_an_attempt_that_is_not_live_is_nothing():
    bench = running()
    effects = bench.step(Started("ant", b"?" * 16, 5))
    assert not effects.writes


# Ended


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


# Tried again


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


def test_another_agent_takes_the_task_in_the_same_step():
    bench = running()
    bench.agent("bee")
    bench.reject("a")
    assert [message.agent for message in bench.of(AssignMessage)] == ["bee"]


def test_an_agent_that_refused_is_left_alone_for_a_moment():
    bench = running({"a": "", "b": ""})
    bench.step(*(Rejected(*bench.holder(task), "full") for task in "ab"))
    bench.wait(REFUSAL_PAUSE_MS - 1)
    assert bench.assigned == []
    bench.wait(1)
    assert bench.assigned == ["a", "b"]


def test_an_agent_that_came_back_as_another_is_not_admitted_by_the_old_refusal():
    bench = running()
    bench.reject("a")
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.fleet.grant("ant", cores(4))
    bench.wait(REFUSAL_PAUSE_MS)
    assert bench.assigned == []
    bench.inventory()
    assert bench.assigned == ["a"]


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


# Lost with their agent


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


def test_what_the_life_before_lost_does_not_keep_an_agent_from_work():
    bench = running()
    lost = bench.result("a", AttemptState.LOST)
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.fleet.grant("ant", cores(4))
    bench.inventory(live={})
    bench.step(lost)
    assert bench.assigned == ["a"]


# Inventory


def test_nothing_is_assigned_before_the_inventory():
    bench = ShardBench()
    bench.connect()
    bench.start(dag({"a": ""}))
    assert bench.assigned == []
    bench.inventory()
    assert bench.assigned == ["a"]


def test_what_an_agent_never_saw_is_sent_again_with_the_same_id():
    bench = running()
    _, attempt_id = bench.holder("a")
    bench.gone()
    bench.connect()
    effects = bench.inventory(live={})
    assert [message.attempt_id for message in bench.of(AssignMessage)] == [attempt_id]
    assert not effects.writes


def test_what_an_agent_holds_is_adopted():
    bench = running()
    _, attempt_id = bench.holder("a")
    bench.gone()
    bench.connect()
    bench.inventory(live={attempt_id: bench.now.wall_us})
    assert bench.assigned == []
    assert bench.tasks() == {"a": "RUNNING"}
    bench.inventory(live={attempt_id: 0})
    assert bench.assigned == []


def test_what_finished_meanwhile_is_taken_and_acknowledged():
    bench = running({"a": "", "b": "a"})
    bench.gone()
    bench.connect()
    result = bench.result("a")
    bench.inventory(live={}, finished=[result])
    assert bench.acknowledged == [result.attempt_id]
    assert bench.assigned == ["b"]


def test_an_id_that_nobody_knows_is_stopped_if_it_runs_and_acknowledged_if_it_ended():
    bench = running()
    ended = finished("ant", b"e" * 16, AttemptState.SUCCEEDED, 1)
    effects = bench.inventory(live={b"r" * 16: 7}, finished=[ended])
    assert bench.cancelled == [b"r" * 16]
    assert bench.acknowledged == [b"e" * 16]
    assert not effects.writes


def test_attempts_of_another_incarnation_stay_live():
    bench = running()
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.inventory(live={})
    assert bench.assigned == []
    assert bench.shard.live_attempts == 1
    assert bench.fleet.room("ant").used_cpu == 0, "it takes no room from the new one"


def test_the_inventory_of_an_incarnation_that_is_gone_admits_nobody():
    bench = running()
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.inventory(live={}, incarnation=b"life-1-of-ant")
    assert not bench.fleet.admitted(0, "ant")


def test_attempts_of_other_agents_are_not_touched():
    bench = running()
    bench.agent("bee")
    assert bench.assigned == []
    assert bench.cancelled == []


def test_a_run_that_is_stopped_has_its_attempts_stopped_not_sent_again():
    bench = running({"a": "", "b": ""})
    _, seen = bench.holder("a")
    _, unseen = bench.holder("b")
    bench.gone()
    bench.cancel()
    bench.connect()
    bench.inventory(live={seen: 5})
    assert bench.cancelled == [seen, unseen]
    assert bench.assigned == []


def test_an_attempt_of_another_incarnation_is_stopped_too_when_its_run_is():
    bench = running()
    _, attempt_id = bench.holder("a")
    bench.gone()
    bench.cancel()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.inventory(live={})
    assert bench.cancelled == [attempt_id]
    assert bench.assigned == []


def test_an_agent_whose_attempts_have_ended_leaves_no_trace():
    bench = running({"a": "", "b": ""})
    leases = bench.shard._attempts._leases
    bench.finish("a")
    assert len(leases.attempts_of("ant")) == 1
    bench.finish("b")
    assert leases.attempts_of("ant") == []
    bench.wait(LOST_MS + 1)
    assert bench.shard.next_deadline() is None


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
