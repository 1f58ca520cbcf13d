"""How a run advances when a task is final: shapes, trigger rules, and what is sealed."""

from __future__ import annotations

import pytest

from controlplane.core.run.run import Run
from controlplane.core.states import RunEvent, RunState, TaskEvent, TaskState, TransitionError
from controlplane.core.types import RunCause, RunKey
from tests.unit.core.bench import dag


class Walk:
    """A run without attempts: tasks end as they are told."""

    def __init__(self, after_all=(), **parents):
        self.version = dag(parents, after_all=after_all)
        self.names = list(parents)
        self.run = Run(
            RunKey(1, 2),
            b"id",
            self.version,
            state=RunState.RUNNING,
            cause=RunCause.TRIGGER,
            schedule="",
            logical_us=0,
            created_us=0,
        )
        self.ready = self.named(self.run.roots())

    def named(self, tasks):
        return [self.names[task] for task in tasks]

    def end(self, task, event):
        number = self.names.index(task)
        self.run.move(number, TaskEvent.ASSIGN)
        return self.named(self.run.end(number, event))

    def succeed(self, task):
        return self.end(task, TaskEvent.SUCCEED)

    def fail(self, task):
        return self.end(task, TaskEvent.FAIL)

    def states(self):
        states = (TaskState(state).name for state in self.run.tasks)
        return dict(zip(self.names, states, strict=True))


def test_a_diamond_joins_when_both_arms_are_done():
    walk = Walk(a="", b="a", c="a", d="b c")
    assert walk.ready == ["a"]
    assert walk.succeed("a") == ["b", "c"]
    assert walk.succeed("c") == []
    assert walk.succeed("b") == ["d"]
    assert walk.succeed("d") == []
    assert (walk.run.open_tasks, walk.run.failed) == (0, 0)


def test_a_wide_fan_releases_all_children_at_once_and_joins_on_the_last():
    arms = [f"arm{n}" for n in range(100)]
    walk = Walk(fan="", **dict.fromkeys(arms, "fan"), join=" ".join(arms))
    assert walk.succeed("fan") == arms
    assert [walk.succeed(arm) for arm in arms] == [[]] * 99 + [["join"]]


def test_several_roots_are_ready_at_once():
    assert Walk(a="", b="", c="a b").ready == ["a", "b"]


def test_a_failure_blocks_all_that_needs_it_and_nothing_else():
    walk = Walk(a="", b="a", c="b", d="c", other="", last="other")
    assert walk.fail("a") == []
    assert walk.states() == {
        "a": "FAILED",
        "b": "UPSTREAM_FAILED",
        "c": "UPSTREAM_FAILED",
        "d": "UPSTREAM_FAILED",
        "other": "READY",
        "last": "WAITING",
    }
    assert walk.succeed("other") == ["last"]
    assert walk.run.failed == 4


def test_a_child_is_blocked_by_its_first_failed_parent_while_others_run():
    walk = Walk(a="", b="", c="a b")
    walk.fail("a")
    assert walk.states()["c"] == "UPSTREAM_FAILED"
    assert walk.succeed("b") == []


def test_all_done_starts_after_failures_too():
    walk = Walk(after_all=["clean"], a="", b="a", clean="a b")
    assert walk.fail("a") == ["clean"]
    walk.succeed("clean")
    assert walk.states() == {"a": "FAILED", "b": "UPSTREAM_FAILED", "clean": "SUCCEEDED"}
    assert walk.run.failed == 2


def test_all_done_waits_for_every_parent():
    walk = Walk(after_all=["clean"], a="", b="", clean="a b")
    assert walk.fail("a") == []
    assert walk.fail("b") == ["clean"]


def test_a_cancelled_parent_blocks_nobody():
    walk = Walk(a="", b="a")
    assert walk.end("a", TaskEvent.CANCEL) == ["b"]


def test_a_failure_runs_down_a_long_chain_without_recursion():
    names = [f"t{n}" for n in range(50_000)]
    walk = Walk(**{name: names[n - 1] if n else "" for n, name in enumerate(names)})
    walk.fail("t0")
    assert walk.run.open_tasks == 0
    assert walk.run.failed == 50_000


def test_what_is_open_is_cancelled_and_what_is_final_stays():
    walk = Walk(a="", b="a", c="b")
    walk.succeed("a")
    walk.run.cancel_open()
    assert walk.states() == {"a": "SUCCEEDED", "b": "CANCELLED", "c": "CANCELLED"}
    assert walk.run.open_tasks == 0


def test_restored_states_count_what_is_open_pending_and_failed():
    walk = Walk(a="", b="", c="a b", d="c")
    walk.run.restore(
        bytearray([TaskState.SUCCEEDED, TaskState.READY, TaskState.WAITING, TaskState.WAITING])
    )
    assert (walk.run.open_tasks, walk.run.failed) == (3, 0)
    assert list(walk.run.pending) == [0, 0, 1, 1]
    assert walk.named(walk.run.tasks_in(TaskState.READY)) == ["b"]
    assert walk.succeed("b") == ["c"]


def test_the_run_itself_follows_its_table():
    run = Walk(a="").run
    run.change(RunEvent.CANCEL)
    assert run.state is RunState.CANCELLING
    with pytest.raises(TransitionError):
        run.change(RunEvent.SUCCEED)


def test_the_first_attempt_has_number_one():
    run = Walk(a="").run
    assert run.next_number(0) == 1
    run.numbers[0] = 3
    assert run.next_number(0) == 3
