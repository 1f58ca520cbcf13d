"""The life of attempts: placed, started, ended, tried again, refused, adopted."""

from __future__ import annotations

from controlplane.core.effects import AssignMessage
from controlplane.core.events import Inventory, Started
from controlplane.core.shard.attempts import STARTED_AFTER_MS
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.deadlines import Now
from tests.unit.core.bench import LOST_MS, ShardBench, cores, dag, finished, running

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


def test_the_start_of_an_attempt_that_ends_in_the_same_step_is_not_taken_for_that_of_the_next():
    bench = running()
    bench.agent("bee")
    bench.started("a")
    lost = bench.result("a", AttemptState.LOST)
    bench.now = Now(bench.now.wall_us + 9_000_000, bench.now.mono_ms + 9_000)
    bench.step(lost)
    assert bench.assigned == ["a"]
    assert bench.effects.writes.started == []
    bench.recover()
    assert bench.tasks() == {"a": "ASSIGNED"}


def test_a_start_without_a_time_is_now():
    bench = running()
    bench.step(Started(*bench.holder("a"), 0))
    bench.wait(STARTED_AFTER_MS)
    assert bench.effects.writes.started[0].started_us < bench.now.wall_us


def test_the_start_of_an_attempt_that_is_not_live_is_nothing():
    bench = running()
    effects = bench.step(Started("ant", b"?" * 16, 5))
    assert not effects.writes


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


def new_life(bench: ShardBench) -> None:
    """The agent comes back without its journal."""
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.step(Inventory("ant", b"life 2", (), ()))


def test_another_incarnation_is_not_asked_to_stop_what_the_one_before_ran():
    """It would say that nothing of the attempt runs, which it cannot know."""
    bench = running()
    bench.gone()
    bench.cancel()
    new_life(bench)
    assert bench.cancelled == bench.assigned == []
    assert bench.state() is RunState.CANCELLING
    bench.wait(LOST_MS + 1)
    assert bench.state() is RunState.CANCELLED


def test_a_cancellation_does_not_ask_another_incarnation():
    bench = running()
    new_life(bench)
    bench.cancel()
    assert bench.cancelled == []
    assert bench.state() is RunState.CANCELLING


def test_an_agent_whose_attempts_have_ended_leaves_no_trace():
    bench = running({"a": "", "b": ""})
    leases = bench.shard._attempts._leases
    bench.finish("a")
    assert len(leases.attempts_of("ant")) == 1
    bench.finish("b")
    assert leases.attempts_of("ant") == []
    bench.wait(LOST_MS + 1)
    assert bench.shard.next_deadline() is None
