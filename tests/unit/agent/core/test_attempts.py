from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.attempts import MAX_MESSAGE, Attempt, AttemptTable, State
from agent.core.entries import LiveAttempt, Subject
from agent.core.types import EndCause, Outcome
from tests.unit.agent.core.driver import WALL_US, assignment, attempt_id, ended, failed, spec


def held(table: AttemptTable, number: int, **fields) -> Attempt:
    attempt = Attempt(assignment(number, spec=spec(**fields)), "n1")
    table.hold(attempt)
    return attempt


def started(table: AttemptTable, number: int, **fields) -> Attempt:
    attempt = held(table, number, **fields)
    list(table.to_spawn())
    table.spawned(attempt, 5)
    return attempt


def test_spawns_are_asked_for_in_order_and_a_few_at_a_time():
    table = AttemptTable(spawn_window=2)
    attempts = [held(table, n) for n in range(4)]
    assert list(table.to_spawn()) == attempts[:2]
    assert list(table.to_spawn()) == []
    table.spawned(attempts[0], 1)
    table.spawn_failed(attempts[1], failed(1))
    assert list(table.to_spawn()) == attempts[2:]


def test_an_attempt_that_is_over_or_dropped_is_not_spawned():
    table = AttemptTable()
    over, dropped = (held(table, n) for n in range(2))
    table.end(over, Outcome.LOST, 1, "x")
    table.drop(dropped)
    assert list(table.to_spawn()) == []
    assert list(table) == [over]
    assert table.unfinished == 0


def test_what_was_not_claimed_leaves_its_place_and_waits_again():
    table = AttemptTable(spawn_window=1)
    first, second = held(table, 1), held(table, 2)
    assert list(table.to_spawn()) == [first]
    table.wait_again(first)
    assert list(table.to_spawn()) == [second]
    table.drop(second)
    assert list(table.to_spawn()) == [first]


def test_what_may_have_been_claimed_before_takes_a_place():
    table = AttemptTable(spawn_window=1)
    earlier = Attempt(assignment(1), "", state=State.SPAWNING)
    table.hold(earlier)
    later = held(table, 2)
    assert list(table.to_spawn()) == []
    table.spawned(earlier, 5)
    assert list(table.to_spawn()) == [later]


@pytest.mark.parametrize(
    ("cause", "code", "outcome", "message"),
    [
        (EndCause.NONE, 0, Outcome.SUCCEEDED, ""),
        (EndCause.NONE, 1, Outcome.FAILED, ""),
        (EndCause.NONE, -1, Outcome.FAILED, ""),
        (EndCause.CANCELLED, -1, Outcome.CANCELLED, ""),
        (EndCause.TIMED_OUT, 0, Outcome.TIMED_OUT, "killed at its timeout of 70 ms"),
        (EndCause.AGENT_STOPPED, -1, Outcome.LOST, "its agent was stopped"),
        (EndCause.LEASE, -1, Outcome.LOST, "killed at the end of its attempt lease"),
    ],
)
def test_the_outcome_follows_from_the_cause_and_the_status(cause, code, outcome, message):
    table = AttemptTable()
    attempt = started(table, 1, timeout_ms=70)
    result = table.exited(attempt, ended(1, code, stdout_bytes=3, stderr_bytes=4, cause=cause))
    assert (result.outcome, result.message) == (outcome, message)
    assert (result.started_at_us, result.finished_at_us) == (5, WALL_US + 99)
    assert (result.stdout_bytes, result.stderr_bytes) == (3, 4)
    assert attempt.state is State.FINISHED


@pytest.mark.parametrize(
    ("stop", "cause", "outcome"),
    [
        (None, EndCause.NONE, Outcome.FAILED),
        (None, EndCause.LEASE, Outcome.LOST),
        (EndCause.CANCELLED, EndCause.NONE, Outcome.CANCELLED),
        (EndCause.CANCELLED, EndCause.LEASE, Outcome.LOST),
        (EndCause.AGENT_STOPPED, EndCause.NONE, Outcome.FAILED),
    ],
)
def test_what_could_not_be_spawned_never_ran(stop, cause, outcome):
    table = AttemptTable()
    attempt = held(table, 1)
    attempt.stop = stop
    result = table.spawn_failed(attempt, failed(1, cause=cause))
    assert (result.outcome, result.started_at_us, result.exit_code) == (outcome, 0, -1)


def test_an_end_without_a_beginning_is_not_taken_for_one_that_never_ran():
    table = AttemptTable()
    attempt = Attempt(assignment(1, spec=None), "n1")
    table.hold(attempt)
    result = table.exited(attempt, ended(1, cause=EndCause.TIMED_OUT))
    assert (result.started_at_us, result.message) == (WALL_US + 99, "killed at its timeout of 0 ms")


@pytest.mark.parametrize(
    ("broken", "missing"),
    [(spec(), ""), (None, "could not be read"), (spec(argv=()), "names no program")],
)
def test_an_attempt_knows_whether_it_has_a_program(broken, missing):
    assert Attempt(assignment(1, spec=broken), "n1").program_missing == missing


def test_a_message_of_the_supervisor_wins_and_is_cut():
    table = AttemptTable()
    result = table.exited(started(table, 1), ended(1, message="x" * 2_000))
    assert len(result.message) == MAX_MESSAGE
    assert result.message.endswith("x…")


def test_an_acknowledged_attempt_is_remembered_for_a_while():
    table = AttemptTable(recent_limit=2)
    for number in range(3):
        attempt = started(table, number)
        result = table.exited(attempt, ended(number))
        table.acknowledge(attempt)
        assert table.recent(attempt_id(number)) == result
    assert len(table) == 0
    assert table.find(attempt_id(2)) is None
    assert table.recent(attempt_id(0)) is None
    assert table.recent(attempt_id(1)) is not None


def test_an_inventory_names_what_lives_and_what_is_not_acknowledged():
    table = AttemptTable()
    started(table, 1)
    held(table, 2)
    table.hold(Attempt(assignment(3, shard=1), "n1"))
    result = table.exited(started(table, 4), ended(4))
    live = [LiveAttempt(attempt_id(1), 5), LiveAttempt(attempt_id(2), 0)]
    assert table.inventory([0, 2]) == {0: (live, [result], []), 2: ([], [], [])}


def test_an_inventory_says_what_the_attempts_are_of():
    table = AttemptTable()
    assign = replace(assignment(1, run="r-1", task="t"), number=2)
    table.hold(Attempt(assign, "n1"))
    assert table.inventory([0])[0].subjects == [Subject(attempt_id(1), "r-1", "t", 2)]
