from __future__ import annotations

from hashlib import sha256

import pytest
from mainspring.agent.v1 import session_pb2
from mainspring.v1 import dag_pb2

from controlplane.codec.dag import canonical, compile_version
from controlplane.codec.errors import CodecError
from controlplane.core.types import (
    DagKey,
    OnDisconnect,
    Resources,
    RetryPolicy,
    ScheduleDef,
    TriggerRule,
)


def spec_of(*tasks: dag_pb2.TaskSpec, **fields: object) -> dag_pb2.DagSpec:
    return dag_pb2.DagSpec(dag="d", tasks=tasks, **fields)  # type: ignore[arg-type]


def task_of(task: str, **fields: object) -> dag_pb2.TaskSpec:
    process = dag_pb2.ProcessSpec(argv=["true"])
    return dag_pb2.TaskSpec(**{"task": task, "process": process, **fields})  # type: ignore[arg-type]


def test_canonical_bytes_do_not_depend_on_the_order_of_maps() -> None:
    forth, back = spec_of(), spec_of()
    names = [f"k{number}" for number in range(40)]
    for name in names:
        forth.labels[name] = name
    for name in reversed(names):
        back.labels[name] = name
    stored, digest = canonical(forth)
    assert (stored, digest) == canonical(back)
    assert digest == sha256(stored).digest()


def test_canonical_bytes_leave_unknown_fields_out() -> None:
    known = spec_of(task_of("a"))
    foreign = dag_pb2.DagSpec.FromString(known.SerializeToString() + b"\xf8\x07\x01")
    assert canonical(foreign) == canonical(known)


def test_defaults_are_those_of_the_contract() -> None:
    stored, digest = canonical(spec_of(task_of("a"), task_of("b", depends_on=["a"])))
    version = compile_version("t", stored, digest)
    assert version.key == DagKey("t", "d")
    assert version.digest == digest
    assert list(version.edges.parent_counts) == [0, 1]
    task = version.tasks[0]
    assert task.request == Resources(1_000, 0)
    assert (task.rule, task.retry, task.priority) == (TriggerRule.ALL_SUCCESS, RetryPolicy(), 0)
    execution = session_pb2.ExecSpec.FromString(task.exec_spec)
    assert (execution.timeout_ms, execution.grace_ms) == (0, 10_000)
    assert list(execution.argv) == ["true"]
    assert (task.idempotent, task.on_disconnect, task.overtime_ms) == (True, OnDisconnect.FENCE, 0)
    assert execution.overtime_ms == 0


def test_everything_stated_reaches_the_compiled_task() -> None:
    task = task_of(
        "a",
        trigger_rule=dag_pb2.TRIGGER_RULE_ALL_DONE,
        resources=dag_pb2.ResourceRequest(cpu=0.0001, memory_bytes=5),
        retry=dag_pb2.RetryPolicy(max_attempts=3, multiplier=1.5, jitter=0),
        priority=-7,
    )
    task.timeout.seconds = 2
    task.grace.seconds = 0
    task.process.env["A"] = "b"
    task.process.cwd = "/tmp"
    task.retry.initial_backoff.seconds = 7_200
    compiled = compile_version("t", spec_of(task, max_active_runs=4), b"").tasks[0]
    assert compiled.request == Resources(1, 5)
    assert compiled.rule is TriggerRule.ALL_DONE
    assert compiled.retry == RetryPolicy(3, 7_200_000, 1.5, 7_200_000, 0.0)
    assert compiled.priority == -7
    execution = session_pb2.ExecSpec.FromString(compiled.exec_spec)
    assert (execution.timeout_ms, execution.grace_ms) == (2_000, 0)
    assert (dict(execution.env), execution.cwd) == ({"A": "b"}, "/tmp")
    assert (execution.request.cpu_millis, execution.request.memory_bytes) == (1, 5)


@pytest.mark.parametrize(
    ("stated", "on_disconnect", "overtime_ms"),
    [
        (dag_pb2.ON_DISCONNECT_FENCE, OnDisconnect.FENCE, 0),
        (dag_pb2.ON_DISCONNECT_CONTINUE, OnDisconnect.CONTINUE, 3_600_000),
        (dag_pb2.ON_DISCONNECT_RETRY, OnDisconnect.RETRY, 3_600_000),
    ],
)
def test_what_may_run_on_does_so_for_an_hour_by_default(
    stated: dag_pb2.OnDisconnect.ValueType, on_disconnect: OnDisconnect, overtime_ms: int
) -> None:
    compiled = compile_version("t", spec_of(task_of("a", on_disconnect=stated)), b"").tasks[0]
    assert (compiled.on_disconnect, compiled.overtime_ms) == (on_disconnect, overtime_ms)
    assert session_pb2.ExecSpec.FromString(compiled.exec_spec).overtime_ms == overtime_ms


def test_a_stated_limit_is_the_overtime() -> None:
    task = task_of("a", idempotent=False, on_disconnect=dag_pb2.ON_DISCONNECT_CONTINUE)
    task.disconnect_limit.seconds = 1_800
    compiled = compile_version("t", spec_of(task), b"").tasks[0]
    assert (compiled.idempotent, compiled.overtime_ms) == (False, 1_800_000)
    assert session_pb2.ExecSpec.FromString(compiled.exec_spec).overtime_ms == 1_800_000


def test_no_processor_can_be_asked_for() -> None:
    task = task_of("a", resources=dag_pb2.ResourceRequest(cpu=0))
    assert compile_version("t", spec_of(task), b"").tasks[0].request == Resources(0, 0)


def test_memory_alone_leaves_the_processor_at_its_default() -> None:
    task = task_of("a", resources=dag_pb2.ResourceRequest(memory_bytes=9))
    assert compile_version("t", spec_of(task), b"").tasks[0].request == Resources(1_000, 9)


def test_the_longest_backoff_can_be_stated() -> None:
    retry = dag_pb2.RetryPolicy(max_attempts=2)
    retry.max_backoff.seconds = 60
    compiled = compile_version("t", spec_of(task_of("a", retry=retry)), b"").tasks[0]
    assert compiled.retry.max_backoff_ms == 60_000


def test_schedules_become_the_text_of_their_timetables() -> None:
    every = dag_pb2.ScheduleSpec(schedule="often")
    every.interval.seconds = 90
    spec = spec_of(
        task_of("a"),
        schedules=[
            dag_pb2.ScheduleSpec(cron="0 3 * * *"),
            dag_pb2.ScheduleSpec(schedule="z", cron="@daily", timezone="Europe/Berlin"),
            every,
        ],
    )
    spec.run_timeout.seconds = 5
    version = compile_version("t", spec, b"")
    assert version.run_timeout_ms == 5_000
    assert version.schedules == (
        ScheduleDef("default", "cron UTC 0 3 * * *"),
        ScheduleDef("z", "cron Europe/Berlin @daily"),
        ScheduleDef("often", "interval 90000"),
    )


@pytest.mark.parametrize(
    "stored",
    [
        b"\xff",
        canonical(spec_of())[0],
        canonical(spec_of(task_of("a", depends_on=["a"])))[0],
        canonical(spec_of(task_of("a", trigger_rule=99)))[0],
        canonical(spec_of(task_of("a", retry=dag_pb2.RetryPolicy())))[0],
    ],
    ids=["no message", "no task", "cycle", "unknown rule", "no attempt"],
)
def test_what_was_never_checked_is_refused(stored: bytes) -> None:
    with pytest.raises(CodecError):
        compile_version("t", stored, b"")
