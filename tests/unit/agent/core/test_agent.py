from __future__ import annotations

from agent.core import entries, events
from agent.core.actions import EndSupervisor, Exit, Refused, Spawn, Stop
from agent.core.agent import FAREWELL_MS, STOP_LIMIT_MS
from agent.core.attempts import SPAWN_WINDOW
from agent.core.entries import Demand, Rank, ShapeDemand
from agent.core.grants import RECALL_PAUSE_MS
from agent.core.records import AcceptedRecord, AckedRecord
from agent.core.steps import STOP_GRACE_MS
from agent.core.types import NOTHING, Amount, EndCause, Outcome, RefusalReason, RejectReason
from tests.unit.agent.core.driver import (
    Driver,
    assignment,
    attempt_id,
    cores,
    journal,
    leadership,
    spec,
)

STOP = events.StopRequested()
NAME_TAKEN = entries.Refusal(RefusalReason.NAME_TAKEN, "another has this name")


def connected() -> tuple[Driver, tuple[str, int]]:
    driver = Driver()
    return driver, driver.connect("n1", leadership(0))


def test_a_refusal_ends_an_agent_that_holds_nothing():
    driver = Driver()
    driver.tick()
    driver.frame(driver.opened()[0], refusal=NAME_TAKEN)
    refused = Refused("h:1", RefusalReason.NAME_TAKEN, "another has this name")
    assert driver.last[-2:] == [EndSupervisor(), refused]


def test_a_denied_credential_ends_an_agent_that_holds_nothing():
    driver = Driver()
    driver.tick()
    driver.handle(events.NodeLost(*driver.opened()[0], "unknown token", denied=True))
    assert driver.did(Refused) == [Refused("h:1", RefusalReason.DENIED, "unknown token")]


def test_a_refusal_does_not_end_an_agent_that_waits_for_another_answer():
    """Of two addresses of one node the older session may be refused before the newer is welcome."""
    driver = Driver(("localhost:1", "127.0.0.1:1"))
    driver.tick()
    older, newer = driver.opened()
    refusal = entries.Refusal(RefusalReason.BAD_HELLO, "a newer session of the agent is open")
    driver.frame(older, refusal=refusal)
    assert driver.did(Refused) == []
    driver.frame(newer, refusal=refusal)
    assert [refused.address for refused in driver.did(Refused)] == ["127.0.0.1:1"]


def test_a_refusal_by_one_node_of_several_is_tried_again_later():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.welcome(first, "n1")
    driver.frame(second, refusal=NAME_TAKEN)
    assert driver.did(Refused) == []
    driver.tick(200)
    assert [address for address, _ in driver.opened()] == ["h:2"]


def test_an_agent_that_holds_attempts_is_not_ended_by_a_refusal():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.frame(stream, refusal=NAME_TAKEN)
    assert driver.did(Refused) == []


def test_what_was_assigned_comes_before_what_is_given_back():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.greet(first, "n1", leadership(0))
    driver.frame(first, demand=Demand((ShapeDemand(cores(1), 4, Rank(0, 0, 1)),), 1))
    driver.greet(second, "n2")
    shape = ShapeDemand(cores(1), 1, Rank(0, 0, 5))
    driver.frame(second, demand=Demand((shape,), 1))
    driver.tick(RECALL_PAUSE_MS)
    assert driver.said("h:1", entries.Recall) == [entries.Recall(2, cores(1))]
    released = entries.Release(2, cores(1))
    driver.frame(first, release=released, assigns=tuple(assignment(n) for n in range(4)))
    assert len(driver.said("h:1", entries.Accepted)) == 4
    driver.frame(first, assigns=(assignment(4),))
    assert [r.reason for r in driver.said("h:1", entries.Rejected)] == [RejectReason.CAPACITY]


def test_a_child_finds_the_slot_of_its_parent_though_another_node_waits_for_it():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.greet(first, "n1", leadership(0))
    driver.frame(first, demand=Demand((ShapeDemand(cores(1), 4, Rank(0, 0, 1)),), 1))
    for number in range(4):
        driver.run(first, assignment(number))
    driver.greet(second, "n2")
    driver.frame(second, demand=Demand((ShapeDemand(cores(1), 4, Rank(0, 0, 5)),), 1))
    driver.exit(0)
    driver.frame(first, result_acks=(attempt_id(0),), assigns=(assignment(9),))
    assert driver.said("h:1", entries.Accepted) == [entries.Accepted(0, attempt_id(9))]
    assert driver.said("h:2", entries.Grant) == []


def test_an_idle_agent_says_farewell_and_refuses_what_was_on_its_way():
    driver, stream = connected()
    driver.tick()
    driver.handle(STOP)
    assert driver.said("h:1") == [entries.Grant(2, NOTHING)]
    assert driver.did(Exit) == []
    assert driver.core.next_deadline() == driver.now_ms + FAREWELL_MS
    driver.now_ms += FAREWELL_MS - 1
    driver.assign(stream, assignment(1))
    assert [r.reason for r in driver.said("h:1")] == [RejectReason.STOPPING]
    assert driver.did(Exit) == []
    assert driver.tick(1) == [EndSupervisor(), Exit()]


def test_an_agent_that_nobody_knows_stops_at_once():
    assert Driver().handle(STOP) == [EndSupervisor(), Exit()]
    assert Driver(supervised=False).handle(STOP) == [EndSupervisor(), Exit()]


def test_after_the_farewell_the_next_deadline_is_the_limit():
    driver, stream = connected()
    driver.run(stream, assignment(1, spec=spec(grace_ms=60_000)))
    driver.welcome(stream, "n1", leadership(0), heartbeat_ms=60_000)
    driver.tick()
    driver.handle(STOP)
    driver.tick(FAREWELL_MS)
    assert driver.did(Exit) == []
    assert driver.core.next_deadline() == driver.now_ms - FAREWELL_MS + STOP_LIMIT_MS


def test_a_stopping_agent_takes_nothing_more():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    driver.assign(stream, assignment(2))
    assert [r.reason for r in driver.said("h:1")] == [RejectReason.STOPPING]


def test_a_stop_hands_back_what_was_not_spawned_and_ends_what_runs():
    driver, stream = connected()
    small = spec(request=Amount(1, 1), grace_ms=60_000)
    last = SPAWN_WINDOW + 1
    driver.assign(stream, *(assignment(n, spec=small) for n in range(last)))
    driver.spawn(0)
    assert [s.assign.attempt_id for s in driver.did(Spawn)] == [attempt_id(last - 1)]
    driver.assign(stream, assignment(last, spec=small))
    driver.handle(STOP)
    assert driver.did(Stop) == [Stop(attempt_id(0), EndCause.AGENT_STOPPED, STOP_GRACE_MS)]
    assert [r.attempt_id for r in driver.said("h:1", entries.Rejected)] == [attempt_id(last)]
    assert driver.records == [(AckedRecord(attempt_id(last)), True)]
    driver.spawn(1)
    assert driver.did(Stop) == [Stop(attempt_id(1), EndCause.AGENT_STOPPED, STOP_GRACE_MS)]
    assert driver.did(Spawn) == []


def test_a_stop_ends_when_all_results_are_acknowledged():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    driver.handle(STOP)
    driver.exit(1, -1, 15, cause=EndCause.AGENT_STOPPED)
    assert driver.result() == (Outcome.LOST, -1, 15, "its agent was stopped")
    driver.tick(FAREWELL_MS)
    assert driver.did(Exit) == []
    driver.frame(stream, result_acks=(attempt_id(1),))
    assert driver.last[-2:] == [EndSupervisor(), Exit()]


def test_a_stop_with_nobody_to_tell_ends_with_the_last_process():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(events.NodeLost(*stream, "gone"))
    driver.handle(STOP)
    assert driver.did(Exit) == []
    assert driver.exit(1, -1, 15) == [EndSupervisor(), Exit()]


def test_a_stop_has_an_end_whatever_happens():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    driver.tick(STOP_LIMIT_MS)
    assert driver.did(Exit) == [Exit()]


def test_a_stop_shortens_the_grace_of_what_is_ending_already():
    driver, stream = connected()
    driver.run(stream, assignment(1, spec=spec(grace_ms=60_000)))
    driver.frame(stream, cancels=(entries.Cancel(0, 1, attempt_id(1)),))
    assert driver.last == [Stop(attempt_id(1), EndCause.CANCELLED, 60_000)]
    driver.handle(STOP)
    assert driver.did(Stop) == [Stop(attempt_id(1), EndCause.CANCELLED, STOP_GRACE_MS)]


def test_a_stop_waits_for_a_spawn_that_is_cancelled_already():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    driver.frame(stream, cancels=(entries.Cancel(0, 1, attempt_id(1)),))
    driver.handle(STOP)
    assert driver.did(Stop) == []
    driver.spawn(1)
    assert driver.did(Stop) == [Stop(attempt_id(1), EndCause.CANCELLED, 500)]


def test_a_hand_over_leaves_everything_as_it_is():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    assert driver.handle(events.StopRequested(handing_over=True)) == [Exit()]
    assert driver.records == []


def test_a_stop_that_takes_too_long_can_be_made_a_hand_over():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    assert driver.handle(events.StopRequested(handing_over=True)) == [Exit()]


def test_a_stop_before_any_supervisor_answered_waits_for_one_as_long_as_it_may():
    held = journal(AcceptedRecord(assignment(1), 9_000))
    driver = Driver(state=held, supervised=False)
    assert driver.handle(STOP) == []
    driver.supervisor()
    assert driver.records == [(AckedRecord(attempt_id(1)), True)]
    assert driver.last == [EndSupervisor(), Exit()]


def test_the_end_is_said_once_and_nothing_is_due_for_it_any_more():
    """What stands before it may wait for the disk: nobody must turn in circles meanwhile."""
    held = journal(AcceptedRecord(assignment(1), 9_000))
    driver = Driver(state=held, supervised=False)
    driver.handle(STOP)
    driver.tick(STOP_LIMIT_MS)
    assert driver.last == [EndSupervisor(), Exit()]
    assert driver.core.next_deadline() is None
    driver.tick()
    assert driver.last == []
    assert driver.handle(STOP) == []
    assert driver.core.next_deadline() is None


def test_the_next_deadline_is_the_nearest_of_all():
    driver, stream = connected()
    driver.tick()
    assert driver.core.next_deadline() == driver.now_ms + 1_000
    driver.welcome(stream, "n1", leadership(0), lease_ms=700)
    driver.handle(events.SupervisorGone("killed"))
    driver.assign(stream, assignment(1, beat=1))
    assert driver.core.next_deadline() == driver.now_ms + 700
