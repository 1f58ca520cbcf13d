"""Decides how runs, task instances and attempts look to the public.

States have the same numbers in the core and in the contract; an unset time stays unset. Does not
know how states are derived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from mainspring.v1 import run_pb2

from controlplane.codec.durations import timestamp
from controlplane.core.types import RunCause, uuid_text

PENDING = int(run_pb2.RUN_STATE_PENDING)


class RunView(NamedTuple):
    """What is known of a run; `state` as in the contract, times in microseconds or None."""

    dag: str
    run_id: bytes
    state: int
    reason: str
    digest: bytes
    cause: int
    schedule: str
    logical_us: int | None
    created_us: int | None
    started_us: int | None
    finished_us: int | None
    shard: int


class TaskView(NamedTuple):
    """What is known of a task instance and its current or last attempt."""

    task: str
    label: str
    state: int
    reason: str = ""
    number: int = 0
    agent: str = ""
    started_us: int | None = None
    finished_us: int | None = None
    exit_code: int | None = None
    next_attempt_us: int | None = None


class LateView(NamedTuple):
    """What an agent reported of an attempt after it had been given up."""

    state: int
    reason: str
    started_us: int | None
    finished_us: int
    exit_code: int | None
    signal: int
    adopted: bool


class AttemptView(NamedTuple):
    """What is known of an attempt."""

    task: str
    attempt_id: bytes
    number: int
    state: int
    reason: str
    agent: str
    assigned_us: int
    started_us: int | None
    finished_us: int | None
    exit_code: int | None
    signal: int
    batch: int
    ended_batch: int
    stdout_bytes: int
    stderr_bytes: int
    late: LateView | None = None


def run_name(dag: str, run_id: bytes) -> str:
    """The resource name of a run."""
    return f"dags/{dag}/runs/{uuid_text(run_id)}"


def run_message(view: RunView, counts: Sequence[run_pb2.TaskCount] = ()) -> run_pb2.Run:
    """A run."""
    return run_pb2.Run(
        name=run_name(view.dag, view.run_id),
        state=run_pb2.RunState.ValueType(view.state),
        reason=view.reason,
        digest=view.digest.hex(),
        cause=run_pb2.RunCause.ValueType(view.cause),
        schedule=view.schedule,
        logical_time=timestamp(view.logical_us),
        create_time=timestamp(view.created_us),
        start_time=timestamp(view.started_us),
        end_time=timestamp(view.finished_us),
        task_counts=counts,
        shard=view.shard,
    )


def pending_run(
    dag: str, run_id: bytes, logical_us: int, shard: int, *, reason: str = ""
) -> RunView:
    """A run whose command is durable and not applied."""
    return RunView(
        dag, run_id, PENDING, reason, b"", int(RunCause.TRIGGER), "", logical_us, None, None, None,
        shard,
    )  # fmt: skip


def task_counts(states: Sequence[int]) -> list[run_pb2.TaskCount]:
    """How many task instances are in each state, in the order of the states' numbers."""
    return [
        run_pb2.TaskCount(state=run_pb2.TaskState.ValueType(state), count=count)
        for state, count in sorted(Counter(states).items())
    ]


def task_instance(run: str, view: TaskView) -> run_pb2.TaskInstance:
    """A task instance of the run of this name."""
    return run_pb2.TaskInstance(
        name=f"{run}/tasks/{view.task}",
        state=run_pb2.TaskState.ValueType(view.state),
        reason=view.reason,
        attempt_number=view.number,
        agent=view.agent,
        start_time=timestamp(view.started_us),
        end_time=timestamp(view.finished_us),
        exit_code=view.exit_code,
        next_attempt_time=timestamp(view.next_attempt_us),
        label=view.label,
    )


def attempt(run: str, view: AttemptView) -> run_pb2.Attempt:
    """An attempt of the run of this name."""
    return run_pb2.Attempt(
        name=f"{run}/tasks/{view.task}/attempts/{view.attempt_id.hex()}",
        number=view.number,
        state=run_pb2.AttemptState.ValueType(view.state),
        reason=view.reason,
        agent=view.agent,
        assign_time=timestamp(view.assigned_us),
        start_time=timestamp(view.started_us),
        end_time=timestamp(view.finished_us),
        exit_code=view.exit_code,
        signal=view.signal,
        assign_batch=view.batch,
        result_batch=view.ended_batch,
        stdout_bytes=view.stdout_bytes,
        stderr_bytes=view.stderr_bytes,
        late_result=None if view.late is None else _late_result(view.late),
    )


def _late_result(view: LateView) -> run_pb2.LateResult:
    return run_pb2.LateResult(
        state=run_pb2.AttemptState.ValueType(view.state),
        start_time=timestamp(view.started_us),
        end_time=timestamp(view.finished_us),
        exit_code=view.exit_code,
        signal=view.signal,
        reason=view.reason,
        adopted=view.adopted,
    )
