"""The ready queue against a sorted list."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.core.run.run import Run
from controlplane.core.shard.queue import ReadyQueue
from controlplane.core.states import RunState, TaskEvent
from controlplane.core.types import RunCause, RunKey
from tests.unit.core.bench import cores, dag

TASKS = 40
NAMES = [f"t{number}" for number in range(TASKS)]
VERSION = dag(
    dict.fromkeys(NAMES, ""),
    requests={name: cores(1 + number % 3) for number, name in enumerate(NAMES)},
    priorities={name: number % 4 for number, name in enumerate(NAMES)},
)


class AnyOrder(RuleBasedStateMachine):
    """Tasks become ready, are taken, find no place, are cancelled."""

    def __init__(self):
        super().__init__()
        self.queue = ReadyQueue()
        self.run = Run(
            RunKey(1, 1),
            b"run",
            VERSION,
            state=RunState.RUNNING,
            cause=RunCause.TRIGGER,
            schedule="",
            logical_us=0,
            created_us=0,
        )
        self.fresh = self.run.roots()
        self.waiting = []
        self.parked = set()
        self.sequence = 0

    def shape(self, task):
        return VERSION.tasks[task].request.cpu_millis

    @rule(ready_us=st.integers(0, 5))
    def push(self, ready_us):
        if self.fresh:
            task = self.fresh.pop()
            self.sequence += 1
            self.waiting.append((-VERSION.tasks[task].priority, ready_us, self.sequence, task))
            self.queue.push(self.run, task, ready_us)

    def expected(self):
        open_ = [entry for entry in self.waiting if self.shape(entry[3]) not in self.parked]
        return min(open_, default=None)

    @rule(found_place=st.booleans())
    def pop(self, found_place):
        expected, entry = self.expected(), self.queue.pop()
        if expected is None:
            assert entry is None
            return
        assert entry[4] == expected[3]
        if found_place:
            self.run.move(entry[4], TaskEvent.ASSIGN)
            self.waiting.remove(expected)
        else:
            self.queue.park(entry)
            self.parked.add(self.shape(entry[4]))

    @rule()
    def begin(self):
        self.queue.begin()
        self.parked.clear()

    @rule(choice=st.integers(0, 1_000))
    def cancel(self, choice):
        if self.waiting:
            entry = self.waiting.pop(choice % len(self.waiting))
            self.run.move(entry[3], TaskEvent.CANCEL)

    @invariant()
    def at_least_what_is_parked_is_wanted(self):
        parked = [task for *_, task in self.waiting if self.shape(task) in self.parked]
        assert sum(shape.tasks for shape in self.queue.want()) >= len(parked)

    @invariant()
    def nothing_is_untried_that_could_be(self):
        assert self.queue.untried or self.expected() is None


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, derandomize=True
)
