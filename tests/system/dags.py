"""DAGs for tests: short ways to write definitions, and tasks that wait for a sign."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mainspring.ledger import LEDGER_SCRIPT

_NUMBERS = itertools.count(1)
# Says that it is there, waits for the file $1, and says that it goes on.
GATED = 'echo waiting; until [ -e "$1" ]; do sleep 0.02; done; echo going on'


def fresh(name: str) -> str:
    """An id that no other test of this process uses."""
    return f"{name}-{next(_NUMBERS)}"


def ledger_task(task: str, *parents: str, seconds: float = 0.0) -> dict[str, Any]:
    """A task that writes the ledger and sleeps."""
    argv = ["sh", "-c", LEDGER_SCRIPT, "sh", f"{seconds:g}"]
    return process_task(task, *argv, depends_on=parents)


def gated_task(task: str, gate: Path, **more: Any) -> dict[str, Any]:
    """A task that runs until a file appears."""
    return process_task(task, "sh", "-c", GATED, "sh", os.fspath(gate), **more)


def process_task(
    task: str, *argv: str, depends_on: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    return {
        "task": task,
        "process": {"argv": list(argv)},
        "depends_on": list(depends_on),
        "resources": {"cpu": 0.1},
        **more,
    }


def dag(name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"dag": name, "tasks": list(tasks), **more}


def write(folder: Path, definition: dict[str, Any]) -> str:
    """The path of a DAG file."""
    file = folder / f"{definition['dag']}.json"
    file.write_text(json.dumps(definition), "utf-8")
    return str(file)


def chain(name: str, length: int, seconds: float) -> dict[str, Any]:
    """Tasks t0 → t1 → …, each writing the ledger."""
    tasks = [
        ledger_task(f"t{place}", *([f"t{place - 1}"] if place else []), seconds=seconds)
        for place in range(length)
    ]
    return dag(name, *tasks)


def edges_of(definition: dict[str, Any]) -> list[tuple[str, str]]:
    return [(parent, task["task"]) for task in definition["tasks"] for parent in task["depends_on"]]
