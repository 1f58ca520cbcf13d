from __future__ import annotations

import pytest

from agent.core import entries, events
from agent.core.actions import Kill, Note, Signal, Spawn
from agent.core.attempts import UNKNOWN
from agent.core.types import Amount, Outcome, RejectReason
from tests.unit.agent.core.driver import (
    WALL_US,
    Driver,
    assignment,
    attempt_id,
    cores,
    leadership,
    spec,
)

ID = attempt_id(1)
TERM, KILL = Kill(ID, Signal.TERM), Kill(ID, Signal.KILL)


def connected() -> tuple[Driver, tuple[str, int]]:
    driver = Driver()
    return driver, driver.connect("n1", leadership(0))


def cancel(driver: Driver, stream, number: int = 1, epoch: int = 1) -> None:
    driver.frame(stream, cancels=(entries.Cancel(0, epoch, attempt_id(number)),))


def test_an_assignment_is_accepted_spawned_reported_and_forgotten():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    assert driver.last[0] == Spawn(assignment(1))
    assert driver.said("h:1") == [entries.Accepted(0, ID)]
    driver.spawn(1)
    assert driver.said("h:1") == [entries.Started(0, ID, WALL_US + 1)]
    driver.exit(1)
    assert driver.result() == (Outcome.SUCCEEDED, 0, 0, "")
    driver.frame(stream, result_acks=(ID,))
    assert driver.last == []
    assert len(driver.core.work.attempts) == 0
    driver.frame(stream, result_acks=(ID,))
    assert driver.last == []


def test_an_acknowledgement_of_what_runs_is_ignored():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.frame(stream, result_acks=(ID,))
    driver.exit(1)
    assert driver.result()[0] is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"incarnation": b"other"}, RejectReason.INCARNATION),
        ({"spec": spec(request=cores(5))}, RejectReason.CAPACITY),
        ({"spec": spec(request=Amount(0, 5 << 20))}, RejectReason.CAPACITY),
    ],
)
def test_what_is_not_to_be_taken_is_rejected(fields, reason):
    driver, stream = connected()
    driver.assign(stream, assignment(1, **fields))
    (rejected,) = driver.said("h:1")
    assert rejected.reason is reason
    assert driver.did(Spawn) == []


@pytest.mark.parametrize(
    ("fields", "seen"), [({"epoch": 0}, 1), ({"epoch": 2}, 1), ({"shard": 9}, 0)]
)
def test_an_assignment_of_an_epoch_that_is_not_in_force_has_no_answer(fields, seen):
    driver, stream = connected()
    assign = assignment(1, **fields)
    driver.assign(stream, assign)
    text = f"assigned in epoch {assign.epoch}, which is not in force; highest seen: {seen}"
    assert driver.last == [Note(text, "h:1", assign.shard)]


def test_a_node_may_not_use_more_than_its_grant():
    driver, stream = connected()
    driver.assign(stream, *(assignment(n) for n in range(5)))
    assert len(driver.said("h:1", entries.Accepted)) == 4
    assert [r.attempt_id for r in driver.said("h:1", entries.Rejected)] == [attempt_id(4)]


def test_the_same_assignment_again_is_answered_by_its_state():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    driver.assign(stream, assignment(1))
    assert driver.last and driver.said("h:1") == [entries.Accepted(0, ID)]
    driver.spawn(1)
    driver.assign(stream, assignment(1))
    started = entries.Started(0, ID, WALL_US + 1)
    assert driver.said("h:1") == [entries.Accepted(0, ID), started]
    driver.exit(1)
    (result,) = driver.said("h:1")
    for acks in ((), (ID,)):
        driver.frame(stream, result_acks=acks, assigns=(assignment(1),))
        assert driver.said("h:1") == [result]
        assert driver.did(Spawn) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (None, "the specification of the task could not be read"),
        (spec(argv=()), "the specification of the task names no program"),
    ],
)
def test_a_specification_that_cannot_be_executed_fails_the_attempt(broken, message):
    driver, stream = connected()
    driver.assign(stream, assignment(1, spec=broken))
    assert driver.result() == (Outcome.FAILED, -1, 0, message)
    assert driver.did(Spawn) == []


def test_a_failed_spawn_fails_the_attempt():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    driver.handle(events.SpawnFailed(ID, "cannot execute 'true'", 7))
    assert driver.result() == (Outcome.FAILED, -1, 0, "cannot execute 'true'")


def test_a_timeout_asks_first_and_kills_after_the_grace():
    driver, stream = connected()
    driver.run(stream, assignment(1, spec=spec(timeout_ms=300, grace_ms=200)))
    assert Kill not in map(type, driver.tick(299))
    assert driver.tick(1)[0] == TERM
    assert Kill not in map(type, driver.tick(199))
    assert KILL in driver.tick(1)
    assert Kill not in map(type, driver.tick(500))
    driver.exit(1, -1, 9)
    assert driver.result() == (Outcome.TIMED_OUT, -1, 9, "killed at its timeout of 300 ms")


def test_without_a_grace_the_first_signal_is_the_last():
    driver, stream = connected()
    driver.run(stream, assignment(1, spec=spec(grace_ms=0)))
    cancel(driver, stream)
    assert driver.last == [KILL]


def test_a_cancelled_attempt_is_ended_once():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    cancel(driver, stream)
    assert driver.last == [TERM]
    cancel(driver, stream)
    assert driver.last == []
    driver.exit(1, -1, 15)
    assert driver.result()[0] is Outcome.CANCELLED
    cancel(driver, stream)
    assert driver.last == []
    driver.frame(stream, result_acks=(ID,))
    cancel(driver, stream)
    assert driver.last == []


def test_a_cancellation_finds_its_attempt_before_it_was_spawned():
    driver, stream = connected()
    assigns = tuple(assignment(n, spec=spec(request=Amount(1, 1))) for n in range(6))
    driver.assign(stream, *assigns)
    assert len(driver.did(Spawn)) == 4
    cancel(driver, stream, 5)
    assert driver.result() == (Outcome.CANCELLED, -1, 0, "cancelled before it was started")
    for number in range(5):
        driver.spawn(number)
    assert [s.assign for s in driver.did(Spawn)] == []


def test_a_cancellation_that_meets_a_spawn_is_carried_out_after_it():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    cancel(driver, stream)
    assert driver.last == []
    driver.spawn(1)
    assert driver.last[0] == TERM


def test_a_cancelled_spawn_that_fails_is_cancelled():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    cancel(driver, stream)
    driver.handle(events.SpawnFailed(ID, "no", 7))
    assert driver.result()[0] is Outcome.CANCELLED


def test_a_cancellation_under_an_old_epoch_is_ignored():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    cancel(driver, stream, epoch=0)
    assert driver.last == []


def test_a_cancellation_of_what_is_not_known_keeps_the_attempt_from_starting():
    driver, stream = connected()
    cancel(driver, stream)
    assert driver.result() == (Outcome.CANCELLED, -1, 0, UNKNOWN)
    driver.assign(stream, assignment(1))
    assert driver.result()[0] is Outcome.CANCELLED
    driver.frame(stream, result_acks=(ID,))
    driver.assign(stream, assignment(1))
    assert driver.result()[0] is Outcome.CANCELLED


def test_news_go_to_whoever_leads_the_shard_now():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.welcome(first, "n1", leadership(0))
    driver.welcome(second, "n2")
    driver.run(first, assignment(1))
    driver.welcome(second, "n2", leadership(0, 2))
    inventory = entries.Inventory(0, 2, (entries.LiveAttempt(ID, WALL_US + 1),), ())
    assert driver.said("h:2", entries.Inventory) == [inventory]
    driver.assign(first, assignment(2))
    assert driver.said("h:1") == []
    assert driver.did(Spawn) == []
    driver.exit(1)
    assert driver.result("h:2")[0] is Outcome.SUCCEEDED
    assert driver.said("h:1") == []


def test_news_without_a_leader_wait_for_the_next_inventory():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.handle(events.NodeLost(*stream, "gone"))
    assert driver.exit(1) == []
    driver.connect("n1", leadership(0), after_ms=200)
    (inventory,) = driver.said("h:1", entries.Inventory)
    assert [(r.attempt_id, r.outcome) for r in inventory.finished] == [(ID, Outcome.SUCCEEDED)]


def test_the_highest_batch_is_remembered():
    driver, stream = connected()
    driver.assign(stream, assignment(1, batch=12))
    assert driver.core.sessions.epochs.get(0).batch == 12
