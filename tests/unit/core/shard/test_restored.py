"""After the store went back: what is held back, what agents still run, what a person is asked."""

from __future__ import annotations

from copy import deepcopy

import pytest

from controlplane.core.effects import StrayNote, WaitKind
from controlplane.core.events import Inventory
from controlplane.core.shard.restored import FORGOTTEN, UNSURE
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import OnDisconnect
from tests.unit.core.bench import LEASES, LOST_MS, ShardBench, dag, finished, retries, running

SUCCEEDED, LOST = AttemptState.SUCCEEDED, AttemptState.LOST
# From the takeover until tasks of the usual kind may go.
HOLD_MS = LEASES.authority_ms + LOST_MS + 1
OVERTIME_MS = 600_000
LONG_MS = HOLD_MS + 610_000
LONG = {"a": (OnDisconnect.CONTINUE, OVERTIME_MS)}


def forgotten(parents=None, **options):
    """A bench whose store has forgotten that the first task of its run was assigned."""
    bench = ShardBench()
    bench.start(dag(parents or {"a": ""}, **options))
    backup = deepcopy(bench.store)
    bench.agent()
    lost = bench.holder("a")
    bench.wait(1_000)
    bench.put_back(backup)
    return bench, lost


# What is held back


def test_nothing_is_assigned_for_the_whole_period():
    bench, _ = forgotten()
    bench.held.clear()
    bench.inventory()
    assert bench.store.held_back.hold == 2
    assert bench.store.held_back.until_us == bench.now.wall_us + HOLD_MS * 1_000
    bench.wait(HOLD_MS - 1)
    assert bench.tasks() == {"a": "READY"}
    bench.wait(1)
    assert bench.assigned == ["a"]
    assert bench.store.held_back == (0, 0)
    assert bench.timers == []


def test_a_new_run_is_held_back_as_well():
    bench, _ = forgotten()
    bench.held.clear()
    bench.inventory()
    bench.trigger()
    assert bench.assigned == []
    bench.wait(HOLD_MS)
    assert bench.assigned == ["a", "a"]


def test_a_later_leader_in_the_period_begins_it_anew():
    bench, _ = forgotten()
    bench.held.clear()
    bench.wait(HOLD_MS - 1)
    bench.recover()
    bench.inventory()
    bench.wait(HOLD_MS - 1)
    assert bench.tasks() == {"a": "READY"}
    bench.wait(1)
    assert bench.assigned == ["a"]


def test_a_later_leader_after_it_holds_nothing_back():
    bench, _ = forgotten()
    bench.held.clear()
    bench.wait(HOLD_MS)
    bench.recover()
    bench.inventory()
    assert bench.assigned == ["a"]


def test_what_may_run_longer_is_held_back_longer():
    bench, _ = forgotten({"a": "", "b": ""}, disconnect=LONG)
    bench.held.clear()
    bench.inventory()
    bench.wait(HOLD_MS)
    assert bench.assigned == ["b"]
    assert bench.store.held_back.hold == 1
    assert bench.store.held_back.until_us == bench.now.wall_us + (LONG_MS - HOLD_MS) * 1_000
    bench.finish("b")
    bench.live_on(LONG_MS - HOLD_MS - 1)
    assert bench.tasks()["a"] == "READY"
    bench.wait(1)
    assert bench.assigned == ["a"]
    assert bench.store.held_back.hold == 0


def test_a_leader_that_comes_while_only_those_wait_lets_the_others_go():
    bench, _ = forgotten({"a": "", "b": "", "c": "b"}, disconnect=LONG)
    bench.held.clear()
    bench.inventory()
    bench.wait(HOLD_MS)
    bench.finish("b")
    bench.recover()
    bench.inventory()
    assert bench.tasks() == {"a": "READY", "b": "SUCCEEDED", "c": "ASSIGNED"}
    bench.finish("c")
    bench.live_on(LONG_MS - 1)
    assert bench.tasks()["a"] == "READY"
    bench.wait(1)
    assert bench.assigned == ["a"]


def test_a_run_that_cannot_have_been_there_before_needs_no_longer_wait():
    bench, _ = forgotten({"a": ""}, disconnect=LONG)
    bench.held.clear()
    bench.inventory()
    bench.wait(1_000)
    later = bench.trigger()
    bench.wait(HOLD_MS)
    assert bench.holder("a", later)
    assert bench.assigned == ["a"]


def test_a_scheduled_run_is_judged_by_its_instant():
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": ""}, schedules={"hourly": "cron UTC 0 * * * *"}, once=["a"]))
    backup = deepcopy(bench.store)
    bench.wait(3_600_000)
    bench.finish("a", run_id=bench.shard._book.runs_by_number[next(iter(bench.store.runs))].run_id)
    bench.wait(60_000)
    bench.put_back(backup)
    bench.agent()
    bench.settle()
    [row] = bench.store.runs.values()
    assert bench.tasks(row.run_id) == {"a": "AWAITING_APPROVAL"}


# What agents still run


def test_what_its_agent_still_runs_becomes_live_again():
    bench, (agent, attempt_id) = forgotten()
    bench.inventory(live={attempt_id: bench.now.wall_us})
    assert bench.tasks() == {"a": "RUNNING"}
    assert bench.holder("a") == (agent, attempt_id)
    assert bench.cancelled == []
    assert bench.effects.strays == [StrayNote(agent, attempt_id, ended=False, taken=True)]
    bench.beat()
    assert bench.extended == ["ant"]
    bench.finish("a")
    assert bench.state() is RunState.SUCCEEDED


def test_what_was_not_spawned_yet_becomes_live_too():
    bench, lost = forgotten()
    bench.inventory()
    assert bench.tasks() == {"a": "ASSIGNED"}
    assert bench.holder("a") == lost


def test_what_has_ended_meanwhile_counts_in_a_batch_of_its_own():
    bench, (agent, attempt_id) = forgotten()
    end = finished(agent, attempt_id, SUCCEEDED, bench.now.wall_us)
    bench.inventory(live={}, finished=[end])
    assert bench.acknowledged == []
    assert bench.effects.strays == [StrayNote(agent, attempt_id, ended=True, taken=True)]
    bench.wait(1)
    assert bench.acknowledged == [attempt_id]
    assert bench.state() is RunState.SUCCEEDED


def test_its_result_may_come_again_before_that():
    bench, (agent, attempt_id) = forgotten()
    end = finished(agent, attempt_id, SUCCEEDED, bench.now.wall_us)
    bench.inventory(live={}, finished=[end])
    bench.step(end)
    assert bench.state() is RunState.SUCCEEDED
    bench.wait(1)
    assert bench.acknowledged == [attempt_id]


def test_what_ends_in_the_step_that_makes_it_live_counts_in_a_batch_of_its_own():
    bench, (agent, attempt_id) = forgotten()
    live = ((attempt_id, bench.now.wall_us),)
    life = bench.fleet.room(agent).incarnation
    told = Inventory(agent, life, live, (), (bench.subjects[attempt_id],))
    bench.step(told, finished(agent, attempt_id, SUCCEEDED, bench.now.wall_us))
    assert bench.acknowledged == []
    assert bench.tasks() == {"a": "RUNNING"}
    bench.wait(1)
    assert bench.acknowledged == [attempt_id]
    assert bench.state() is RunState.SUCCEEDED


def test_a_result_that_comes_before_the_inventory_waits_for_it():
    """It was told to the leader before, or passed the inventory: nobody knows what it is of."""
    bench, (agent, attempt_id) = forgotten()
    end = finished(agent, attempt_id, SUCCEEDED, bench.now.wall_us)
    bench.step(end)
    assert bench.acknowledged == []
    bench.inventory(live={}, finished=[end])
    bench.wait(1)
    assert bench.acknowledged == [attempt_id]
    assert bench.state() is RunState.SUCCEEDED


def test_an_attempt_of_which_nobody_hears_is_lost_as_always():
    bench, (_, attempt_id) = forgotten()
    bench.inventory(live={attempt_id: bench.now.wall_us})
    bench.gone()
    bench.wait(HOLD_MS)
    assert [row.state for row in bench.effects.writes.done] == [LOST]


def test_a_stray_whose_parent_is_to_be_done_again_waits_for_it_without_a_lease():
    bench = running({"a": "", "b": "a", "c": ""})
    backup = deepcopy(bench.store)
    bench.finish("a")
    lost = bench.holder("b")
    bench.put_back(backup)
    bench.inventory()
    # `a` is forgotten by its agent, `c` is adopted, `b` cannot be: its parent has not ended.
    assert bench.tasks() == {"a": "READY", "b": "WAITING", "c": "ASSIGNED"}
    assert bench.cancelled == []
    bench.beat()
    assert bench.extended == []
    bench.wait(HOLD_MS - 1)
    assert bench.tasks()["a"] == "READY"
    assert lost[1] in bench.held["ant"]


def test_a_stray_takes_its_place_as_soon_as_there_is_one():
    bench = running({"a": "", "b": "a"})
    backup = deepcopy(bench.store)
    first = bench.result("a")
    bench.step(first)
    lost = bench.holder("b")
    bench.put_back(backup)
    # The agent still has the result of `a`, which it could not tell.
    live = dict(bench.held["ant"])
    bench.inventory(live=live, finished=[first])
    assert bench.holder("b") == lost
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "ASSIGNED"}
    bench.beat()
    assert bench.extended == ["ant"]


def test_the_end_of_a_stray_frees_its_agent():
    bench = running({"a": "", "b": "a", "c": ""})
    backup = deepcopy(bench.store)
    bench.finish("a")
    agent, attempt_id = bench.holder("b")
    bench.put_back(backup)
    bench.inventory()
    bench.step(finished(agent, attempt_id, SUCCEEDED, bench.now.wall_us))
    assert bench.acknowledged == [attempt_id]
    assert bench.effects.strays == [StrayNote(agent, attempt_id, ended=True, taken=False)]
    bench.beat()
    assert bench.extended == ["ant"]
    assert bench.tasks()["b"] == "WAITING"


def test_a_newer_inventory_replaces_what_was_known_of_strays():
    bench = running({"a": "", "b": "a", "c": ""})
    backup = deepcopy(bench.store)
    bench.finish("a")
    _, attempt_id = bench.holder("b")
    bench.put_back(backup)
    bench.inventory()
    del bench.held["ant"][attempt_id]
    bench.inventory()
    bench.beat()
    assert bench.extended == ["ant"]


def test_a_stray_of_a_run_that_the_store_does_not_know_takes_no_lease_away():
    bench = running({"a": ""})
    backup = deepcopy(bench.store)
    bench.trigger()
    _, other = bench.holder("a")
    bench.put_back(backup)
    bench.inventory()
    assert bench.cancelled == []
    bench.beat()
    assert bench.extended == ["ant"]
    assert other in bench.held["ant"]


def test_an_attempt_without_a_subject_may_be_any_and_gets_no_lease():
    bench = running({"a": ""})
    bench.put_back(bench.store)
    bench.inventory(live={**bench.held["ant"], b"x" * 16: 5})
    assert bench.cancelled == []
    bench.beat()
    assert bench.extended == []
    bench.step(finished("ant", b"x" * 16, SUCCEEDED, bench.now.wall_us))
    bench.beat()
    assert bench.extended == ["ant"]
    bench.inventory(live={**bench.held["ant"], b"x" * 16: 5})
    bench.inventory()
    bench.beat()
    assert bench.extended == ["ant"]


def test_after_the_period_unknown_attempts_are_stopped_again():
    bench, _ = forgotten()
    bench.held.clear()
    bench.inventory()
    bench.wait(HOLD_MS)
    bench.inventory(live={**bench.held["ant"], b"x" * 16: 5})
    assert bench.cancelled == [b"x" * 16]


def test_an_attempt_that_waited_for_its_next_try_is_taken_in():
    bench = running({"a": ""}, retry=retries(3, 600_000))
    bench.fail("a")
    backup = deepcopy(bench.store)
    bench.wait(600_000)
    lost = bench.holder("a")
    bench.put_back(backup)
    bench.now = Now(bench.now.wall_us - 600_000_000, bench.now.mono_ms)
    bench.recover()
    bench.inventory()
    assert bench.holder("a") == lost
    bench.finish("a")
    assert bench.state() is RunState.SUCCEEDED


def test_a_backoff_that_is_over_ends_with_its_row():
    bench = running({"a": ""}, retry=retries(3))
    bench.fail("a")
    backup = deepcopy(bench.store)
    bench.wait(1_000)
    lost = bench.holder("a")
    bench.put_back(backup)
    bench.step()
    assert bench.tasks() == {"a": "READY"}
    bench.inventory()
    assert bench.holder("a") == lost
    assert bench.store.waits == {}


def test_an_attempt_that_a_person_agreed_to_before_is_taken_in():
    bench = running({"a": ""}, once=["a"])
    bench.started("a")
    bench.step(bench.result("a", LOST))
    backup = deepcopy(bench.store)
    bench.decide("a", approved=True)
    bench.wait(1_000)
    lost = bench.holder("a")
    bench.put_back(backup)
    bench.inventory()
    assert bench.holder("a") == lost
    assert bench.store.waits == {}


@pytest.mark.parametrize("number", [1, 2])
def test_what_the_store_knows_to_be_over_is_not_taken_in(number):
    """An older attempt that was lost, of the same number; and the result of a failed one."""
    bench = running({"a": ""}, retry=retries(3, 600_000))
    agent, first = bench.holder("a")
    if number == 1:
        bench.step(bench.result("a", LOST))
        bench.wait(1_000)
        bench.step(bench.result("a", LOST))
        assert [row.state for row in bench.store.history] == [LOST, LOST]
    else:
        bench.fail("a")
    bench.put_back(bench.store)
    end = finished(agent, first, SUCCEEDED, bench.now.wall_us)
    bench.inventory(live={}, finished=[end])
    assert bench.acknowledged == [first]
    assert bench.store.live == {}


def test_what_was_given_up_in_the_period_is_not_taken_in():
    bench, _ = forgotten({"a": "", "b": ""}, disconnect=LONG)
    bench.held.clear()
    bench.inventory()
    bench.wait(HOLD_MS)
    agent, attempt_id = bench.holder("b")
    bench.gone()
    bench.wait(LOST_MS + 1)
    assert [row.state for row in bench.effects.writes.done] == [LOST]
    bench.connect()
    bench.inventory(live={attempt_id: bench.now.wall_us})
    assert bench.effects.strays == [StrayNote(agent, attempt_id, ended=False, taken=False)]
    assert bench.holder("b") != (agent, attempt_id)
    bench.beat()
    assert bench.extended == []


def test_a_late_result_of_an_attempt_that_was_given_up_counts_as_always():
    bench = running({"a": ""})
    agent, attempt_id = bench.holder("a")
    bench.step(bench.result("a", LOST))
    bench.put_back(bench.store)
    bench.inventory(live={}, finished=[finished(agent, attempt_id, SUCCEEDED, bench.now.wall_us)])
    assert bench.late == [(SUCCEEDED, True)]
    assert bench.state() is RunState.SUCCEEDED


def test_a_task_that_the_dag_of_the_store_does_not_have_has_no_place():
    bench, (agent, attempt_id) = forgotten()
    bench.subjects[attempt_id] = bench.subjects[attempt_id]._replace(task="z")
    bench.inventory()
    assert bench.tasks() == {"a": "READY"}
    assert bench.effects.strays == [StrayNote(agent, attempt_id, ended=False, taken=False)]


def test_an_older_number_has_no_place_and_its_task_waits():
    bench, (_, attempt_id) = forgotten()
    bench.subjects[attempt_id] = bench.subjects[attempt_id]._replace(number=0)
    bench.inventory()
    bench.wait(HOLD_MS - 1)
    assert bench.tasks() == {"a": "READY"}


def test_a_run_that_is_being_stopped_takes_nothing_in():
    bench = running({"a": "", "b": ""})
    bench.fleet.grant("ant", bench.fleet.room("ant").free)
    backup = deepcopy(bench.store)
    _, attempt_id = bench.holder("a")
    del backup.live[next(iter(backup.live))]
    bench.put_back(backup)
    bench.cancel()
    bench.inventory()
    assert attempt_id not in bench.cancelled
    bench.stopped("b")
    assert bench.state() is RunState.CANCELLED


# What the store knows, and an agent does not any more


def test_an_attempt_of_before_is_not_sent_again_but_lost():
    bench = running({"a": ""})
    backup = deepcopy(bench.store)
    bench.finish("a")
    bench.put_back(backup)
    bench.inventory()
    assert bench.messages[-1:] == [] or bench.assigned == []
    [row] = bench.effects.writes.done
    assert (row.state, row.message) == (LOST, FORGOTTEN)
    assert bench.tasks() == {"a": "READY"}
    bench.wait(HOLD_MS)
    assert bench.assigned == ["a"]


def test_one_that_must_not_be_done_twice_is_unknown():
    bench = running({"a": ""}, once=["a"])
    backup = deepcopy(bench.store)
    bench.finish("a")
    bench.put_back(backup)
    bench.inventory()
    assert [row.state for row in bench.effects.writes.done] == [AttemptState.UNKNOWN]
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}


def test_in_a_run_that_is_being_stopped_it_is_over_as_well():
    """Its agent may have forgotten it for good, and would not answer to a cancellation."""
    bench = running({"a": ""})
    backup = deepcopy(bench.store)
    bench.finish("a")
    bench.put_back(backup)
    bench.cancel()
    bench.inventory()
    assert bench.cancelled == []
    assert bench.state() is RunState.CANCELLED


def test_an_attempt_of_afterwards_is_sent_again():
    bench, _ = forgotten()
    bench.held.clear()
    bench.inventory()
    bench.wait(HOLD_MS)
    _, attempt_id = bench.holder("a")
    bench.recover()
    bench.inventory(live={})
    assert bench.holder("a")[1] == attempt_id
    assert bench.assigned == ["a"]


def test_a_newer_stray_takes_the_place_of_what_its_agent_has_forgotten():
    bench = running({"a": ""})
    backup = deepcopy(bench.store)
    bench.step(bench.result("a", LOST))
    bench.wait(1_000)
    newer = bench.holder("a")
    bench.put_back(backup)
    bench.inventory()
    assert bench.holder("a") == newer
    assert [row.state for row in bench.effects.writes.done] == [LOST]


# What a person is asked


def test_what_must_not_be_done_twice_is_asked_for_first():
    bench, _ = forgotten(once=["a"])
    bench.held.clear()
    bench.inventory()
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}
    [wait] = bench.effects.writes.waits or bench.store.waits.values()
    assert (wait.kind, wait.number, wait.reason) == (WaitKind.APPROVAL, 1, UNSURE)
    bench.decide("a", approved=True)
    assert bench.assigned == []
    bench.wait(HOLD_MS)
    assert bench.assigned == ["a"]
    bench.finish("a")
    assert bench.state() is RunState.SUCCEEDED


def test_a_person_may_say_no():
    bench, _ = forgotten(once=["a"])
    bench.held.clear()
    bench.inventory()
    bench.decide("a", approved=False)
    assert bench.state() is RunState.FAILED


def test_it_is_asked_after_the_period_too():
    bench, _ = forgotten({"a": "", "b": "a"}, once=["b"])
    bench.held.clear()
    bench.inventory()
    bench.wait(HOLD_MS)
    bench.finish("a")
    assert bench.tasks()["b"] == "AWAITING_APPROVAL"


def test_it_is_asked_once_for_all_attempts_that_follow_under_any_leader():
    bench, _ = forgotten(once=["a"], retry=retries(3))
    bench.held.clear()
    bench.inventory()
    bench.decide("a", approved=True)
    bench.wait(HOLD_MS)
    bench.recover()
    bench.inventory()
    bench.fail("a")
    bench.recover()
    bench.inventory()
    bench.wait(1_000)
    assert bench.assigned == ["a"]


def test_a_run_of_afterwards_is_not_asked_for():
    bench, _ = forgotten(once=["a"])
    bench.held.clear()
    bench.wait(1_000)
    bench.trigger()
    bench.inventory()
    bench.wait(HOLD_MS)
    assert bench.assigned == ["a"]


def test_a_task_in_its_backoff_is_asked_for_when_that_is_over():
    bench = running({"a": ""}, once=["a"], retry=retries(3))
    bench.fail("a")
    bench.put_back(bench.store)
    bench.wait(1_000)
    assert bench.tasks() == {"a": "AWAITING_APPROVAL"}
    assert [wait.kind for wait in bench.store.waits.values()] == [WaitKind.APPROVAL]
    bench.inventory()
    bench.decide("a", approved=True)
    bench.wait(HOLD_MS)
    assert bench.store.live
    assert next(iter(bench.store.live.values())).number == 2


def test_an_approved_retry_counts_on_under_the_next_leader():
    """The number of the next attempt was in rows that the approval has taken away."""
    bench = running({"a": ""}, once=["a"], retry=retries(3))
    bench.fail("a")
    bench.put_back(bench.store)
    bench.wait(1_000)
    bench.inventory()
    bench.decide("a", approved=True)
    bench.recover()
    bench.inventory()
    [wait] = bench.store.waits.values()
    assert wait.number == 2
    bench.decide("a", approved=True)
    bench.wait(HOLD_MS)
    assert next(iter(bench.store.live.values())).number == 2


def test_what_was_cleared_goes_with_its_run():
    bench, _ = forgotten(once=["a"])
    bench.held.clear()
    bench.inventory()
    bench.decide("a", approved=True)
    bench.wait(HOLD_MS)
    bench.finish("a")
    assert bench.shard._book._cleared == {}
