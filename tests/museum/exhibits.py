"""The museum of public bugs: what an exhibit is, and how it is shown.

An exhibit is a story that ended badly in another scheduler, told here to a good end; and a relapse,
which puts the bug into this project. Promises that a story holds, and that it would not hold with
the bug: what cannot fail shows nothing. What happened elsewhere is told in our own words, after
the public report. Does not know any bug.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
from mainspring.v1 import dag_pb2 as pb

from tests.sim.processes import Plan
from tests.sim.stories import Story, tell

Patch = pytest.MonkeyPatch
SEEDS = range(1, 4)


class Exhibit(NamedTuple):
    """`bug`: where it happened, by project and number. `seen_by`: words of what notices it."""

    bug: str
    story: Callable[[Story], Awaitable[None]]
    relapse: Callable[[Patch], None]
    seen_by: str
    nodes: int = 2
    agents: int = 1

    @property
    def name(self) -> str:
        """Of its story."""
        return self.story.__name__


def shown(exhibit: Exhibit, seed: int) -> None:
    """Tells the story of an exhibit; raises AssertionError if it goes otherwise."""
    tell(exhibit.story, nodes=exhibit.nodes, agents=exhibit.agents, seed=seed)


def seen(exhibit: Exhibit) -> bool:
    """Whether the story of some seed goes otherwise, by the words that are expected."""
    for seed in SEEDS:
        try:
            shown(exhibit, seed)
        except AssertionError as error:
            if exhibit.seen_by in str(error):
                return True
    return False


def applies(story: Story, spec: pb.DagSpec, **plans: Plan) -> None:
    """Applies a DAG; each attempt of a task does as planned."""
    story.plans.update({task: [plan] for task, plan in plans.items()})
    story.people.apply(spec)


def chain(dag: str, *tasks: str) -> pb.DagSpec:
    """Tasks one after the other, a core each."""
    spec = pb.DagSpec(dag=dag)
    for number, task in enumerate(tasks):
        item = spec.tasks.add(task=task, process=pb.ProcessSpec(argv=["work"]))
        item.depends_on.extend(tasks[number - 1 : number])
        item.resources.cpu = 1.0
    return spec
