"""Imports executions of scientific workflows in WfFormat (WfCommons), schemas 1.4, 1.5 and 1.6.

Decides what of a workflow becomes a DAG: its order, its runtimes scaled, its cores, memory and
priorities. Promises never to take over a command: an imported task sleeps and writes the ledger.
Ids that Mainspring does not allow are mapped so that they stay unique and can be mapped back. Does
not know clusters, and does not apply anything.

Resources: a task asks for its `coreCount` (1 if not stated) and its observed memory. The measured
`avgCPU` is not used: it is a mean over phases, and a task may need all its cores in one of them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from mainspring.definition.quantities import float_or_none
from mainspring.definition.tables import ID, LABEL, MEMORY, PRIORITY
from mainspring.definition.wfgraph import WorkflowError, workflow_order
from mainspring.ledger import LEDGER_SCRIPT
from mainspring.v1.dag_pb2 import DagSpec, TaskSpec

SCHEMAS = ("1.4", "1.5", "1.6")
MAX_TASKS = 100_000
# What a compressed file may grow to.
MAX_BYTES = 512 * 1024 * 1024

_VALID_ID = re.compile(ID.pattern)
_ESCAPED = "x-"
_HASHED = "xh-"
_KEPT_CHARACTER = re.compile(rb"[A-Za-z0-9._]")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class ImportedWorkflow:
    """A definition made from a workflow; `ids` maps original ids that had to change to task ids."""

    spec: DagSpec
    warnings: list[str]
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Options:
    time_scale: float
    cpu_limit: float | None
    memory_limit_bytes: int | None
    ledger: str | None


class _Doubts:
    """Counts what was changed or missing, to say it once for all tasks."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def note(self, what: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1

    def warnings(self) -> list[str]:
        return [f"{count:,} task(s): {what}" for what, count in self._counts.items()]


def import_workflow(
    source: Path | bytes,
    *,
    time_scale: float = 0.01,
    dag_id: str | None = None,
    cpu_limit: float | None = None,
    memory_limit_bytes: int | None = None,
    ledger: str | None = None,
) -> ImportedWorkflow:
    """Turns a workflow (a file or its bytes, plain or gzip) into a DAG.

    Runtimes are multiplied by `time_scale`; requests above a limit are lowered to it, with a
    warning; `ledger` is the file that the tasks write when their agent does not name one. Raises
    `WorkflowError` for a workflow that cannot be imported and `OSError` for an unreadable file.
    """
    if not (math.isfinite(time_scale) and time_scale >= 0):
        raise WorkflowError(f"time scale must be a number of at least 0, found {time_scale}")
    document = _parsed(_read(source) if isinstance(source, Path) else source)
    tasks, measured = _tasks(document)
    order = workflow_order(tasks, flat=measured is None)
    doubts = _Doubts()
    task_ids = _unique([_mapped_id(identity) for identity in order.ids])
    options = _Options(time_scale, cpu_limit, memory_limit_bytes, ledger)
    spec = DagSpec(dag=dag_id or _mapped_id(_text(document.get("name"), "workflow")))
    for place, task in enumerate(tasks):
        values = task if measured is None else measured.get(order.ids[place], {})
        imported = spec.tasks.add(task=task_ids[place], label=_label(task, order.ids[place]))
        _fill(imported, values, options, doubts)
    for parent, child in order.edges:
        spec.tasks[child].depends_on.append(task_ids[parent])
    changed = {old: new for old, new in zip(order.ids, task_ids, strict=True) if old != new}
    return ImportedWorkflow(spec, order.warnings + doubts.warnings(), changed)


def original_id(task_id: str) -> str | None:
    """The id that an imported task had; None for an id too long to be kept in full."""
    if task_id.startswith(_HASHED):
        return None
    if not task_id.startswith(_ESCAPED):
        return task_id
    rest = task_id.removeprefix(_ESCAPED).encode()
    code = re.compile(rb"-([0-9A-F]{2})")
    return code.sub(lambda match: bytes([int(match.group(1), 16)]), rest).decode()


def _mapped_id(name: str) -> str:
    """A valid id for a name: the name itself, else behind a mark its escaped form or its hash."""
    marked = name.startswith((_ESCAPED, _HASHED))
    if _VALID_ID.fullmatch(name) and len(name) <= ID.maximum and not marked:
        return name
    escaped = "".join(
        byte.decode() if _KEPT_CHARACTER.fullmatch(byte) else f"-{byte[0]:02X}"
        for byte in (bytes([code]) for code in name.encode("utf-8", errors="replace"))
    )
    if len(_ESCAPED) + len(escaped) <= ID.maximum:
        return _ESCAPED + escaped
    digest = hashlib.sha256(name.encode("utf-8", errors="replace")).hexdigest()
    return _HASHED + digest


def _unique(ids: list[str]) -> list[str]:
    assert len(set(ids)) == len(ids), "the mapping of ids is injective"
    return ids


def _read(path: Path) -> bytes:
    """A file, or as much of it as tells that it is too large."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _parsed(content: bytes) -> dict[str, Any]:
    if content.startswith(_GZIP_MAGIC):
        content = _unpacked(content)
    if len(content) > MAX_BYTES:
        raise WorkflowError(f"larger than {MAX_BYTES // 1024**2} MiB unpacked")
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"not a WfFormat file: {error}") from None
    if not isinstance(document, dict):
        raise WorkflowError("not a WfFormat file: expected a JSON object")
    return document


def _unpacked(content: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise WorkflowError(f"damaged gzip file: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise WorkflowError(f"{name} is not a number of JSON")


def _tasks(
    document: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]] | None]:
    """The tasks, and what was measured of them by id; None where the tasks carry it themselves."""
    schema = document.get("schemaVersion")
    if schema not in SCHEMAS:
        raise WorkflowError(f"schema version {schema!r} is not one of {', '.join(SCHEMAS)}")
    workflow = document.get("workflow")
    if not isinstance(workflow, dict):
        raise WorkflowError("not a WfFormat file: no workflow")
    if schema == "1.4":
        return _objects(workflow, "workflow"), None
    specification = workflow.get("specification")
    if not isinstance(specification, dict):
        raise WorkflowError("not a WfFormat file: no workflow.specification")
    execution = workflow.get("execution")
    executed = _objects(execution, "execution") if isinstance(execution, dict) else []
    measured = {str(task.get("id")): task for task in executed}
    return _objects(specification, "workflow.specification"), measured


def _objects(parent: dict[str, Any], where: str) -> list[dict[str, Any]]:
    tasks = parent.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise WorkflowError(f"not a WfFormat file: {where}.tasks is not a list of objects")
    if not tasks:
        raise WorkflowError(f"{where}.tasks is empty")
    if len(tasks) > MAX_TASKS:
        raise WorkflowError(f"{len(tasks):,} tasks, at most {MAX_TASKS:,} are allowed")
    return tasks


def _text(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _label(task: dict[str, Any], identity: str) -> str:
    """The name of the task, fit for display."""
    name = _text(task.get("name"), identity)
    return "".join(char if char.isprintable() else " " for char in name[: LABEL.maximum])


def _fill(task: TaskSpec, values: dict[str, Any], options: _Options, doubts: _Doubts) -> None:
    seconds = _measured(values, ("runtimeInSeconds", "runtime"), task.task)
    if seconds is None:
        doubts.note("no runtime, taken as 0")
    duration = _sleep_argument((seconds or 0) * options.time_scale)
    task.process.argv[:] = ["sh", "-c", LEDGER_SCRIPT, "sh", duration]
    if options.ledger is not None:
        task.process.env["MAINSPRING_LEDGER"] = options.ledger
    cores = _measured(values, ("coreCount", "cores"), task.task) or 1
    task.resources.cpu = _limited(cores, options.cpu_limit, "cpu", doubts)
    memory = int(_measured(values, ("memoryInBytes", "memory"), task.task) or 0)
    limit = min(MEMORY.maximum, options.memory_limit_bytes or MEMORY.maximum)
    task.resources.memory_bytes = int(_limited(memory, limit, "memory", doubts))
    _set_priority(task, values, doubts)


def _set_priority(task: TaskSpec, values: dict[str, Any], doubts: _Doubts) -> None:
    priority = values.get("priority")
    if isinstance(priority, bool) or not isinstance(priority, int):
        return
    task.priority = max(PRIORITY.minimum, min(PRIORITY.maximum, priority))
    if task.priority != priority:
        doubts.note(f"priority outside {PRIORITY.minimum:,} to {PRIORITY.maximum:,}, clamped")


def _limited(amount: float, limit: float | None, what: str, doubts: _Doubts) -> float:
    if limit is None or amount <= limit:
        return amount
    doubts.note(f"{what} lowered to {limit:,}")
    return limit


def _measured(values: dict[str, Any], keys: tuple[str, ...], task_id: str) -> float | None:
    """A number that cannot be negative, under the first key that has one."""
    for key in keys:
        value = values.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WorkflowError(f"{key} of task {task_id!r} is not a number: {value!r:.40}")
        if not (math.isfinite(value) and value >= 0):
            raise WorkflowError(f"{key} of task {task_id!r} must be at least 0, found {value}")
        return value
    return None


def _sleep_argument(seconds: float) -> str:
    """Seconds for `sleep`, to the millisecond and without an exponent; "0" means no sleep."""
    rounded = Decimal(str(round(seconds, 3)))
    return f"{rounded.normalize():f}" if float_or_none(str(rounded)) else "0"
