from __future__ import annotations

from agent.core import entries, events
from agent.core.actions import Exit, Kill, Refused, Signal, Spawn
from agent.core.agent import FAREWELL_MS, STOP_LIMIT_MS
from agent.core.types import NOTHING, Amount, Outcome, RefusalReason, RejectReason
from agent.core.work import STOP_GRACE_MS
from tests.unit.agent.core.driver import (
    Driver,
    assignment,
    attempt_id,
    cores,
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
    assert driver.did(Refused) == [refused]


def test_a_denied_credential_ends_an_agent_that_holds_nothing():
    driver = Driver()
    driver.tick()
    driver.handle(events.NodeLost(*driver.opened()[0], "unknown token", denied=True))
    assert driver.did(Refused) == [Refused("h:1", RefusalReason.DENIED, "unknown token")]


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


def test_room_is_made_before_it_is_used():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.welcome(first, "n1", leadership(0))
    driver.welcome(second, "n2")
    driver.frame(second, demand=entries.Demand(cores(1), cores(1), 1, 5))
    assert driver.said("h:1") == [entries.Recall(1, cores(1))]
    released = entries.Release(1, cores(1))
    driver.frame(first, release=released, assigns=tuple(assignment(n) for n in range(4)))
    assert [r.reason for r in driver.said("h:1", entries.Rejected)] == [RejectReason.CAPACITY]
    assert driver.said("h:2") == [entries.Grant(2, cores(1))]


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
    assert driver.tick(1) == [Exit()]


def test_an_agent_that_nobody_knows_stops_at_once():
    assert Driver().handle(STOP) == [Exit()]


def test_after_the_farewell_the_next_deadline_is_the_limit():
    driver, stream = connected()
    driver.run(stream, assignment(1, spec=spec(grace_ms=60_000)))
    driver.welcome(stream, "n1", leadership(0), heartbeat_ms=60_000)
    driver.tick()
    driver.handle(STOP)
    driver.tick(FAREWELL_MS)
    assert driver.did(Exit) == []
    assert driver.core.next_deadline() == driver.now_ms - FAREWELL_MS + STOP_GRACE_MS


def test_a_stopping_agent_takes_nothing_more():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    driver.assign(stream, assignment(2))
    assert [r.reason for r in driver.said("h:1")] == [RejectReason.STOPPING]


def test_a_stop_hands_back_what_was_not_spawned_and_ends_what_runs():
    driver, stream = connected()
    small = spec(request=Amount(1, 1), grace_ms=60_000)
    driver.assign(stream, *(assignment(n, spec=small) for n in range(5)))
    driver.spawn(0)
    assert [s.assign.attempt_id for s in driver.did(Spawn)] == [attempt_id(4)]
    driver.assign(stream, assignment(5, spec=small))
    driver.handle(STOP)
    assert driver.did(Kill) == [Kill(attempt_id(0), Signal.TERM)]
    assert [r.attempt_id for r in driver.said("h:1", entries.Rejected)] == [attempt_id(5)]
    driver.spawn(1)
    assert driver.did(Kill) == [Kill(attempt_id(1), Signal.TERM)]
    assert driver.did(Spawn) == []
    driver.tick(STOP_GRACE_MS)
    assert driver.did(Kill) == [Kill(attempt_id(n), Signal.KILL) for n in (0, 1)]


def test_a_stop_ends_when_all_results_are_acknowledged():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    driver.handle(STOP)
    driver.exit(1, -1, 15)
    assert driver.result() == (Outcome.LOST, -1, 15, "its agent was stopped")
    driver.tick(FAREWELL_MS)
    assert driver.did(Exit) == []
    driver.frame(stream, result_acks=(attempt_id(1),))
    assert driver.last == [Exit()]


def test_a_stop_with_nobody_to_tell_ends_with_the_last_process():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(events.NodeLost(*stream, "gone"))
    driver.handle(STOP)
    assert driver.did(Exit) == []
    assert driver.exit(1, -1, 15) == [Exit()]


def test_a_stop_has_an_end_whatever_happens():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(STOP)
    driver.tick(STOP_LIMIT_MS)
    assert driver.did(Exit) == [Exit()]


def test_a_stop_shortens_the_grace_of_what_is_ending_already():
    driver, stream = connected()
    for number, grace_ms in ((1, 60_000), (2, 100)):
        driver.run(stream, assignment(number, spec=spec(grace_ms=grace_ms)))
        cancel = entries.Cancel(0, 1, attempt_id(number))
        driver.frame(stream, cancels=(cancel,))
    driver.tick(100)
    assert driver.did(Kill) == [Kill(attempt_id(2), Signal.KILL)]
    driver.handle(STOP)
    assert driver.did(Kill) == []
    driver.tick(STOP_GRACE_MS)
    assert driver.did(Kill) == [Kill(attempt_id(1), Signal.KILL)]


def test_the_next_deadline_is_the_nearest_of_all():
    driver, stream = connected()
    driver.tick()
    assert driver.core.next_deadline() == driver.now_ms + 1_000
    driver.run(stream, assignment(1, spec=spec(timeout_ms=700, grace_ms=9_000)))
    assert driver.core.next_deadline() == driver.now_ms + 700
