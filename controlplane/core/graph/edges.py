"""Decides whether tasks and their dependencies form a DAG, and compiles its edges.

Reports every problem at once, each with the field to correct and the way out. All walks are
iterative: a chain of 100,000 tasks is an ordinary input. Does not know what tasks do.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from controlplane.core.graph.names import id_problem, shown, shown_bare
from controlplane.core.types import Adjacency

MAX_TASKS = 100_000
MAX_EDGES = 1_000_000
MAX_CYCLES_SHOWN = 20
_PATH_SHOWN = 12


class Problem(NamedTuple):
    """Something wrong in a definition: `field` as a path such as `tasks[3].depends_on[0]`."""

    field: str
    message: str


class TaskEdges(NamedTuple):
    """A task and the ids of its parents, as written."""

    task: str
    depends_on: Sequence[str]


def compile_edges(tasks: Sequence[TaskEdges]) -> tuple[Adjacency | None, list[Problem]]:
    """The edges of a DAG, or None and all the problems that keep it from being one."""
    if problems := list(_size_problems(tasks)):
        return None, problems
    numbers: dict[str, int] = {}
    problems = list(_number_tasks(tasks, numbers))
    parents = _resolve(tasks, numbers, problems)
    edges = _adjacency(parents)
    if len(edges.order) < len(tasks):
        problems += _cycles(tasks, parents, edges)
    return (None if problems else edges), problems


def _size_problems(tasks: Sequence[TaskEdges]) -> Iterator[Problem]:
    if not tasks:
        yield Problem("tasks", "is empty; a DAG has at least one task")
    if len(tasks) > MAX_TASKS:
        yield Problem(
            "tasks",
            f"has {len(tasks):,} tasks; a DAG has at most {MAX_TASKS:,}, split it into several",
        )
    edge_count = sum(len(item.depends_on) for item in tasks)
    if edge_count > MAX_EDGES:
        yield Problem(
            "tasks",
            f"has {edge_count:,} dependencies; a DAG has at most {MAX_EDGES:,}, "
            "join groups of tasks through one task between them",
        )


def _number_tasks(tasks: Sequence[TaskEdges], numbers: dict[str, int]) -> Iterator[Problem]:
    for number, item in enumerate(tasks):
        if reason := id_problem(item.task):
            yield Problem(f"tasks[{number}].task", reason)
        elif item.task in numbers:
            first = numbers[item.task]
            yield Problem(
                f"tasks[{number}].task",
                f"{shown(item.task)} is the id of tasks[{first}] already; give each task its own",
            )
        numbers.setdefault(item.task, number)


def _resolve(
    tasks: Sequence[TaskEdges], numbers: dict[str, int], problems: list[Problem]
) -> list[list[int]]:
    parents: list[list[int]] = []
    for number, item in enumerate(tasks):
        known: dict[int, None] = {}
        for position, name in enumerate(item.depends_on):
            parent = numbers.get(name)
            if parent is None:
                reason = f"{shown(name)} is no task of this DAG; correct the id or add the task"
            elif parent == number:
                reason = f"{shown(name)} depends on itself; remove the entry"
            elif parent in known:
                reason = f"{shown(name)} is listed twice; remove one entry"
            else:
                known[parent] = None
                continue
            problems.append(Problem(f"tasks[{number}].depends_on[{position}]", reason))
        parents.append(list(known))
    return parents


def _adjacency(parents: Sequence[Sequence[int]]) -> Adjacency:
    """Compressed rows of children; `order` is shorter than the tasks when there is a cycle."""
    count = len(parents)
    starts = array("i", bytes(4 * (count + 1)))
    for row in parents:
        for parent in row:
            starts[parent + 1] += 1
    for number in range(count):
        starts[number + 1] += starts[number]
    children = array("i", bytes(4 * starts[count]))
    cursor = array("i", starts)
    for number, row in enumerate(parents):
        for parent in row:
            children[cursor[parent]] = number
            cursor[parent] += 1
    counts = array("i", [len(row) for row in parents])
    return Adjacency(starts, children, counts, _topological(starts, children, counts))


def _topological(starts: array[int], children: array[int], counts: array[int]) -> array[int]:
    """Kahn's order (Kahn 1962); tasks on or behind a cycle are missing."""
    left = array("i", counts)
    order = array("i", [number for number, parents in enumerate(counts) if parents == 0])
    done = 0
    while done < len(order):
        task = order[done]
        done += 1
        for child in children[starts[task] : starts[task + 1]]:
            left[child] -= 1
            if left[child] == 0:
                order.append(child)
    return order


def _cycles(
    tasks: Sequence[TaskEdges], parents: Sequence[Sequence[int]], edges: Adjacency
) -> Iterator[Problem]:
    """One problem per cycle; cycles that share a task with one already named are not repeated."""
    stuck = set(range(len(tasks))) - set(edges.order)
    for path in islice(_walk_cycles(parents, stuck), MAX_CYCLES_SHOWN):
        names = [shown_bare(tasks[number].task) for number in (*path, path[0])]
        if len(names) > _PATH_SHOWN:
            left_out = len(names) - _PATH_SHOWN
            names[_PATH_SHOWN - 2 : -2] = [f"… {left_out:,} more …"]
        yield Problem(
            f"tasks[{path[0]}].depends_on",
            f"tasks form a cycle: {' → '.join(names)}; remove one of these dependencies",
        )


def _walk_cycles(parents: Sequence[Sequence[int]], stuck: set[int]) -> Iterator[list[int]]:
    while stuck:
        task = min(stuck)
        seen: dict[int, int] = {}
        while task not in seen:
            seen[task] = len(seen)
            task = next(parent for parent in parents[task] if parent in stuck)
        # The walk went from child to parent; the reader follows the work, parent to child.
        cycle = list(seen)[seen[task] :][::-1]
        first = cycle.index(min(cycle))
        yield cycle[first:] + cycle[:first]
        stuck.difference_update(cycle)
        _unstick(parents, stuck)


def _unstick(parents: Sequence[Sequence[int]], stuck: set[int]) -> None:
    """Leaves only tasks that still wait for a parent on or behind another cycle."""
    waiting = {task: sum(parent in stuck for parent in parents[task]) for task in stuck}
    children: dict[int, list[int]] = {}
    for task in stuck:
        for parent in parents[task]:
            children.setdefault(parent, []).append(task)
    free = [task for task, count in waiting.items() if count == 0]
    while free:
        task = free.pop()
        stuck.discard(task)
        for child in children.get(task, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                free.append(child)
