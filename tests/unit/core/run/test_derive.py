"""The states that follow from rows: one function for the leader and for every reader."""

from __future__ import annotations

import pytest

from controlplane.core.effects import WaitKind
from controlplane.core.run.derive import SEMANTICS_VERSION, derive, own_state, waiting_state
from controlplane.core.states import AttemptState, RunState, TaskState
from tests.unit.core.bench import dag, retries

S = TaskState


def derived(own, state=RunState.RUNNING, after_all=(), **parents):
    """State names of all tasks, from the states that have rows."""
    version = dag(parents, after_all=after_all)
    names = list(parents)
    states = derive(version, {names.index(task): value for task, value in own.items()}, state)
    return " ".join(S(value).name for value in states)


def test_without_rows_roots_are_ready_and_the_rest_waits():
    assert derived({}, a="", b="a", c="") == "READY WAITING READY"


def test_a_child_is_ready_when_its_last_parent_has_succeeded():
    shape = {"a": "", "b": "", "c": "a b"}
    assert derived({"a": S.SUCCEEDED}, **shape) == "SUCCEEDED READY WAITING"
    both = {"a": S.SUCCEEDED, "b": S.SUCCEEDED}
    assert derived(both, **shape) == "SUCCEEDED SUCCEEDED READY"


@pytest.mark.parametrize("state", [S.ASSIGNED, S.RUNNING, S.BACKOFF])
def test_what_has_a_row_is_what_the_row_says(state):
    assert derived({"a": state}, a="", b="a") == f"{state.name} WAITING"


def test_a_failure_blocks_down_to_the_leaves():
    shape = {"a": "", "b": "a", "c": "b", "other": ""}
    assert derived({"a": S.FAILED}, **shape) == "FAILED UPSTREAM_FAILED UPSTREAM_FAILED READY"


def test_a_failed_parent_blocks_although_another_still_runs():
    own = {"a": S.FAILED, "b": S.RUNNING}
    assert derived(own, a="", b="", c="a b") == "FAILED RUNNING UPSTREAM_FAILED"


def test_all_done_is_ready_after_failures():
    shape = {"a": "", "b": "a", "clean": "a b"}
    found = derived({"a": S.FAILED}, after_all=["clean"], **shape)
    assert found == "FAILED UPSTREAM_FAILED READY"


def test_the_order_of_the_author_does_not_matter():
    assert derived({"a": S.FAILED}, c="b", b="a", a="") == "UPSTREAM_FAILED UPSTREAM_FAILED FAILED"


def test_a_queued_run_has_nothing_ready():
    assert derived({}, RunState.QUEUED, a="", b="a") == "WAITING WAITING"


@pytest.mark.parametrize("state", [RunState.CANCELLING, RunState.TIMING_OUT])
def test_a_run_that_is_stopped_keeps_only_what_holds_an_attempt(state):
    own = {"a": S.SUCCEEDED, "b": S.RUNNING, "c": S.READY}
    found = derived(own, state, a="", b="a", c="a", d="b c")
    assert found == "SUCCEEDED RUNNING CANCELLED CANCELLED"


def test_a_cancelled_parent_blocks_nobody():
    own = {"a": S.CANCELLED}
    assert derived(own, RunState.CANCELLED, a="", b="a") == "CANCELLED CANCELLED"


@pytest.mark.parametrize(
    ("ended", "number", "left"),
    [
        (AttemptState.SUCCEEDED, 1, S.SUCCEEDED),
        (AttemptState.CANCELLED, 1, S.CANCELLED),
        (AttemptState.REJECTED, 3, S.READY),
        (AttemptState.FAILED, 2, S.READY),
        (AttemptState.FAILED, 3, S.FAILED),
        (AttemptState.TIMED_OUT, 3, S.FAILED),
        (AttemptState.LOST, 3, S.READY),
        (AttemptState.UNKNOWN, 3, S.READY),
    ],
)
def test_what_the_last_attempt_leaves(ended, number, left):
    version = dag({"a": ""}, retry=retries(3))
    assert own_state(version, 0, number, ended) is left


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (WaitKind.BACKOFF, S.BACKOFF),
        (WaitKind.APPROVAL, S.AWAITING_APPROVAL),
        (WaitKind.MARK, S.FAILED),
    ],
)
def test_what_a_wait_says(kind, left):
    assert waiting_state(int(kind)) is left


def test_what_waits_for_an_approval_holds_its_children_up_and_is_cancelled_with_its_run():
    own = {"a": S.AWAITING_APPROVAL}
    assert derived(own, RunState.RUNNING, a="", b="a") == "AWAITING_APPROVAL WAITING"
    assert derived(own, RunState.CANCELLING, a="", b="a") == "CANCELLED CANCELLED"


def test_runs_pin_the_version_of_these_rules():
    assert SEMANTICS_VERSION == 1
