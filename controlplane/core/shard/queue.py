"""Decides the order in which ready tasks look for a place.

Higher priority first, then the task that has been ready longest, then first come. Tasks are
grouped by the shape of their request (processor and memory), so that a shape that finds no place is
passed over at once, however many tasks have it, until there may be more room. Entries of tasks that
are no longer ready are dropped when they are met. Does not know agents.
"""

from __future__ import annotations

from heapq import heappop, heappush, nsmallest
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


# How many shapes a Want names at the most: the oldest ones, since grants go to the oldest.
SHAPES_WANTED = 64


class ShapeWant(NamedTuple):
    """Ready tasks of one request that found no place: how many, and since when the oldest waits."""

    request: Resources
    tasks: int
    oldest_us: int


# By shape, because an agent is asked only for what it could hold: one request that fits nowhere
# must not speak for the others. The oldest comes first.
Want: TypeAlias = tuple[ShapeWant, ...]

NO_WANT: Want = ()


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

    @property
    def parked(self) -> bool:
        """Whether there are entries that found no place."""
        return bool(self._parked)

    def push(self, run: Run, task: int, ready_us: int) -> None:
        """A task became ready."""
        definition = run.version.tasks[task]
        self._sequence += 1
        self._insert((-definition.priority, ready_us, self._sequence, run, task))

    def begin(self) -> None:
        """A new look for places: every shape may be tried again."""
        for shape in self._parked:
            if heap := self._shapes.get(shape):
                heappush(self._heads, (heap[0], shape))
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
            if _is_current(head):
                return head
        return None

    def park(self, entry: Entry) -> None:
        """No place for the entry: nor for others of its shape until the next `begin`."""
        self._parked.add(_shape_of(entry))
        self._insert(entry)

    def give_back(self, entry: Entry) -> None:
        """An entry that was taken and may be tried again now."""
        self._insert(entry)

    def claims(self) -> dict[Shape, int]:
        """Since when the next task of every parked shape is ready."""
        heaps = ((shape, self._shapes.get(shape)) for shape in self._parked)
        # `want` may have found that nothing is left.
        return {shape: heap[0][1] for shape, heap in heaps if heap}

    def want(self) -> Want:
        """What the parked tasks would use.

        A shape whose first entries are out of date has lost them first; those behind others count
        until they are met.
        """
        if not self._parked:
            return NO_WANT
        waiting = [(shape, heap) for shape in self._parked if (heap := self._current(shape))]
        oldest = nsmallest(SHAPES_WANTED, waiting, key=lambda item: (item[1][0][1], item[0]))
        return tuple(ShapeWant(Resources(*shape), len(heap), heap[0][1]) for shape, heap in oldest)

    def _current(self, shape: Shape) -> list[Entry] | None:
        """The entries of a shape once the first of them is current; None: there is none."""
        heap = self._shapes.get(shape)
        while heap and not _is_current(heap[0]):
            heappop(heap)
        if heap == []:
            del self._shapes[shape]
            return None
        return heap

    def _insert(self, entry: Entry) -> None:
        shape = _shape_of(entry)
        heap = self._shapes.get(shape)
        if heap is None:
            heap = self._shapes[shape] = []
        heappush(heap, entry)
        if heap[0] is entry and shape not in self._parked:
            heappush(self._heads, (entry, shape))


def _is_current(entry: Entry) -> bool:
    """Whether its task still looks for a place."""
    run = entry[3]
    return run.tasks[entry[4]] == _READY and run.state in STARTING_RUN


def _shape_of(entry: Entry) -> Shape:
    request = entry[3].version.tasks[entry[4]].request
    return request.cpu_millis, request.memory_bytes
