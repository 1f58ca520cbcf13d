"""The state tables: what is final, what is reachable, and that nothing else happens."""

from __future__ import annotations

import pytest

from controlplane.core.states import (
    FINAL_TASK,
    HOLDING_TASK,
    RUN_TRANSITIONS,
    STARTING_RUN,
    TASK_TRANSITIONS,
    AttemptState,
    RunEvent,
    RunState,
    TaskEvent,
    TaskState,
    TransitionError,
    next_run_state,
    next_task_state,
)
from docs.states import PAGE, RUN_EVENTS, TASK_EVENTS, page


def reachable(transitions, first):
    found, new = set(), {first}
    while new:
        found |= new
        new = {after for (state, _), after in transitions.items() if state in found} - found
    return found


def test_final_states_of_runs():
    assert [state.name for state in RunState if state.final] == ["SUCCEEDED", "FAILED", "CANCELLED"]


def test_final_states_of_task_instances():
    assert [state.name for state in TaskState if state.final] == [
        "SUCCEEDED",
        "FAILED",
        "UPSTREAM_FAILED",
        "CANCELLED",
    ]


def test_final_states_of_attempts():
    assert [state for state in AttemptState if not state.final] == [
        AttemptState.ASSIGNED,
        AttemptState.RUNNING,
    ]


def test_flags_by_number_say_the_same():
    assert all(bool(FINAL_TASK[state]) is state.final for state in TaskState)
    assert all(bool(HOLDING_TASK[state]) is state.holds_capacity for state in TaskState)
    assert STARTING_RUN == (RunState.RUNNING,)


def test_an_attempt_occupies_an_agent_while_assigned_or_running():
    holding = [state for state in TaskState if state.holds_capacity]
    assert holding == [TaskState.ASSIGNED, TaskState.RUNNING]


def test_every_state_can_be_reached():
    assert reachable(RUN_TRANSITIONS, RunState.QUEUED) == set(RunState)
    assert reachable(TASK_TRANSITIONS, TaskState.WAITING) == set(TaskState)


def test_every_event_is_of_use():
    assert {event for _, event in RUN_TRANSITIONS} == set(RunEvent)
    assert {event for _, event in TASK_TRANSITIONS} == set(TaskEvent)


@pytest.mark.parametrize(("before", "after"), list(RUN_TRANSITIONS.items()), ids=str)
def test_runs_follow_their_table(before, after):
    assert next_run_state(*before) is after


@pytest.mark.parametrize(("before", "after"), list(TASK_TRANSITIONS.items()), ids=str)
def test_task_instances_follow_their_table(before, after):
    assert next_task_state(*before) == after


def test_any_other_change_is_our_bug():
    for state in RunState:
        for event in set(RunEvent) - {event for at, event in RUN_TRANSITIONS if at is state}:
            with pytest.raises(TransitionError, match=f"run: {event.name} in {state.name}"):
                next_run_state(state, event)
    for state in TaskState:
        for event in set(TaskEvent) - {event for at, event in TASK_TRANSITIONS if at is state}:
            with pytest.raises(TransitionError, match=f"instance: {event.name} in {state.name}"):
                next_task_state(state, event)


def test_numbers_are_stored_and_never_change():
    assert [int(state) for state in RunState] == [2, 3, 4, 5, 6, 7, 8]
    assert [int(state) for state in TaskState] == list(range(1, 11))
    assert [int(state) for state in AttemptState] == list(range(1, 10))


def test_the_page_of_states_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make regenerate`"


def test_the_page_explains_every_event():
    assert list(RUN_EVENTS) == list(RunEvent)
    assert list(TASK_EVENTS) == list(TaskEvent)
    for state in (*RunState, *TaskState, *AttemptState):
        assert f"| `{state.name}` | {int(state)} |" in page()
