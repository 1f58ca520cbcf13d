"""Decides what resource names say, and refuses those that say nothing.

Promises that what leaves this module has the characters of the contract, so that a name can carry
nothing else into the store. Does not know whether the named thing exists.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from controlplane.core.graph.names import id_problem, shown
from controlplane.services.errors import refused

ANY = "-"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ATTEMPT = re.compile(r"[0-9a-f]{32}")


class RunName(NamedTuple):
    """A run; `dag` is None when the name says `-`."""

    dag: str | None
    run_id: bytes


class TaskName(NamedTuple):
    """A task instance of a run, or one of its attempts; None where the name does not say."""

    run: RunName
    task: str | None
    attempt_id: bytes | None


def parse_dag(field: str, name: str) -> str:
    """The id of `dags/{dag}`."""
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "dags":
        raise refused(field, f"{shown(name)} is no name of a DAG; write dags/{{dag}}")
    return _id(field, parts[1])


def parse_dag_or_any(field: str, name: str) -> str | None:
    """The id of `dags/{dag}`, None for `dags/-`."""
    return None if name == f"dags/{ANY}" else parse_dag(field, name)


def parse_run(field: str, name: str) -> RunName:
    """The parts of `dags/{dag}/runs/{run}`."""
    parts = name.split("/")
    if len(parts) != 4 or (parts[0], parts[2]) != ("dags", "runs"):
        raise refused(field, f"{shown(name)} is no name of a run; write dags/{{dag}}/runs/{{run}}")
    return RunName(*_run(field, parts))


def parse_run_or_task(field: str, name: str) -> TaskName:
    """The parts of the name of a run, of a task instance, or of an attempt."""
    parts = name.split("/")
    kinds = ["dags", "runs", "tasks", "attempts"]
    if len(parts) not in {4, 6, 8} or parts[::2] != kinds[: len(parts) // 2]:
        form = "dags/{dag}/runs/{run}/tasks/{task}"
        raise refused(field, f"{shown(name)} is no name of a task instance; write {form}")
    run = RunName(*_run(field, parts))
    task = _id(field, parts[5]) if len(parts) > 4 and parts[5] != ANY else None
    attempt = _attempt(field, parts[7]) if len(parts) > 6 else None
    return TaskName(run, task, attempt)


def parse_dag_or_run(field: str, name: str) -> tuple[str | None, RunName | None]:
    """The DAG and the run of `dags/{dag}` or `dags/{dag}/runs/{run}`; None where not named."""
    parts = name.split("/")
    if len(parts) == 4:
        run = parse_run(field, name)
        return run.dag, run
    return parse_dag_or_any(field, name), None


def parse_approval(field: str, name: str) -> tuple[RunName, str]:
    """The run and the task of `dags/{dag}/runs/{run}/tasks/{task}/approval`."""
    parts = name.split("/")
    if len(parts) != 7 or (*parts[:6:2], parts[6]) != ("dags", "runs", "tasks", "approval"):
        form = "dags/{dag}/runs/{run}/tasks/{task}/approval"
        raise refused(field, f"{shown(name)} is no name of an approval; write {form}")
    return RunName(*_run(field, parts)), _id(field, parts[5])


def _run(field: str, parts: list[str]) -> tuple[str | None, bytes]:
    dag = None if parts[1] == ANY else _id(field, parts[1])
    text = parts[3].lower()
    if not _UUID.fullmatch(text):
        raise refused(field, f"{shown(parts[3])} is no id of a run, which is a UUID")
    return dag, bytes.fromhex(text.replace("-", ""))


def _attempt(field: str, text: str) -> bytes:
    if not _ATTEMPT.fullmatch(text.lower()):
        raise refused(field, f"{shown(text)} is no id of an attempt: 32 hexadecimal digits")
    return bytes.fromhex(text)


def _id(field: str, text: str) -> str:
    if reason := id_problem(text):
        raise refused(field, reason)
    return text
