"""Decides the order in which ready tasks look for a place.

Higher priority first, then the task that has been ready longest, then first come. Tasks are
grouped by the shape of their request (processor exactly, memory to the next eighth of a power of
two), so that a shape that finds no place is passed over at once, however many tasks have it.
Entries of tasks that are no longer ready are dropped when they are met. Does not know agents.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from controlplane.core.run.run import Run
from controlplane.core.states import TaskState
from controlplane.core.types import Resources

Shape = tuple[int, int]


class Entry(NamedTuple):
    """A ready task: `order` decides."""

    order: tuple[int, int, int]
    run: Run
    task: int

    @property
    def current(self) -> bool:
        """Whether the task is still ready."""
        return self.run.tasks[self.task] == TaskState.READY and self.run.state.starts_tasks

    @property
    def ready_us(self) -> int:
        """Since when the task is ready."""
        return self.order[1]


class Want(NamedTuple):
    """Ready tasks without a place: sum and largest of their requests, number, age of the oldest."""

    amount: Resources
    largest: Resources
    tasks: int
    oldest_us: int


NO_WANT = Want(Resources(), Resources(), 0, 0)


def shape_of(request: Resources) -> Shape:
    """The group of a request."""
    memory = request.memory_bytes
    step = max(0, memory.bit_length() - 4)
    return request.cpu_millis, -(-memory >> step) << step


class ReadyQueue:
    """Ready tasks of one shard."""

    def __init__(self) -> None:
        self._shapes: dict[Shape, list[tuple[tuple[int, int, int], Entry]]] = {}
        self._heads: list[tuple[tuple[int, int, int], Shape]] = []
        self._sequence = 0
        self._parked: set[Shape] = set()

    def push(self, run: Run, task: int, ready_us: int) -> None:
        """A task became ready."""
        definition = run.version.tasks[task]
        self._sequence += 1
        entry = Entry((-definition.priority, ready_us, self._sequence), run, task)
        self.give_back(entry)

    def give_back(self, entry: Entry) -> None:
        """Puts an entry into its place (again)."""
        shape = shape_of(entry.run.version.tasks[entry.task].request)
        heap = self._shapes.setdefault(shape, [])
        heappush(heap, (entry.order, entry))
        if shape not in self._parked and heap[0][1] is entry:
            heappush(self._heads, (entry.order, shape))

    def begin(self) -> None:
        """A new look for places: every shape may be tried again."""
        for shape in self._parked:
            if heap := self._shapes.get(shape):
                heappush(self._heads, (heap[0][0], shape))
        self._parked.clear()

    def pop(self) -> Entry | None:
        """The next ready task whose shape was not parked, or None."""
        while self._heads:
            order, shape = heappop(self._heads)
            heap = self._shapes.get(shape)
            if shape in self._parked or not heap or heap[0][0] != order:
                continue
            _, entry = heappop(heap)
            self._lift(shape, heap)
            if entry.current:
                return entry
        return None

    def park(self, entry: Entry) -> None:
        """No place for the entry: nor for others of its shape until the next `begin`."""
        self._parked.add(shape_of(entry.run.version.tasks[entry.task].request))
        self.give_back(entry)

    def want(self) -> Want:
        """What the parked tasks would use; entries out of date count until they are met."""
        cpu = memory = count = largest_cpu = largest_memory = 0
        oldest: int | None = None
        for shape in self._parked:
            heap = self._shapes.get(shape, [])
            number = len(heap)
            count += number
            cpu += shape[0] * number
            memory += shape[1] * number
            largest_cpu, largest_memory = max(largest_cpu, shape[0]), max(largest_memory, shape[1])
            ready_us = heap[0][1].ready_us
            oldest = ready_us if oldest is None else min(oldest, ready_us)
        if oldest is None:
            return NO_WANT
        return Want(Resources(cpu, memory), Resources(largest_cpu, largest_memory), count, oldest)

    def _lift(self, shape: Shape, heap: list[tuple[tuple[int, int, int], Entry]]) -> None:
        if heap:
            heappush(self._heads, (heap[0][0], shape))
        else:
            del self._shapes[shape]
