from __future__ import annotations

from agent.core import entries, events
from agent.core.actions import Spawn, Stop
from agent.core.agent import SESSIONS_A_START
from agent.core.records import AcceptedRecord, AckedRecord, StartedRecord
from agent.core.steps import STOP_GRACE_MS
from agent.core.types import NOTHING, EndCause, Outcome
from tests.unit.agent.core.driver import (
    BOOT,
    LEASE_MS,
    WALL_US,
    Driver,
    assignment,
    attempt_id,
    cores,
    journal,
    leadership,
    spec,
)

ACCEPTED = [AcceptedRecord(assignment(n), 9_000) for n in (1, 2)]
FINISHED = entries.Result(0, attempt_id(2), Outcome.SUCCEEDED, 0, 0, WALL_US, WALL_US + 2)


def test_what_is_taken_over_is_recorded_before_it_is_spawned_and_told():
    driver = Driver()
    stream = driver.connect("n1", leadership(0))
    driver.assign(stream, assignment(1))
    kinds = [type(action).__name__ for action in driver.all]
    assert kinds == ["Record", "Spawn", "Send"]


def test_a_spawn_is_recorded_and_told():
    driver = Driver()
    stream = driver.connect("n1", leadership(0))
    driver.run(stream, assignment(1))
    record = StartedRecord(attempt_id(1), 101, WALL_US + 1, 7, BOOT)
    assert driver.records == [(record, False)]


def test_what_earlier_starts_hold_occupies_capacity_until_its_leader_adopts_it():
    driver = Driver(state=journal(*ACCEPTED, FINISHED, number=2))
    grants = driver.core.grants
    assert grants.total() == cores(1)
    driver.connect("n1")
    assert driver.said("h:1", entries.Grant) == [entries.Grant(1, cores(3))]
    driver.welcome(("h:1", 2 * SESSIONS_A_START), "n1", leadership(0))
    assert driver.said("h:1", entries.Grant) == [entries.Grant(2, cores(4))]
    (inventory,) = driver.said("h:1", entries.Inventory)
    assert inventory.live == (entries.LiveAttempt(attempt_id(1), 0),)
    assert inventory.finished == (FINISHED,)


def test_an_empty_journal_occupies_nothing():
    assert Driver(state=journal()).core.grants.total() == NOTHING


def test_a_stop_of_what_has_no_specification_gives_no_grace():
    state = journal(AcceptedRecord(assignment(1, spec=None), 0), number=2)
    driver = Driver(state=state, supervised=False)
    attempt = driver.core.work.attempts.find(attempt_id(1))
    attempt.stop = EndCause.CANCELLED
    driver.spawn(1)
    assert driver.last == [Stop(attempt_id(1), EndCause.CANCELLED, 0)]


def test_what_is_handed_back_is_forgotten_on_disk_before_it_is_told():
    driver = Driver()
    stream = driver.connect("n1", leadership(0))
    driver.assign(stream, assignment(1, spec=spec(grace_ms=10**6)))
    driver.spawn(1)
    driver.handle(events.SupervisorGone("killed"))
    driver.assign(stream, assignment(2))
    assert driver.did(Spawn) == []
    driver.handle(events.StopRequested())
    assert driver.records == [(AckedRecord(attempt_id(2)), True)]
    assert driver.did(Stop) == [Stop(attempt_id(1), EndCause.AGENT_STOPPED, STOP_GRACE_MS)]
    assert [r.attempt_id for r in driver.said("h:1", entries.Rejected)] == [attempt_id(2)]


def test_the_end_of_a_lease_before_the_spawn_ends_the_attempt():
    driver = Driver()
    stream = driver.connect("n1", leadership(0))
    driver.handle(events.SupervisorGone("killed"))
    driver.assign(stream, assignment(1))
    driver.frame(stream)
    driver.tick(LEASE_MS)
    (result,) = [record for record, synced in driver.records if synced]
    assert (result.outcome, result.started_at_us) == (Outcome.LOST, 0)
