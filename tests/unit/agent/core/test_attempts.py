from __future__ import annotations

import pytest

from agent.core.attempts import MAX_MESSAGE, SPARE_DEADLINES, AttemptTable, State, Stop
from agent.core.entries import LiveAttempt
from agent.core.events import ProcessExited, SpawnFailed
from agent.core.types import Outcome
from tests.unit.agent.core.driver import assignment, attempt_id, spec


def started(table: AttemptTable, number: int, **fields):
    attempt = table.accept(assignment(number, spec=spec(**fields)), "n1")
    list(table.to_spawn())
    table.spawned(attempt, 5, 0)
    return attempt


def exit_of(number: int, code: int = 0, **fields) -> ProcessExited:
    return ProcessExited(attempt_id(number), code, 0, 9, **fields)


def test_spawns_are_asked_for_in_order_and_a_few_at_a_time():
    table = AttemptTable(spawn_window=2)
    attempts = [table.accept(assignment(n), "n1") for n in range(4)]
    assert list(table.to_spawn()) == attempts[:2]
    assert list(table.to_spawn()) == []
    table.spawned(attempts[0], 1, 0)
    table.spawn_failed(attempts[1], SpawnFailed(attempt_id(1), "no", 1))
    assert list(table.to_spawn()) == attempts[2:]


def test_an_attempt_that_is_over_or_dropped_is_not_spawned():
    table = AttemptTable()
    over, dropped = (table.accept(assignment(n), "n1") for n in range(2))
    table.never_started(over, 1, "x")
    table.drop(dropped)
    assert list(table.to_spawn()) == []
    assert list(table) == [over]
    assert table.unfinished == 0


@pytest.mark.parametrize(
    ("stop", "code", "outcome", "message"),
    [
        (None, 0, Outcome.SUCCEEDED, ""),
        (None, 1, Outcome.FAILED, ""),
        (None, -1, Outcome.FAILED, ""),
        (Stop.CANCELLED, -1, Outcome.CANCELLED, ""),
        (Stop.TIMED_OUT, 0, Outcome.TIMED_OUT, "killed at its timeout of 70 ms"),
        (Stop.AGENT_STOPPED, -1, Outcome.LOST, "its agent was stopped"),
    ],
)
def test_the_outcome_follows_from_the_stop_and_the_status(stop, code, outcome, message):
    table = AttemptTable()
    attempt = started(table, 1, timeout_ms=70)
    if stop:
        table.stop_by(attempt, stop, 10)
    result = table.exited(attempt, exit_of(1, code, stdout_bytes=3, stderr_bytes=4))
    assert (result.outcome, result.message) == (outcome, message)
    assert (result.started_at_us, result.finished_at_us) == (5, 9)
    assert (result.stdout_bytes, result.stderr_bytes) == (3, 4)
    assert attempt.state is State.FINISHED


def test_a_message_of_the_shell_wins_and_is_cut():
    table = AttemptTable()
    result = table.exited(started(table, 1), exit_of(1, message="x" * 2_000))
    assert len(result.message) == MAX_MESSAGE
    assert result.message.endswith("x…")


def test_an_acknowledged_attempt_is_remembered_for_a_while():
    table = AttemptTable(recent_limit=2)
    for number in range(3):
        attempt = started(table, number)
        result = table.exited(attempt, exit_of(number))
        table.acknowledge(attempt)
        assert table.recent(attempt_id(number)) == result
    assert len(table) == 0
    assert table.find(attempt_id(2)) is None
    assert table.recent(attempt_id(0)) is None
    assert table.recent(attempt_id(1)) is not None


def test_a_timeout_comes_once_and_only_while_the_process_runs():
    table = AttemptTable()
    running, over = started(table, 1, timeout_ms=100), started(table, 2, timeout_ms=50)
    started(table, 3)
    assert table.next_deadline() == 50
    table.exited(over, exit_of(2))
    assert list(table.due(99)) == []
    assert list(table.due(100)) == [running]
    assert list(table.due(100)) == []
    assert table.next_deadline() is None


def test_a_stop_replaces_the_deadline_of_the_timeout():
    table = AttemptTable()
    attempt = started(table, 1, timeout_ms=100)
    table.stop_by(attempt, Stop.CANCELLED, 300)
    assert list(table.due(299)) == []
    assert list(table.due(300)) == [attempt]


def test_an_acknowledged_attempt_has_no_deadline():
    table = AttemptTable()
    attempt = started(table, 1, timeout_ms=100)
    table.exited(attempt, exit_of(1))
    table.acknowledge(attempt)
    assert list(table.due(1_000)) == []


def test_deadlines_of_what_is_over_do_not_pile_up():
    table = AttemptTable()
    keeper = started(table, 0, timeout_ms=10**9)
    for number in range(1, 3 * SPARE_DEADLINES):
        attempt = started(table, number, timeout_ms=10**8)
        table.exited(attempt, exit_of(number))
        table.acknowledge(attempt)
    list(table.due(10**8))
    assert list(table.due(10**9)) == [keeper]
    assert table.next_deadline() is None


def test_after_the_heap_is_cleaned_the_live_deadlines_are_left():
    table = AttemptTable()
    started(table, 0, timeout_ms=77)
    started(table, 1)
    for number in range(2, SPARE_DEADLINES + 10):
        table.exited(started(table, number, timeout_ms=10), exit_of(number))
    assert [a.assign.attempt_id for a in table.due(77)] == [attempt_id(0)]


def test_an_inventory_names_what_lives_and_what_is_not_acknowledged():
    table = AttemptTable()
    started(table, 1)
    table.accept(assignment(2), "n1")
    table.accept(assignment(3, shard=1), "n1")
    result = table.exited(started(table, 4), exit_of(4))
    assert table.inventory([0, 2]) == {
        0: ([LiveAttempt(attempt_id(1), 5), LiveAttempt(attempt_id(2), 0)], [result]),
        2: ([], []),
    }


def test_what_is_buried_is_held_as_cancelled():
    table = AttemptTable()
    result = table.bury(assignment(1, spec=None), "n1", 4)
    assert (result.outcome, result.exit_code, result.finished_at_us) == (Outcome.CANCELLED, -1, 4)
    assert table.find(attempt_id(1)).result is result
    assert list(table.to_spawn()) == []
