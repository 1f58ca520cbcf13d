"""Writes `docs/states.md` from the state tables of the core.

Decides only the words for events; states, changes and flags come from `controlplane.core.states`.
Run as `python -P docs/states.py`; `make regenerate` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path

from controlplane.core.states import (
    RUN_TRANSITIONS,
    TASK_TRANSITIONS,
    AttemptState,
    RunEvent,
    RunState,
    TaskEvent,
    TaskState,
)

PAGE = Path(__file__).with_suffix(".md")

HEAD = """\
# States

<!-- Written by docs/states.py from controlplane/core/states.py. Do not edit. -->

Every state and every change that exists; anything else is a bug that stops the shard. The words are
those of the [glossary](glossary.md).
"""

RUN_EVENTS = {
    RunEvent.ADMIT: "The DAG has fewer than `max_active_runs` runs: the first tasks are ready.",
    RunEvent.SUCCEED: "Every task instance has succeeded.",
    RunEvent.FAIL: "Every task instance is final, and not all have succeeded.",
    RunEvent.CANCEL: "A person cancels the run. From now on nothing of it is assigned.",
    RunEvent.TIME_OUT: "The run has taken its longest time. Nothing of it is assigned any more.",
    RunEvent.DRAIN: "The last live attempt of a run that is being stopped has ended.",
}

TASK_EVENTS = {
    TaskEvent.RELEASE: "The trigger rule holds over parents that are all final.",
    TaskEvent.BLOCK: "A parent has failed, and the trigger rule wants success of all.",
    TaskEvent.ASSIGN: "An attempt is committed and sent to an agent.",
    TaskEvent.START: "The agent reports the process.",
    TaskEvent.SUCCEED: "The attempt ended with success, or one that was given up did after all.",
    TaskEvent.FAIL: "The last attempt failed or took too long, or a person decided so.",
    TaskEvent.RETRY: "The attempt failed or took too long; another one follows after a backoff.",
    TaskEvent.RETURN: "The attempt was refused, lost or given up: no try is used up.",
    TaskEvent.DUE: "The backoff is over.",
    TaskEvent.CANCEL: "The attempt was stopped with its run, or the run ended without one.",
    TaskEvent.DOUBT: "Nobody knows how the attempt ended, and the task is not `idempotent`.",
    TaskEvent.APPROVE: "A person wants another attempt.",
}


def diagram(transitions: Mapping[tuple[IntEnum, IntEnum], IntEnum], first: IntEnum) -> str:
    """A state diagram; events that lead from one state to the same other share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), after in transitions.items():
        arrows.setdefault((state.name, after.name), []).append(event.name.lower())
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
    last = {after.name for after in transitions.values()} - {a for a, _ in arrows}
    return "\n".join([*lines, *(f"    {name} --> [*]" for name in sorted(last)), "```", ""])


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table of Markdown."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *([str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def sections() -> Iterator[str]:
    """The page, part by part."""
    yield HEAD
    yield "## Run\n"
    yield diagram(RUN_TRANSITIONS, RunState.QUEUED)
    yield table(("event", "what has happened"), _told(RUN_EVENTS))
    yield table(
        ("state", "number", "final", "starts tasks"),
        ((f"`{s.name}`", int(s), _mark(s.final), _mark(s.starts_tasks)) for s in RunState),
    )
    yield "## Task instance\n"
    yield diagram(TASK_TRANSITIONS, TaskState.WAITING)
    yield table(("event", "what has happened"), _told(TASK_EVENTS))
    yield table(
        ("state", "number", "final", "holds capacity"),
        ((f"`{s.name}`", int(s), _mark(s.final), _mark(s.holds_capacity)) for s in TaskState),
    )
    yield "## Attempt\n"
    yield "An attempt is assigned, perhaps known to run, and ends once: its first end is final.\n"
    yield table(
        ("state", "number", "final"),
        ((f"`{s.name}`", int(s), _mark(s.final)) for s in AttemptState),
    )


def _told(events: Mapping[IntEnum, str]) -> Iterator[tuple[str, str]]:
    return ((event.name.lower(), text) for event, text in events.items())


def _mark(flag: bool) -> str:
    return "yes" if flag else ""


def page() -> str:
    """The whole text."""
    return "\n".join(sections())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
