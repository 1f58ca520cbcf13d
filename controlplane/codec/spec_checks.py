"""Decides whether a definition of a DAG is accepted, and what its author should hear about it.

Promises that all problems are found at once, each with its field, the reason and the way out; what
passes compiles (see `dag`) and can be executed. Does not know what the cluster has to offer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from google.protobuf.duration_pb2 import Duration
from mainspring.v1 import dag_pb2

from controlplane.codec.dag import DEFAULT_SCHEDULE, DEFAULT_ZONE, retry_policy
from controlplane.codec.durations import duration_ms, duration_problem
from controlplane.core.graph.edges import Problem, TaskEdges, compile_edges
from controlplane.core.graph.names import id_problem, shown, text_problem
from controlplane.core.time.errors import TimetableError
from controlplane.core.time.timetable import Timetable, parse_timetable, warnings_of
from controlplane.core.types import RetryPolicyError

MAX_PROBLEMS = 1_000
MAX_DESCRIPTION = 10_000
MAX_LABEL = 1_000
MAX_LABELS, MAX_LABEL_KEY, MAX_LABEL_VALUE = 64, 63, 255
MAX_SCHEDULES = 100
MAX_ARGV_BYTES = 128 * 1_024
MAX_ENV_BYTES = 128 * 1_024
MAX_ENV = 1_000
MAX_VARIABLE = 255
MAX_CWD_BYTES = 4_095
MAX_CPU = 100_000
MAX_MEMORY_BYTES = 2**50
MAX_PRIORITY = 1_000
MAX_DISCONNECT_LIMIT_MS = 30 * 86_400_000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RULES = frozenset(dag_pb2.TriggerRule.values())
_ON_DISCONNECT = frozenset(dag_pb2.OnDisconnect.values())
_FENCING = (dag_pb2.ON_DISCONNECT_UNSPECIFIED, dag_pb2.ON_DISCONNECT_FENCE)
_RETRY_FIELDS = {"initial_backoff_ms": "initial_backoff", "max_backoff_ms": "max_backoff"}


def check_spec(spec: dag_pb2.DagSpec) -> list[Problem]:
    """All problems of a definition, none if it is accepted; at most 1,000 and one that counts."""
    found = _problems(spec)
    problems = list(islice(found, MAX_PROBLEMS))
    if left := sum(1 for _ in found):
        problems.append(Problem("", f"and {left:,} more problems"))
    return problems


def warnings(spec: dag_pb2.DagSpec) -> list[str]:
    """What is allowed but probably not meant, in an accepted definition; each a sentence."""
    found: list[str] = []
    for position, schedule in enumerate(spec.schedules):
        where = f"schedules[{position}]"
        found += (f"{where}: {text}" for text in warnings_of(_timetable(schedule)))
        if schedule.WhichOneof("timetable") == "interval" and schedule.timezone:
            found.append(f"{where}: the time zone has no effect on an interval")
    return found


def _problems(spec: dag_pb2.DagSpec) -> Iterator[Problem]:
    yield from _dag_problems(spec)
    yield from _schedules_problems(spec)
    edges = [TaskEdges(task.task, task.depends_on) for task in spec.tasks]
    yield from compile_edges(edges)[1]
    for position, task in enumerate(spec.tasks):
        for field, message in _task_problems(task):
            yield Problem(f"tasks[{position}].{field}", message)


def _dag_problems(spec: dag_pb2.DagSpec) -> Iterator[Problem]:
    if reason := id_problem(spec.dag):
        yield Problem("dag", reason)
    if reason := text_problem(spec.description, MAX_DESCRIPTION):
        yield Problem("description", reason)
    if reason := duration_problem(spec.run_timeout):
        yield Problem("run_timeout", reason)
    if spec.max_active_runs < 0:
        yield Problem("max_active_runs", f"{spec.max_active_runs} is negative; 0 means no limit")
    yield from _labels_problems(spec.labels)


def _labels_problems(labels: Mapping[str, str]) -> Iterator[Problem]:
    if len(labels) > MAX_LABELS:
        yield Problem("labels", f"has {len(labels):,} entries; at most {MAX_LABELS} are kept")
    for key, value in sorted(labels.items()):
        field = f"labels[{shown(key)}]"
        if not key:
            yield Problem(field, "has an empty key; give it 1 to 63 characters")
        if reason := text_problem(key, MAX_LABEL_KEY):
            yield Problem(field, f"key {reason}")
        if reason := text_problem(value, MAX_LABEL_VALUE):
            yield Problem(field, reason)


def _schedules_problems(spec: dag_pb2.DagSpec) -> Iterator[Problem]:
    if len(spec.schedules) > MAX_SCHEDULES:
        many = f"has {len(spec.schedules):,} schedules; a DAG has at most {MAX_SCHEDULES}"
        yield Problem("schedules", many)
    first: dict[str, int] = {}
    for position, schedule in enumerate(spec.schedules):
        where, name = f"schedules[{position}]", schedule.schedule or DEFAULT_SCHEDULE
        if reason := id_problem(name):
            yield Problem(f"{where}.schedule", reason)
        elif name in first:
            known = f"{shown(name)} is the id of schedules[{first[name]}] already"
            if not schedule.schedule:
                known = f"is missing, and {known}"
            hint = "give each of several schedules its own `schedule:` id"
            yield Problem(f"{where}.schedule", f"{known}; {hint}")
        first.setdefault(name, position)
        for field, message in _timetable_problems(schedule):
            yield Problem(f"{where}.{field}", message)


def _timetable_problems(schedule: dag_pb2.ScheduleSpec) -> Iterator[tuple[str, str]]:
    kind = schedule.WhichOneof("timetable")
    if kind is None:
        yield "cron", "is missing; give a cron expression or an interval"
        return
    if kind == "cron":
        zone = schedule.timezone or DEFAULT_ZONE
        judged = {
            "cron": _refusal("cron", expression=schedule.cron),
            "timezone": _refusal("cron", expression="@daily", zone=zone),
        }
    else:
        every_ms = duration_ms(schedule.interval)
        reason = duration_problem(schedule.interval) or _refusal("interval", every_ms=every_ms)
        judged = {"interval": reason}
    yield from ((field, reason) for field, reason in judged.items() if reason)


def _refusal(kind: str, expression: str = "", zone: str = DEFAULT_ZONE, every_ms: int = 0) -> str:
    try:
        parse_timetable(kind, expression=expression, zone=zone, every_ms=every_ms)
    except TimetableError as error:
        return str(error)
    return ""


def _timetable(schedule: dag_pb2.ScheduleSpec) -> Timetable:
    if schedule.WhichOneof("timetable") == "interval":
        return parse_timetable("interval", every_ms=duration_ms(schedule.interval))
    zone = schedule.timezone or DEFAULT_ZONE
    return parse_timetable("cron", expression=schedule.cron, zone=zone)


def _task_problems(task: dag_pb2.TaskSpec) -> Iterator[tuple[str, str]]:
    if task.label and (reason := text_problem(task.label, MAX_LABEL)):
        yield "label", reason
    if task.trigger_rule not in _RULES:
        yield "trigger_rule", f"{task.trigger_rule} is no trigger rule that this version knows"
    if not -MAX_PRIORITY <= task.priority <= MAX_PRIORITY:
        yield "priority", f"{task.priority} is out of range; give -1000 to 1000"
    if task.HasField("process"):
        yield from _process_problems(task.process)
    else:
        yield "process", "is missing; say what the task does"
    if task.HasField("resources"):
        yield from _resource_problems(task.resources)
    if task.HasField("timeout"):
        yield from _duration_problems("timeout", task.timeout)
    if task.HasField("grace"):
        yield from _duration_problems("grace", task.grace)
    if task.HasField("retry"):
        yield from _retry_problems(task.retry)
    yield from _disconnect_problems(task)


def _disconnect_problems(task: dag_pb2.TaskSpec) -> Iterator[tuple[str, str]]:
    if task.on_disconnect not in _ON_DISCONNECT:
        yield "on_disconnect", f"{task.on_disconnect} is none that this version knows"
    repeats = task.on_disconnect == dag_pb2.ON_DISCONNECT_RETRY
    if repeats and task.HasField("idempotent") and not task.idempotent:
        reason = "retry may have two attempts alive together, and the task is not idempotent"
        way_out = "choose fence or continue, or remove `idempotent: false`"
        yield "on_disconnect", f"{reason}; {way_out}"
    if task.HasField("disconnect_limit"):
        yield from _limit_problems(task)


def _limit_problems(task: dag_pb2.TaskSpec) -> Iterator[tuple[str, str]]:
    if task.on_disconnect in _FENCING:
        fault = "has no meaning with fence, which ends an attempt with its attempt lease"
        yield "disconnect_limit", f"{fault}; remove it, or choose continue or retry"
    elif reason := duration_problem(task.disconnect_limit):
        yield "disconnect_limit", reason
    elif not 0 < duration_ms(task.disconnect_limit) <= MAX_DISCONNECT_LIMIT_MS:
        yield "disconnect_limit", "is out of range; give more than 0 and at most 30 days"


def _duration_problems(field: str, duration: Duration) -> Iterator[tuple[str, str]]:
    if reason := duration_problem(duration):
        yield field, reason


def _process_problems(process: dag_pb2.ProcessSpec) -> Iterator[tuple[str, str]]:
    argv = process.argv
    if not argv or not argv[0]:
        yield "process.argv", "names no program; give the program and its arguments"
    for position, argument in enumerate(argv):
        if "\0" in argument:
            yield f"process.argv[{position}]", "holds a NUL character; remove it"
    if (size := _bytes_of(argv)) > MAX_ARGV_BYTES:
        yield "process.argv", _too_large(size, MAX_ARGV_BYTES)
    yield from _cwd_problems(process.cwd)
    if process.env:
        yield from _env_problems(process.env)


def _cwd_problems(cwd: str) -> Iterator[tuple[str, str]]:
    if cwd and not cwd.startswith("/"):
        yield "process.cwd", f"{shown(cwd)} is no absolute path; begin it with '/'"
    if "\0" in cwd:
        yield "process.cwd", "holds a NUL character; remove it"
    if len(cwd.encode()) > MAX_CWD_BYTES:
        yield "process.cwd", f"{shown(cwd)} is too long; a path has at most {MAX_CWD_BYTES:,} bytes"


def _env_problems(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if len(env) > MAX_ENV:
        yield "process.env", f"has {len(env):,} variables; give at most {MAX_ENV:,}"
    size = 0
    for name, value in sorted(env.items()):
        field = f"process.env[{shown(name)}]"
        size += len(name.encode()) + len(value.encode()) + 2
        if len(name) > MAX_VARIABLE or not _VARIABLE.fullmatch(name):
            yield (
                field,
                "is not the name of a variable; use letters, digits and '_', no digit first",
            )
        if "\0" in value:
            yield field, "holds a NUL character; remove it"
    if size > MAX_ENV_BYTES:
        yield "process.env", _too_large(size, MAX_ENV_BYTES)


def _bytes_of(argv: Collection[str]) -> int:
    return sum(map(len, map(str.encode, argv))) + len(argv)


def _too_large(size: int, limit: int) -> str:
    return f"takes {size:,} bytes; at most {limit:,} reach a process, put the rest into a file"


def _resource_problems(wanted: dag_pb2.ResourceRequest) -> Iterator[tuple[str, str]]:
    if not math.isfinite(wanted.cpu) or not 0 <= wanted.cpu <= MAX_CPU:
        yield "resources.cpu", f"{wanted.cpu} is out of range; give 0 to {MAX_CPU:,} cores"
    if not 0 <= wanted.memory_bytes <= MAX_MEMORY_BYTES:
        given = f"{wanted.memory_bytes:,} is out of range"
        yield "resources.memory_bytes", f"{given}; give 0 to {MAX_MEMORY_BYTES:,} bytes (1 PiB)"


def _retry_problems(retry: dag_pb2.RetryPolicy) -> Iterator[tuple[str, str]]:
    broken = {
        field: reason
        for field in ("initial_backoff", "max_backoff")
        if (reason := duration_problem(getattr(retry, field)))
    }
    for field, reason in broken.items():
        yield f"retry.{field}", reason
    try:
        retry_policy(retry)
    except RetryPolicyError as error:
        for field, reason in error.problems:
            name = _RETRY_FIELDS.get(field, field)
            if name not in broken:
                yield f"retry.{name}", reason
