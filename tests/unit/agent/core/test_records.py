from __future__ import annotations

from agent.core.entries import Result
from agent.core.records import (
    AcceptedRecord,
    AckedRecord,
    JournalState,
    StartedRecord,
    StartOfAgent,
)
from agent.core.types import Outcome
from tests.unit.agent.core.driver import INCARNATION, assignment, attempt_id, leadership

START = StartOfAgent(1, "boot-1", 5)
ACCEPTED = AcceptedRecord(assignment(1, batch=7), 9_000)
STARTED = StartedRecord(attempt_id(1), 101, 6, 7, "boot-1")
FINISHED = Result(0, attempt_id(1), Outcome.SUCCEEDED, 0, 0, 6, 8)


def read(*records) -> JournalState:
    state = JournalState(INCARNATION)
    state.read(records)
    return state


def test_a_journal_holds_what_is_not_acknowledged():
    state = read(START, ACCEPTED, STARTED, FINISHED)
    held = state.held[attempt_id(1)]
    assert (held.assign, held.lease_until_ms, held.boot_id) == (ACCEPTED.assign, 9_000, "boot-1")
    assert (held.started, held.result) == (STARTED, FINISHED)
    state.read([AckedRecord(attempt_id(1)), STARTED, FINISHED, AckedRecord(attempt_id(1))])
    assert state.held == {}


def test_an_assignment_carries_the_highest_batch_of_its_own_epoch():
    assert read(leadership(0, 1, batch=3), ACCEPTED).epochs == {0: leadership(0, 1, batch=7)}
    assert read(leadership(0, 1, batch=9), ACCEPTED).epochs == {0: leadership(0, 1, batch=9)}
    assert read(leadership(0, 2, batch=3), ACCEPTED).epochs == {0: leadership(0, 2, batch=3)}
    assert read(ACCEPTED).epochs == {}


def test_a_snapshot_says_the_same():
    second = StartOfAgent(2, "boot-2", 9)
    later = AcceptedRecord(assignment(2), 4)
    state = read(leadership(0, 1, batch=3), START, ACCEPTED, STARTED, FINISHED, second, later)
    again = read(*state.snapshot())
    assert (again.start, again.epochs, again.held) == (state.start, state.epochs, state.held)
    assert again.held[attempt_id(1)].boot_id == "boot-1"
    assert again.held[attempt_id(2)].boot_id == "boot-2"
