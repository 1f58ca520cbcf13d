"""Breadth-first search through every state that a model can reach.

Decides: the order (so the first violation found is a shortest one) and what "stuck" means: no way
leads from the state to a good one by steps that are not faults. Promises: without a finding, every
reachable state was looked at. Does not know what the states mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)
Rules = frozenset[str]
Action = Callable[[State, Rules], Iterator[tuple[str, State]]]


@dataclass(frozen=True)
class Model(Generic[State]):
    """`rules`: name → (scene that shows what it is for, its sentence). `scenes`: name → the first
    state of a small search and that of a large one; how many faults may follow is part of it.
    """

    rules: Mapping[str, tuple[str, str]]
    scenes: Mapping[str, tuple[State, State]]
    steps: tuple[Action[State], ...]
    faults: tuple[Action[State], ...]
    broken: Callable[[State], str]
    good: Callable[[State], bool]


class Found(NamedTuple):
    """`broken`: the invariant, empty when all hold; `trace`: a shortest way to where it breaks."""

    broken: str
    trace: tuple[str, ...]
    states: int


def search(model: Model[State], first: State, rules: Rules) -> Found:
    """Looks at every state that can follow from the first one under the rules."""
    came: dict[State, tuple[State, str] | None] = {first: None}
    back: dict[State, list[State]] = {}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        for action in (*model.steps, *model.faults):
            for line, after in action(state, rules):
                if after not in came:
                    came[after] = (state, line)
                    if broken := model.broken(after):
                        return Found(broken, _trace(came, after), len(came))
                    queue.append(after)
                if action not in model.faults:
                    back.setdefault(after, []).append(state)
    stuck = _stuck(model, came, back)
    if stuck is None:
        return Found("", (), len(came))
    return Found("stuck: no repair leads on from here", _trace(came, stuck), len(came))


def _stuck(
    model: Model[State], came: Mapping[State, object], back: Mapping[State, list[State]]
) -> State | None:
    """The first state from which no way leads to a good one."""
    well = {state for state in came if model.good(state)}
    queue = deque(well)
    while queue:
        for before in back.get(queue.popleft(), ()):
            if before not in well:
                well.add(before)
                queue.append(before)
    return next((state for state in came if state not in well), None)


def _trace(came: Mapping[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    lines = []
    while step := came[state]:
        state, line = step
        lines.append(line)
    return tuple(reversed(lines))
