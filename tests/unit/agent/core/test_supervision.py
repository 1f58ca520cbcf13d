from __future__ import annotations

import pytest

from agent.core import entries, events
from agent.core.actions import Adopted, ExtendLeases, Forget, Spawn, Stop
from agent.core.attempts import SPAWN_WINDOW
from agent.core.records import AcceptedRecord, StartedRecord
from agent.core.supervision import WAITED_TOO_LONG
from agent.core.types import Amount, EndCause, Outcome
from tests.unit.agent.core.driver import (
    BOOT,
    LEASE_MS,
    WALL_US,
    Driver,
    assignment,
    attempt_id,
    claimed,
    ended,
    failed,
    journal,
    leadership,
    spawned,
    spec,
)

ID = attempt_id(1)
KILL = Stop(ID, EndCause.CANCELLED, 0)
ACCEPTED = AcceptedRecord(assignment(1), 9_000)
STARTED = StartedRecord(ID, 101, WALL_US + 1, 7, BOOT)
CLAIMED = events.Supervised(claimed(1))
RUNS = events.Supervised(claimed(1), spawned(1))
ENDED = events.Supervised(claimed(1), spawned(1), ended(1))


def restarted(*records, boot_id: str = BOOT) -> Driver:
    """A start of an agent whose journal says this; no supervisor has answered yet."""
    return Driver(state=journal(*records, number=2, boot_id=boot_id), supervised=False)


def connected() -> tuple[Driver, tuple[str, int]]:
    driver = Driver()
    return driver, driver.connect("n1", leadership(0))


def recorded(driver: Driver) -> entries.Result:
    (result,) = [record for record, synced in driver.records if synced]
    assert isinstance(result, entries.Result)
    return result


def test_what_nobody_claimed_is_asked_for_again():
    driver = restarted(ACCEPTED)
    assert driver.tick() == []
    assert driver.supervisor() == [Spawn(assignment(1), 9_000, 1)]


def test_what_nobody_claimed_is_not_asked_for_after_its_lease():
    driver = restarted(ACCEPTED)
    driver.now_ms = 9_000
    assert driver.supervisor() == []
    result = recorded(driver)
    assert (result.outcome, result.started_at_us) == (Outcome.LOST, 0)
    assert result.message == WAITED_TOO_LONG


def test_what_has_no_program_is_not_asked_for_after_a_restart_either():
    driver = restarted(AcceptedRecord(assignment(1, spec=None), 9_000))
    assert driver.supervisor() == []
    assert recorded(driver).outcome is Outcome.FAILED


@pytest.mark.parametrize("records", [(ACCEPTED,), (ACCEPTED, STARTED)])
def test_what_runs_is_adopted(records):
    driver = restarted(*records)
    assert driver.supervisor(RUNS) == [Adopted(assignment(1), over=False)]
    assert driver.records == ([(STARTED, False)] if len(records) == 1 else [])
    assert driver.supervisor(RUNS) == []
    driver.exit(1)
    assert recorded(driver).started_at_us == WALL_US + 1


@pytest.mark.parametrize("known", [ENDED, events.Supervised(claimed(1), ended=ended(1))])
def test_what_ended_meanwhile_ended_so(known):
    driver = restarted(ACCEPTED)
    assert driver.supervisor(known) == [Adopted(assignment(1), over=True)]
    result = recorded(driver)
    assert (result.outcome, result.started_at_us) == (Outcome.SUCCEEDED, WALL_US + 1)


def test_what_could_not_be_spawned_meanwhile_failed():
    driver = restarted(ACCEPTED)
    assert driver.supervisor(events.Supervised(claimed(1), failed=failed(1))) == []
    assert recorded(driver).outcome is Outcome.FAILED


def test_what_was_only_claimed_is_lost_and_may_have_run():
    driver = restarted(ACCEPTED)
    driver.supervisor(CLAIMED)
    result = recorded(driver)
    assert (result.outcome, result.started_at_us) == (Outcome.LOST, WALL_US + 1)


def test_after_a_reboot_nothing_is_spawned_and_what_seems_to_run_is_ended():
    driver = restarted(ACCEPTED, boot_id="boot-2")
    driver.supervisor(RUNS)
    assert driver.did(Spawn) == []
    assert driver.did(Stop) == [Stop(ID, EndCause.AGENT_STOPPED, 0)]
    assert recorded(driver).outcome is Outcome.LOST


def test_a_result_of_an_earlier_start_keeps_its_output_alive():
    finished = entries.Result(0, ID, Outcome.SUCCEEDED, 0, 0, WALL_US + 1, WALL_US + 2)
    driver = restarted(ACCEPTED, STARTED, finished)
    assert driver.supervisor(ENDED) == [Adopted(assignment(1), over=True)]
    assert driver.records == []


def test_what_runs_and_is_nobodys_is_killed_and_forgotten_at_its_end():
    driver = Driver()
    assert driver.supervisor(RUNS, events.Supervised(claimed(2))) == [KILL, Forget(attempt_id(2))]
    driver.exit(1, -1, 9)
    assert driver.last == [Forget(ID)]


def test_a_process_that_nobody_asked_for_is_killed():
    driver = Driver()
    assert driver.spawn(1) == [KILL]
    assert driver.handle(failed(2)) == [Forget(attempt_id(2))]


def test_the_death_of_the_supervisor_takes_what_ran_and_spares_what_did_not():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.assign(stream, assignment(2))
    driver.handle(events.SupervisorGone("killed"))
    driver.assign(stream, assignment(3))
    assert driver.did(Spawn) == []
    driver.supervisor()
    assert driver.result()[0] is Outcome.LOST
    until_ms = driver.now_ms + LEASE_MS
    assert driver.did(Spawn) == [
        Spawn(assignment(3), until_ms, 2),
        Spawn(assignment(2), until_ms, 2),
    ]


def test_the_death_of_the_supervisor_makes_room_for_other_spawns():
    driver, stream = connected()
    small = spec(request=Amount(1, 1))
    window = [assignment(n, spec=small) for n in range(SPAWN_WINDOW)]
    driver.assign(stream, *window, assignment(99, spec=small))
    driver.handle(events.SupervisorGone("killed"))
    driver.supervisor(*(events.Supervised(claimed(n)) for n in range(SPAWN_WINDOW)))
    assert [s.assign.attempt_id for s in driver.did(Spawn)] == [attempt_id(99)]


def test_a_cancellation_while_there_is_no_supervisor_is_carried_out_by_the_next():
    driver, stream = connected()
    driver.assign(stream, assignment(1), assignment(2), assignment(3))
    driver.spawn(1)
    driver.handle(events.SupervisorGone("it was too slow"))
    cancels = tuple(entries.Cancel(0, 1, attempt_id(n)) for n in (1, 2, 3))
    driver.frame(stream, cancels=cancels)
    assert driver.said("h:1") == []
    driver.supervisor(RUNS, events.Supervised(claimed(2), spawned(2)))
    asked = [Stop(attempt_id(n), EndCause.CANCELLED, 500) for n in (1, 2)]
    assert driver.did(Stop) == asked
    assert [r.attempt_id for r in driver.said("h:1", entries.Result)] == [attempt_id(3)]
    assert driver.result()[0] is Outcome.CANCELLED


def test_leases_are_told_to_the_next_supervisor():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.tick(500)
    driver.frame(stream, lease_extensions=(entries.LeaseExtension(0, 1, 1),))
    until_ms = driver.now_ms + LEASE_MS
    driver.now_ms += 100
    assert driver.supervisor(RUNS) == [ExtendLeases(0, until_ms)]
    driver.now_ms = until_ms
    assert driver.supervisor(RUNS) == []


def test_news_that_come_twice_change_nothing():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    assert driver.spawn(1) == []
    assert driver.handle(failed(1, "claimed before")) == []
    driver.exit(1)
    (result,) = driver.said("h:1")
    assert driver.exit(1, 1) == []
    assert driver.handle(failed(1)) == []
    assert driver.spawn(1) == [KILL]
    driver.assign(stream, assignment(1))
    assert driver.said("h:1") == [result]


def test_the_late_end_of_what_was_given_up_does_not_change_its_result():
    driver, stream = connected()
    driver.run(stream, assignment(1))
    driver.supervisor()
    assert driver.result()[0] is Outcome.LOST
    assert driver.supervisor(RUNS) == [Stop(ID, EndCause.AGENT_STOPPED, 0)]
    assert driver.exit(1) == []
    driver.frame(stream, result_acks=(ID,))
    assert driver.last == [Forget(ID)]


def test_a_process_that_comes_before_it_was_asked_for_anew_is_the_one():
    driver, stream = connected()
    driver.assign(stream, assignment(1))
    driver.handle(events.SupervisorGone("killed"))
    driver.assign(stream, assignment(2))
    driver.spawn(2)
    assert driver.said("h:1") == [entries.Started(0, attempt_id(2), WALL_US + 2)]
    driver.supervisor(events.Supervised(claimed(2), spawned(2)))
    assert [s.assign.attempt_id for s in driver.did(Spawn)] == [ID]
