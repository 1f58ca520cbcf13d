from __future__ import annotations

import pytest

from agent.core import entries, events
from agent.core.actions import ExtendLeases, Forget, Note, Spawn, Stop
from agent.core.attempts import SPAWN_WINDOW
from agent.core.records import AcceptedRecord, AckedRecord
from agent.core.types import Amount, EndCause, Outcome, RejectReason
from agent.core.work import NOT_KNOWN
from tests.unit.agent.core.driver import (
    LEASE_MS,
    WALL_US,
    Driver,
    assignment,
    attempt_id,
    claimed,
    cores,
    failed,
    leadership,
    spawned,
    spec,
)

ID = attempt_id(1)
CANCELLED = Stop(ID, EndCause.CANCELLED, 500)


def connected() -> tuple[Driver, tuple[str, int]]:
    driver = Driver()
    return driver, driver.connect("n1", leadership(0))


def cancel(driver: Driver, stream, number: int = 1, epoch: int = 1) -> None:
    driver.frame(stream, cancels=(entries.Cancel(0, epoch, attempt_id(number)),))


def test_an_assignment_is_accepted_spawned_reported_and_forgotten():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    until_ms = driver.now_ms + LEASE_MS
    assert driver.records == [(AcceptedRecord(assignment(1), until_ms), True)]
    assert driver.last[0] == Spawn(assignment(1), until_ms, 1)
    assert driver.said("h:1") == [entries.Accepted(0, ID)]
    driver.spawn(1)
    assert driver.said("h:1") == [entries.Started(0, ID, WALL_US + 1)]
    driver.exit(1)
    assert driver.result() == (Outcome.SUCCEEDED, 0, 0, "")
    assert driver.records == [(driver.said("h:1")[0], True)]
    driver.frame(stream, result_acks=(ID,))
    assert driver.records == [(AckedRecord(ID), False)]
    assert driver.last == [Forget(ID)]
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
        ({"beat": 3}, RejectReason.LEASE),
    ],
)
def test_what_is_not_to_be_taken_is_rejected(fields, reason):
    driver, stream = connected()
    driver.assign(stream, assignment(1, **fields))
    (rejected,) = driver.said("h:1")
    assert rejected.reason is reason
    assert driver.did(Spawn) == []
    assert driver.records == []


def test_an_assignment_that_took_too_long_is_born_expired():
    driver, stream = connected()
    driver.now_ms += LEASE_MS - 1
    driver.assign(stream, assignment(1))
    assert driver.said("h:1") == [entries.Accepted(0, ID)]
    driver.now_ms += 1
    driver.assign(stream, assignment(2))
    (rejected,) = driver.said("h:1", entries.Rejected)
    assert rejected.reason is RejectReason.LEASE
    driver.assign(stream, assignment(1))
    assert driver.said("h:1") == [entries.Accepted(0, ID)]


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
    driver.handle(failed(1, "cannot execute 'true'"))
    assert driver.result() == (Outcome.FAILED, -1, 0, "cannot execute 'true'")


def test_a_cancelled_attempt_is_ended_once():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    cancel(driver, stream)
    assert driver.last == [CANCELLED]
    cancel(driver, stream)
    assert driver.last == []
    driver.exit(1, -1, 15, cause=EndCause.CANCELLED)
    assert driver.result()[0] is Outcome.CANCELLED
    cancel(driver, stream)
    assert driver.last == []
    driver.frame(stream, result_acks=(ID,))
    cancel(driver, stream)
    assert driver.last == []


def test_an_end_that_comes_before_its_cancellation_counts():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    cancel(driver, stream)
    driver.exit(1)
    assert driver.result()[0] is Outcome.SUCCEEDED


def test_a_cancellation_finds_its_attempt_before_it_was_spawned():
    driver, stream = connected()
    last = SPAWN_WINDOW + 1
    small = spec(request=Amount(1, 1))
    driver.assign(stream, *(assignment(n, spec=small) for n in range(last + 1)))
    assert len(driver.did(Spawn)) == SPAWN_WINDOW
    cancel(driver, stream, last)
    assert driver.result() == (Outcome.CANCELLED, -1, 0, "cancelled before it was started")
    driver.spawn(0)
    driver.spawn(1)
    assert driver.did(Spawn) == []


def test_a_cancellation_that_meets_a_spawn_is_carried_out_after_it():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    cancel(driver, stream)
    assert driver.last == []
    driver.spawn(1)
    assert driver.last[0] == CANCELLED


def test_a_cancelled_spawn_that_fails_is_cancelled():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    cancel(driver, stream)
    driver.handle(failed(1))
    assert driver.result()[0] is Outcome.CANCELLED


def test_a_cancellation_under_an_old_epoch_is_ignored():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    cancel(driver, stream, epoch=0)
    assert driver.last == []


def test_a_cancellation_of_what_is_not_known_keeps_the_attempt_from_starting():
    driver, stream = connected()
    cancel(driver, stream)
    assert driver.result() == (Outcome.CANCELLED, -1, 0, NOT_KNOWN)
    assert [type(record) for record, _ in driver.records] == [AcceptedRecord, entries.Result]
    driver.assign(stream, assignment(1))
    assert driver.result()[0] is Outcome.CANCELLED
    driver.frame(stream, result_acks=(ID,))
    driver.assign(stream, assignment(1))
    assert driver.result()[0] is Outcome.CANCELLED


def test_news_go_to_whoever_leads_the_shard_now():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.greet(first, "n1", leadership(0))
    driver.greet(second, "n2")
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


def known(number: int) -> events.Supervised:
    return events.Supervised(claimed(number), spawned(number))


def test_the_cancellation_of_a_process_that_is_nobodys_waits_for_its_end():
    driver, stream = connected()
    driver.supervisor(known(1))
    assert driver.last == [Stop(ID, EndCause.CANCELLED, 0)]
    cancel(driver, stream)
    assert driver.last == []
    driver.exit(1, -1, 9, cause=EndCause.CANCELLED)
    assert driver.result() == (Outcome.CANCELLED, -1, 9, "")


def test_an_extension_lets_the_attempts_of_one_shard_run_on():
    driver, stream = connected()
    driver.tick(500)
    driver.frame(stream, lease_extensions=(entries.LeaseExtension(0, 1, 1),))
    until_ms = driver.now_ms + LEASE_MS
    assert driver.last == [ExtendLeases(0, until_ms)]
    driver.frame(stream, lease_extensions=(entries.LeaseExtension(0, 1, 1),))
    assert driver.last == []
    driver.assign(stream, assignment(1))
    assert driver.did(Spawn) == [Spawn(assignment(1), until_ms, 1)]


@pytest.mark.parametrize(("shard", "epoch", "beat"), [(1, 1, 1), (0, 0, 1), (0, 2, 1), (0, 1, 9)])
def test_an_extension_that_is_not_in_force_extends_nothing(shard, epoch, beat):
    driver, stream = connected()
    driver.tick(500)
    driver.frame(stream, lease_extensions=(entries.LeaseExtension(shard, epoch, beat),))
    assert driver.last == []
