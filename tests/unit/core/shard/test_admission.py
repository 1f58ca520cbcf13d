"""Which agents a shard speaks to: adopted by their inventory, resting after a refusal."""

from __future__ import annotations

from controlplane.core.effects import AssignMessage
from controlplane.core.events import Rejected
from controlplane.core.shard.admission import REFUSAL_PAUSE_MS, Admission
from controlplane.core.states import AttemptState
from tests.unit.core.bench import ShardBench, cores, running


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


def test_what_the_life_before_lost_does_not_keep_an_agent_from_work():
    bench = running()
    lost = bench.result("a", AttemptState.LOST)
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.fleet.grant("ant", cores(4))
    bench.inventory(live={})
    bench.step(lost)
    assert bench.assigned == ["a"]


def test_an_agent_that_rests_is_still_answered():
    bench = running({"a": "", "b": ""})
    bench.reject("a")
    assert not bench.fleet.admitted(0, "ant")
    bench.beat()
    assert bench.extended == ["ant"]


def test_a_rest_ends_with_the_session():
    """The next session has to tell what it holds, and then it is not resting."""
    bench = running()
    bench.reject("a")
    bench.gone()
    bench.connect()
    bench.wait(REFUSAL_PAUSE_MS)
    assert not bench.fleet.admitted(0, "ant")
    bench.inventory()
    assert bench.assigned == ["a"]


def test_a_rest_ends_with_an_inventory():
    bench = running()
    bench.reject("a")
    bench.inventory()
    assert bench.assigned == ["a"]
    assert bench.timers == []


def test_a_rest_of_a_session_that_ended_unheard_does_not_admit_the_next_incarnation():
    bench = running()
    bench.reject("a")
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.wait(REFUSAL_PAUSE_MS)
    assert not bench.fleet.admitted(0, "ant")


def test_the_end_of_a_session_that_nobody_adopted_is_nothing():
    bench = ShardBench()
    bench.gone()
    assert bench.effects.messages == []


def test_adopted_is_who_told_this_session_what_it_holds():
    admission = Admission(ShardBench().shard._book)
    assert not admission.adopted("ant", b"1")
    assert not admission.adopt("ant", b"1"), "it has no session"
