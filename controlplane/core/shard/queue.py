"""Decides the order in which ready tasks look for a place.

Higher priority first, then the task that has been ready longest, then first come. Tasks are
grouped by the shape of their request (processor and memory), so that a shape that finds no place is
passed over at once, however many tasks have it, until there may be more room. Entries of tasks that
are no longer ready are dropped when they are met. Does not know agents.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple, TypeAlias

from controlplane.core.run.run import Run
from controlplane.core.states import STARTING_RUN, TaskState
from controlplane.core.types import Resources

# Negated priority, microseconds since when the task is ready, sequence (unique), run, task. A plain
# tuple: the heap compares it without calling into Python.
Entry: TypeAlias = tuple[int, int, int, Run, int]
Shape: TypeAlias = tuple[int, int]

# Looked up once: a member of an enum costs more than the rest of a comparison.
_READY = TaskState.READY


class Want(NamedTuple):
    """Ready tasks without a place: sum and largest of their requests, number, age of the oldest."""

    amount: Resources
    largest: Resources
    tasks: int
    oldest_us: int


NO_WANT = Want(Resources(), Resources(), 0, 0)


class ReadyQueue:
    """Ready tasks of one shard."""

    def __init__(self) -> None:
        self._shapes: dict[Shape, list[Entry]] = {}
        # The first entry of each shape that may be tried; outdated ones are passed over.
        self._heads: list[tuple[Entry, Shape]] = []
        self._sequence = 0
        self._parked: set[Shape] = set()

    @property
    def untried(self) -> bool:
        """Whether there may be entries that no place was looked for."""
        return bool(self._heads)

    def push(self, run: Run, task: int, ready_us: int) -> None:
        """A task became ready."""
        definition = run.version.tasks[task]
        self._sequence += 1
        self._insert((-definition.priority, ready_us, self._sequence, run, task))

    def begin(self) -> None:
        """A new look for places: every shape may be tried again."""
        for shape in self._parked:
            heappush(self._heads, (self._shapes[shape][0], shape))
        self._parked.clear()

    def pop(self) -> Entry | None:
        """The next ready task whose shape was not parked, or None."""
        heads = self._heads
        while heads:
            head, shape = heappop(heads)
            heap = self._shapes.get(shape)
            if heap is None or heap[0] is not head or shape in self._parked:
                continue
            heappop(heap)
            if heap:
                heappush(heads, (heap[0], shape))
            else:
                del self._shapes[shape]
            run = head[3]
            if run.tasks[head[4]] == _READY and run.state in STARTING_RUN:
                return head
        return None

    def park(self, entry: Entry) -> None:
        """No place for the entry: nor for others of its shape until the next `begin`."""
        self._parked.add(_shape_of(entry))
        self._insert(entry)

    def want(self) -> Want:
        """What the parked tasks would use; entries out of date count until they are met."""
        if not self._parked:
            return NO_WANT
        waiting = [(shape, self._shapes[shape]) for shape in self._parked]
        cpu = sum(shape[0] * len(heap) for shape, heap in waiting)
        memory = sum(shape[1] * len(heap) for shape, heap in waiting)
        largest = Resources(
            max(shape[0] for shape, _ in waiting), max(shape[1] for shape, _ in waiting)
        )
        oldest_us = min(heap[0][1] for _, heap in waiting)
        return Want(
            Resources(cpu, memory), largest, sum(len(heap) for _, heap in waiting), oldest_us
        )

    def _insert(self, entry: Entry) -> None:
        shape = _shape_of(entry)
        heap = self._shapes.get(shape)
        if heap is None:
            heap = self._shapes[shape] = []
        heappush(heap, entry)
        if heap[0] is entry and shape not in self._parked:
            heappush(self._heads, (entry, shape))


def _shape_of(entry: Entry) -> Shape:
    request = entry[3].version.tasks[entry[4]].request
    return request.cpu_millis, request.memory_bytes
