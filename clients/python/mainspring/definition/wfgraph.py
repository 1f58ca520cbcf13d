"""The order of the tasks of a WfFormat workflow.

Decides which identity the references between tasks use, that `parents` and `children` tell the same
story, and how an order follows from files where a workflow gives none. Promises to refuse, with the
reason and both ends, what is contradictory, and never to let tasks run in parallel only because
their order is missing. Does not know runtimes, resources or Mainspring's ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

# A task of the workflow by its place in the file; an edge is (parent, child).
Edge: TypeAlias = tuple[int, int]
File: TypeAlias = tuple[str, str]

_SHOWN = 5


class WorkflowError(ValueError):
    """A workflow that is not imported; the message says why."""


@dataclass(frozen=True, slots=True)
class WorkflowOrder:
    """The identities of the tasks, in the order of the file, and the edges between them."""

    ids: list[str]
    edges: list[Edge]
    warnings: list[str]


def workflow_order(tasks: Sequence[dict[str, Any]], *, flat: bool) -> WorkflowOrder:
    """The order of the tasks; `flat` is the layout of schema 1.4, where lists may lie empty."""
    ids = _identities(tasks)
    places = {identity: place for place, identity in enumerate(ids)}
    edges = _agreed(ids, _references(tasks, "parents"), _references(tasks, "children"), places)
    warnings: list[str] = []
    if not edges and len(tasks) > 1:
        edges, warning = _by_files(tasks, flat=flat)
        warnings.append(warning)
    _refuse_cycle(ids, edges)
    return WorkflowOrder(ids, edges, warnings)


def _references(tasks: Sequence[dict[str, Any]], key: str) -> list[list[str]] | None:
    """The list of each task under `key`; None when no task has the key at all."""
    if not any(key in task for task in tasks):
        return None
    found = []
    for place, task in enumerate(tasks):
        names = task.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise WorkflowError(f"{key} of task {place} is not a list of texts")
        found.append(names)
    return found


def _identities(tasks: Sequence[dict[str, Any]]) -> list[str]:
    """`id` of every task, or `name` where the references use names."""
    wanted = {
        name
        for key in ("parents", "children")
        for names in _references(tasks, key) or ()
        for name in names
    }
    by_key = {key: [task.get(key) for task in tasks] for key in ("id", "name")}
    usable = [key for key, values in by_key.items() if _all_texts(values)]
    if not usable:
        raise WorkflowError("some tasks have neither an id nor a name")
    missing = {key: wanted.difference(map(str, by_key[key])) for key in usable}
    best = min(usable, key=lambda key: len(missing[key]))
    ids = [str(value) for value in by_key[best]]
    if missing[best]:
        raise WorkflowError(f"references to unknown tasks: {_listed(sorted(missing[best]))}")
    twice = [identity for identity, count in Counter(ids).items() if count > 1]
    if twice:
        raise WorkflowError(f"several tasks have the same {best}: {_listed(twice)}")
    return ids


def _all_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _agreed(
    ids: list[str],
    parents: list[list[str]] | None,
    children: list[list[str]] | None,
    places: dict[str, int],
) -> list[Edge]:
    """The edges that both sides tell, in the order of the children and their parents."""
    told_by_child = {
        (places[name], child): None for child, names in enumerate(parents or ()) for name in names
    }
    told_by_parent = {
        (parent, places[name]): None
        for parent, names in enumerate(children or ())
        for name in names
    }
    if parents is None or children is None:
        return sorted(told_by_child or told_by_parent, key=lambda edge: (edge[1], edge[0]))
    mismatches = [
        f"{ids[child]!r} names {ids[parent]!r} as a parent, which does not name it as a child"
        for parent, child in told_by_child
        if (parent, child) not in told_by_parent
    ] + [
        f"{ids[parent]!r} names {ids[child]!r} as a child, which does not name it as a parent"
        for parent, child in told_by_parent
        if (parent, child) not in told_by_child
    ]
    if mismatches:
        raise WorkflowError(f"parents and children disagree: {_listed(mismatches)}")
    return list(told_by_child)


def _by_files(tasks: Sequence[dict[str, Any]], *, flat: bool) -> tuple[list[Edge], str]:
    """Edges from every task that writes a file to every other one that reads it."""
    producers: dict[File, list[int]] = defaultdict(list)
    for place, task in enumerate(tasks):
        for file in _files(task, "output"):
            producers[file].append(place)
    edges: dict[Edge, None] = {}
    for child, task in enumerate(tasks):
        found = (parent for file in _files(task, "input") for parent in producers.get(file, ()))
        edges |= {(parent, child): None for parent in found if parent != child}
    if edges:
        return list(edges), "no task names parents or children: the order follows from their files"
    if flat:
        raise WorkflowError(
            "no task names parents or children, and no task reads a file that another one writes: "
            "the order of the tasks is missing",
        )
    return [], "no task names parents or children: all tasks are independent"


def _files(task: dict[str, Any], link: str) -> list[File]:
    """(path, name) of the files that a task reads ("input") or writes ("output")."""
    if f"{link}Files" in task:
        return [("", str(file)) for file in task[f"{link}Files"]]
    return [
        (str(file.get("path", "")), str(file.get("name", "")))
        for file in task.get("files", ())
        if isinstance(file, dict) and file.get("link") == link
    ]


def _refuse_cycle(ids: list[str], edges: list[Edge]) -> None:
    """Peels off tasks without open parents; whatever is left waits for itself."""
    waiting = [0] * len(ids)
    children: list[list[int]] = [[] for _ in ids]
    for parent, child in edges:
        waiting[child] += 1
        children[parent].append(child)
    ready = [place for place, count in enumerate(waiting) if not count]
    while ready:
        for child in children[ready.pop()]:
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    stuck = {place for place, count in enumerate(waiting) if count}
    if stuck:
        path = [ids[place] for place in _cycle(stuck, edges)]
        raise WorkflowError("the tasks form a cycle: " + " → ".join(path))


def _cycle(stuck: set[int], edges: list[Edge]) -> list[int]:
    """One cycle among tasks that each have a parent among them, first and last the same."""
    parent_of = {child: parent for parent, child in edges if parent in stuck and child in stuck}
    seen: dict[int, None] = {}
    place = min(stuck)
    while place not in seen:
        seen[place] = None
        place = parent_of[place]
    walk = list(seen)
    return [place, *reversed(walk[walk.index(place) :])]


def _listed(texts: Sequence[str]) -> str:
    """The first few of many, and how many more."""
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return "; ".join(text[:400] for text in texts[:_SHOWN]) + more
