"""Which ready task looks for a place next, and which shapes are passed over."""

from __future__ import annotations

from controlplane.core.run.run import Run
from controlplane.core.shard.queue import NO_WANT, ReadyQueue, ShapeWant
from controlplane.core.states import RunEvent, RunState, TaskEvent
from controlplane.core.types import RunCause, RunKey
from tests.unit.core.bench import cores, dag


class Waiting:
    """A queue and one run of independent tasks, all ready."""

    def __init__(self, requests=None, priorities=None, tasks="abcdef"):
        self.queue = ReadyQueue()
        self.names = list(tasks)
        version = dag(dict.fromkeys(tasks, ""), requests=requests, priorities=priorities)
        self.run = Run(
            RunKey(1, 1),
            b"run",
            version,
            state=RunState.RUNNING,
            cause=RunCause.TRIGGER,
            schedule="",
            logical_us=0,
            created_us=0,
        )
        self.run.roots()

    def push(self, *tasks, at=0):
        for task in tasks:
            self.queue.push(self.run, self.names.index(task), at)

    def pop(self):
        """The next task, which is then assigned."""
        entry = self.queue.pop()
        if entry is None:
            return None
        self.run.move(entry[4], TaskEvent.ASSIGN)
        return self.names[entry[4]]

    def park(self):
        """The next task finds no place."""
        entry = self.queue.pop()
        self.queue.park(entry)
        return self.names[entry[4]]

    def all(self):
        return list(iter(self.pop, None))


def test_first_come_first_served():
    waiting = Waiting()
    waiting.push("c", "a", "b")
    assert waiting.all() == ["c", "a", "b"]


def test_the_task_that_is_ready_longest_is_first():
    waiting = Waiting()
    waiting.push("a", at=30)
    waiting.push("b", at=10)
    waiting.push("c", at=20)
    assert waiting.all() == ["b", "c", "a"]


def test_priority_goes_before_age():
    waiting = Waiting(priorities={"c": 5, "d": -1})
    waiting.push("d", "a", at=1)
    waiting.push("c", at=99)
    assert waiting.all() == ["c", "a", "d"]


def test_the_order_holds_across_shapes():
    waiting = Waiting(requests={"b": cores(2), "c": cores(3)})
    waiting.push("a", at=3)
    waiting.push("b", at=1)
    waiting.push("c", at=2)
    waiting.push("d", at=0)
    assert waiting.all() == ["d", "b", "c", "a"]


def test_a_parked_shape_is_passed_over_and_the_others_go_on():
    waiting = Waiting(requests={"b": cores(9)}, priorities={"b": 1})
    waiting.push("a", "b")
    assert waiting.park() == "b"
    assert waiting.all() == ["a"]


def test_what_becomes_ready_in_a_parked_shape_waits_with_it():
    waiting = Waiting()
    waiting.push("a")
    waiting.park()
    waiting.push("b")
    assert not waiting.queue.untried
    assert waiting.pop() is None


def test_a_new_look_tries_every_shape_in_order():
    waiting = Waiting(requests={"b": cores(9)})
    waiting.push("a", at=2)
    waiting.push("b", at=1)
    waiting.park(), waiting.park()
    waiting.push("c", at=0)
    waiting.queue.begin()
    assert waiting.all() == ["c", "b", "a"]


def test_a_larger_request_hides_no_smaller_one():
    waiting = Waiting(requests={"a": cores(1, 1.0), "b": cores(1, 0.99)})
    waiting.push("a", "b")
    assert waiting.park() == "a"
    assert waiting.pop() == "b"


def test_tasks_that_are_not_ready_any_more_are_dropped():
    waiting = Waiting()
    waiting.push("a", "b")
    waiting.run.move(0, TaskEvent.CANCEL)
    assert waiting.all() == ["b"]


def test_a_run_that_is_stopped_starts_nothing():
    waiting = Waiting()
    waiting.push("a", "b")
    waiting.run.change(RunEvent.CANCEL)
    assert waiting.all() == []


def test_an_overtaken_head_is_not_given_twice():
    waiting = Waiting(priorities={"b": 1})
    waiting.push("a", "b", "c")
    assert waiting.all() == ["b", "a", "c"]
    assert not waiting.queue.untried


def test_nothing_is_wanted_while_nothing_is_parked():
    waiting = Waiting()
    waiting.push("a")
    assert waiting.queue.want() == NO_WANT


def test_what_is_parked_is_wanted():
    waiting = Waiting(requests={"b": cores(4, 2), "c": cores(2, 8)})
    waiting.push("a", at=30)
    waiting.push("b", at=10)
    waiting.push("c", at=20)
    waiting.push("d", at=40)
    waiting.park(), waiting.park(), waiting.park()
    assert waiting.queue.want() == (
        ShapeWant(cores(4, 2), 1, 10),
        ShapeWant(cores(2, 8), 1, 20),
        ShapeWant(cores(1), 2, 30),
    )


def test_what_is_out_of_date_is_not_wanted():
    waiting = Waiting(requests={"b": cores(4)})
    waiting.push("a", "b", "c")
    waiting.park(), waiting.park()
    waiting.run.move(waiting.names.index("b"), TaskEvent.CANCEL)
    assert waiting.queue.want() == (ShapeWant(cores(1), 2, 0),)
    waiting.run.change(RunEvent.CANCEL)
    assert waiting.queue.want() == NO_WANT
    waiting.queue.begin()
    assert waiting.all() == []


def test_a_parked_shape_of_which_nothing_is_left_claims_nothing():
    waiting = Waiting(requests={"a": cores(1), "b": cores(2)})
    waiting.push("a", at=1)
    waiting.push("b", at=2)
    assert [waiting.park(), waiting.park()] == ["a", "b"]
    waiting.run.move(0, TaskEvent.CANCEL)
    [wanted] = waiting.queue.want()
    assert wanted.request == cores(2)
    assert waiting.queue.claims() == {(2_000, 0): 2}
