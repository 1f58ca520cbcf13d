"""What a step asks for: an empty batch is false, and the order of the kinds is a promise."""

from __future__ import annotations

from controlplane.core.effects import (
    WRITE_KINDS,
    AppliedRow,
    CommandOutcome,
    Effects,
    InstantOutcome,
    WaitKind,
    Writes,
)


def test_a_batch_without_rows_is_false():
    assert not Writes()
    assert Writes(applied=[AppliedRow(1, CommandOutcome.APPLIED, "", 0)])


def test_two_steps_share_nothing():
    assert Effects().messages is not Effects().messages
    assert Effects().writes.runs is not Effects().writes.runs


def test_ends_are_written_before_new_attempts_and_runs_before_their_changes():
    """A refused attempt and its successor have the same task instance in one batch."""
    order = WRITE_KINDS.index
    assert order("done") < order("live")
    assert order("waits_gone") < order("waits")
    assert order("runs") < order("run_changes") < order("sealed")
    assert order("dags") < order("schedules")


def test_numbers_are_stored_and_never_change():
    assert [int(kind) for kind in WaitKind] == [1, 2, 4]
    assert [int(outcome) for outcome in InstantOutcome] == [1, 2, 3]
    assert [int(outcome) for outcome in CommandOutcome] == [1, 2, 3, 4, 5]
