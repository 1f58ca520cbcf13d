"""How the rows of a batch become statements."""

from __future__ import annotations

from controlplane.core.effects import (
    DoneRow,
    LateRow,
    LiveRow,
    RunChangeRow,
    RunRow,
    SealedRow,
    StartedRow,
    WaitGoneRow,
    WaitKind,
    WaitRow,
    Writes,
)
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import RunCause
from controlplane.store.batch import Statement, statements_of
from controlplane.store.queries import all_queries
from controlplane.store.records import Fence

FENCE = Fence(2, 5, 9)
NAMES = {text: name for name, text in all_queries().items()}


def live(task: int) -> LiveRow:
    return LiveRow(1, 7, task, 0, b"a" * 16, 1, "agent", b"i" * 16, 3)


def done(task: int) -> DoneRow:
    state = AttemptState.SUCCEEDED
    return DoneRow(1, 7, task, 0, b"a" * 16, state, None, 4, 0, 0, 0, 0, "")


def change(run: int) -> RunChangeRow:
    return RunChangeRow(1, run, RunState.FAILED, "why", 2, 9)


def new(run: int) -> RunRow:
    state, cause = RunState.RUNNING, RunCause.TRIGGER
    return RunRow(1, run, b"r" * 16, "t", "d", 0, b"d", state, cause, "", 0, 1, None, 1)


def names(*statements: Statement) -> list[str]:
    return [NAMES[statement.sql] for statement in statements]


def test_nothing_to_write_is_no_statement():
    assert statements_of(FENCE, Writes()) == []


def test_a_hop_is_one_statement():
    [statement] = statements_of(FENCE, Writes(done=[done(0), done(1)], live=[live(2)]))
    assert names(statement) == ["turn_attempts"]
    assert statement.arguments[:6] == [2, 5, 9, (1, 1), (7, 7), (0, 1)]
    assert statement.tag == "INSERT 0 2"


def test_a_task_instance_that_ends_and_is_assigned_again_takes_two():
    statements = statements_of(FENCE, Writes(done=[done(0)], live=[live(0)]))
    assert names(*statements) == ["end_attempts", "assign_attempts"]


def test_late_results_follow_the_ends_and_carry_the_batch_that_recorded_them():
    late = LateRow(1, 7, 0, 0, b"a" * 16, AttemptState.FAILED, None, 4, 3, 0, 0, 0, "", False, 9)
    first, second = statements_of(FENCE, Writes(late=[late], done=[done(0)], live=[live(1)]))
    assert names(first, second) == ["turn_attempts", "add_late_results"]
    assert second.arguments[:4] == [5, 9, (1,), (7,)]
    assert second.tag is None


def test_a_start_of_what_also_ended_is_not_noted():
    started = [StartedRow(7, 0, 0, 3), StartedRow(7, 1, 0, 3)]
    first, second = statements_of(FENCE, Writes(started=started, done=[done(0)]))
    assert names(first, second) == ["note_starts", "end_attempts"]
    assert (first.arguments, first.tag) == ([2, (7,), (1,), (0,), (3,)], "UPDATE 1")


def test_a_new_run_that_changed_is_written_once():
    writes = Writes(runs=[new(7), new(8)], run_changes=[change(7)], sealed=[SealedRow(1, 7, b"")])
    first, second = statements_of(FENCE, writes)
    assert names(first, second) == ["add_runs", "seal_runs"]
    assert first.arguments[8] == (RunState.FAILED, RunState.RUNNING)
    assert first.arguments[13:] == [(2, None), (1, 1), ("why", ""), (9, None)]


def test_runs_that_end_are_changed_and_sealed_in_one_statement():
    [statement] = statements_of(
        FENCE, Writes(run_changes=[change(7)], sealed=[SealedRow(1, 7, b"s")])
    )
    assert names(statement) == ["change_and_seal_runs"]
    assert statement.tag == "UPDATE 1"
    assert names(*statements_of(FENCE, Writes(run_changes=[change(7)]))) == ["change_runs"]


def test_a_wait_that_went_again_is_not_added():
    wait = WaitRow(1, 7, 0, 0, WaitKind.BACKOFF, 5, 2, "")
    gone = WaitGoneRow(7, 0, 0, WaitKind.BACKOFF)
    assert names(*statements_of(FENCE, Writes(waits=[wait], waits_gone=[gone]))) == ["drop_waits"]
    assert names(*statements_of(FENCE, Writes(waits=[wait]))) == ["add_waits"]
