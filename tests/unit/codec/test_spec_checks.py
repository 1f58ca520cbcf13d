from __future__ import annotations

from collections.abc import Callable
from time import process_time

import pytest
from mainspring.v1 import dag_pb2

from controlplane.codec.dag import compile_version
from controlplane.codec.spec_checks import MAX_PROBLEMS, check_spec, warnings


def good(tasks: int = 1) -> dag_pb2.DagSpec:
    spec = dag_pb2.DagSpec(dag="d")
    for number in range(tasks):
        task = spec.tasks.add(task=f"t{number}")
        task.process.argv.append("true")
        if number:
            task.depends_on.append(f"t{number - 1}")
    return spec


Change = Callable[[dag_pb2.DagSpec, dag_pb2.TaskSpec], object]


def add_schedule(spec: dag_pb2.DagSpec, **fields: str) -> dag_pb2.ScheduleSpec:
    return spec.schedules.add(**fields)  # type: ignore[arg-type]


def add_interval(spec: dag_pb2.DagSpec, seconds: int, nanos: int = 0) -> None:
    interval = spec.schedules.add().interval
    interval.seconds, interval.nanos = seconds, nanos


FENCE, CONTINUE = dag_pb2.ON_DISCONNECT_FENCE, dag_pb2.ON_DISCONNECT_CONTINUE
RETRY = dag_pb2.ON_DISCONNECT_RETRY


def limit(task: dag_pb2.TaskSpec, policy: dag_pb2.OnDisconnect | int, seconds: int) -> None:
    task.on_disconnect = dag_pb2.OnDisconnect.ValueType(policy)
    task.disconnect_limit.SetInParent()
    task.disconnect_limit.seconds = seconds


BAD: list[tuple[str, str, Change]] = [
    ("dag", "not an id", lambda s, t: setattr(s, "dag", "../x")),
    ("dag", "is missing", lambda s, t: setattr(s, "dag", "")),
    ("dag", "too long", lambda s, t: setattr(s, "dag", "x" * 1_000_000)),
    ("description", "too long", lambda s, t: setattr(s, "description", "x" * 10_001)),
    ("description", "control character", lambda s, t: setattr(s, "description", "a\0b")),
    ("run_timeout", "negative", lambda s, t: setattr(s.run_timeout, "seconds", -1)),
    ("max_active_runs", "negative", lambda s, t: setattr(s, "max_active_runs", -1)),
    ("labels", "65 entries", lambda s, t: s.labels.update({f"k{n}": "" for n in range(65)})),
    ("labels['']", "empty key", lambda s, t: s.labels.update({"": "v"})),
    ("labels['a\\x01']", "control", lambda s, t: s.labels.update({"a\x01": "v"})),
    ("labels['a']", "too long", lambda s, t: s.labels.update({"a": "v" * 256})),
    (
        "schedules",
        "101 schedules",
        lambda s, t: [add_schedule(s, schedule=f"s{n}", cron="@daily") for n in range(101)],
    ),
    ("schedules[0].cron", "is missing", lambda s, t: add_schedule(s)),
    ("schedules[0].cron", "fields", lambda s, t: add_schedule(s, cron="* * *")),
    ("schedules[0].timezone", "Mars", lambda s, t: add_schedule(s, cron="@daily", timezone="Mars")),
    (
        "schedules[0].schedule",
        "not an id",
        lambda s, t: add_schedule(s, schedule="/", cron="@daily"),
    ),
    (
        "schedules[1].schedule",
        "give each of several schedules its own `schedule:` id",
        lambda s, t: [add_schedule(s, cron="@daily") for _ in range(2)],
    ),
    ("schedules[0].interval", "negative", lambda s, t: add_interval(s, -5)),
    ("schedules[0].interval", "out of range", lambda s, t: add_interval(s, 0, 1)),
    ("tasks", "is empty", lambda s, t: s.ClearField("tasks")),
    ("tasks[0].task", "is missing", lambda s, t: setattr(t, "task", "")),
    ("tasks[0].depends_on[0]", "itself", lambda s, t: t.depends_on.append("t0")),
    ("tasks[0].depends_on[0]", "no task", lambda s, t: t.depends_on.append("x")),
    ("tasks[0].label", "control", lambda s, t: setattr(t, "label", "\x07")),
    ("tasks[0].trigger_rule", "99", lambda s, t: setattr(t, "trigger_rule", 99)),
    ("tasks[0].priority", "out of range", lambda s, t: setattr(t, "priority", 1_001)),
    ("tasks[0].process", "is missing", lambda s, t: t.ClearField("process")),
    ("tasks[0].process.argv", "no program", lambda s, t: t.process.ClearField("argv")),
    ("tasks[0].process.argv", "no program", lambda s, t: t.process.argv.__setitem__(0, "")),
    ("tasks[0].process.argv[1]", "NUL", lambda s, t: t.process.argv.append("a\0")),
    ("tasks[0].process.argv", "131,078 bytes", lambda s, t: t.process.argv.append("x" * 131_072)),
    ("tasks[0].process.cwd", "absolute", lambda s, t: setattr(t.process, "cwd", "tmp")),
    ("tasks[0].process.cwd", "NUL", lambda s, t: setattr(t.process, "cwd", "/\0")),
    ("tasks[0].process.cwd", "too long", lambda s, t: setattr(t.process, "cwd", "/" * 5_000)),
    ("tasks[0].process.env['1A']", "name of a", lambda s, t: t.process.env.update({"1A": ""})),
    ("tasks[0].process.env['A\\n']", "name of a", lambda s, t: t.process.env.update({"A\n": ""})),
    ("tasks[0].process.env['A']", "NUL", lambda s, t: t.process.env.update({"A": "\0"})),
    ("tasks[0].process.env", "bytes", lambda s, t: t.process.env.update({"A": "x" * 131_072})),
    (
        "tasks[0].process.env",
        "1,001 variables",
        lambda s, t: t.process.env.update({f"A{n}": "" for n in range(1_001)}),
    ),
    ("tasks[0].resources.cpu", "-1.0", lambda s, t: setattr(t.resources, "cpu", -1)),
    ("tasks[0].resources.cpu", "nan", lambda s, t: setattr(t.resources, "cpu", float("nan"))),
    ("tasks[0].resources.cpu", "inf", lambda s, t: setattr(t.resources, "cpu", float("inf"))),
    ("tasks[0].resources.cpu", "out of", lambda s, t: setattr(t.resources, "cpu", 100_001)),
    (
        "tasks[0].resources.memory_bytes",
        "-1",
        lambda s, t: setattr(t.resources, "memory_bytes", -1),
    ),
    (
        "tasks[0].resources.memory_bytes",
        "1 PiB",
        lambda s, t: setattr(t.resources, "memory_bytes", 2**50 + 1),
    ),
    ("tasks[0].timeout", "negative", lambda s, t: setattr(t.timeout, "seconds", -1)),
    ("tasks[0].grace", "10 years", lambda s, t: setattr(t.grace, "seconds", 10**10)),
    ("tasks[0].retry.max_attempts", "between 1", lambda s, t: t.retry.SetInParent()),
    ("tasks[0].retry.jitter", "between 0", lambda s, t: setattr(t.retry, "jitter", float("nan"))),
    ("tasks[0].retry.multiplier", "between 1", lambda s, t: setattr(t.retry, "multiplier", 0)),
    (
        "tasks[0].retry.initial_backoff",
        "negative",
        lambda s, t: setattr(t.retry.initial_backoff, "seconds", -1),
    ),
    (
        "tasks[0].retry.max_backoff",
        "at least initial",
        lambda s, t: setattr(t.retry.max_backoff, "nanos", 1),
    ),
    ("tasks[0].on_disconnect", "99", lambda s, t: setattr(t, "on_disconnect", 99)),
    (
        "tasks[0].on_disconnect",
        "choose fence or continue, or remove `idempotent: false`",
        lambda s, t: t.MergeFrom(dag_pb2.TaskSpec(idempotent=False, on_disconnect=RETRY)),
    ),
    ("tasks[0].disconnect_limit", "choose continue or retry", lambda s, t: limit(t, FENCE, 60)),
    ("tasks[0].disconnect_limit", "choose continue or retry", lambda s, t: limit(t, 0, 60)),
    ("tasks[0].disconnect_limit", "negative", lambda s, t: limit(t, CONTINUE, -1)),
    ("tasks[0].disconnect_limit", "more than 0", lambda s, t: limit(t, CONTINUE, 0)),
    ("tasks[0].disconnect_limit", "30 days", lambda s, t: limit(t, RETRY, 30 * 86_400 + 1)),
]


@pytest.mark.parametrize(("field", "words", "change"), BAD)
def test_a_problem_is_named_with_its_field(field: str, words: str, change: Change) -> None:
    spec = good()
    change(spec, spec.tasks[0])
    problems = [each for each in check_spec(spec) if each.field == field]
    assert len(problems) == 1
    assert words in problems[0].message
    assert len(problems[0].message) < 400


def test_all_problems_are_found_at_once() -> None:
    spec = dag_pb2.DagSpec(dag="/", max_active_runs=-1)
    spec.schedules.add(cron="* * * * 9", timezone="Nowhere/Land")
    spec.tasks.add(task="a", depends_on=["b"]).timeout.seconds = -1
    spec.tasks.add(task="b", depends_on=["a"], priority=5_000)
    assert {problem.field for problem in check_spec(spec)} == {
        "dag",
        "max_active_runs",
        "schedules[0].cron",
        "schedules[0].timezone",
        "tasks[0].depends_on",
        "tasks[0].timeout",
        "tasks[0].process",
        "tasks[1].priority",
        "tasks[1].process",
    }


def test_what_passes_compiles() -> None:
    spec = good(3)
    spec.schedules.add(cron="@once")
    task = spec.tasks[0]
    task.resources.cpu, task.resources.memory_bytes, task.priority = 100_000, 2**50, 1_000
    task.retry.max_attempts = 1_000
    task.process.env["_A1"] = "ä\n"
    limit(task, RETRY, 30 * 86_400)
    spec.tasks[1].idempotent = False
    limit(spec.tasks[1], CONTINUE, 1)
    assert check_spec(spec) == []
    assert len(compile_version("t", spec, b"").tasks) == 3


def test_a_long_list_of_problems_is_cut_and_says_so() -> None:
    spec = good()
    for number in range(2_000):
        spec.tasks.add(task=f"n{number}")
    problems = check_spec(spec)
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1].message == "and 1,000 more problems"


def test_a_dag_beyond_the_limit_is_refused() -> None:
    spec = dag_pb2.DagSpec(dag="d")
    one = good().tasks[0]
    spec.tasks.extend([one] * 100_001)
    assert "tasks" in {problem.field for problem in check_spec(spec)}


def test_ten_thousand_tasks_are_checked_quickly() -> None:
    spec = good(10_000)
    began_s = process_time()
    assert check_spec(spec) == []
    assert process_time() - began_s < 2.0


def test_warnings_name_what_never_fires_and_what_has_no_effect() -> None:
    spec = good()
    spec.schedules.add(schedule="never", cron="0 0 30 2 *")
    every = spec.schedules.add(schedule="every", timezone="Europe/Berlin")
    every.interval.seconds = 60
    spec.schedules.add(schedule="fine", cron="@daily", timezone="Europe/Berlin")
    first, second = warnings(spec)
    assert first.startswith("schedules[0]: ")
    assert "never fires" in first
    assert second == "schedules[1]: the time zone has no effect on an interval"
