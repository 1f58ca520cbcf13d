"""Runs, task instances and attempts as tables and sentences for people."""

from __future__ import annotations

from collections.abc import Iterable

from mainspring.cli import text
from mainspring.cli.output import Table
from mainspring.client.names import last_segment
from mainspring.client.states import FINAL_RUN_STATES
from mainspring.v1 import run_pb2

# The way of a task instance through its states.
_ORDER = (
    run_pb2.TASK_STATE_WAITING,
    run_pb2.TASK_STATE_READY,
    run_pb2.TASK_STATE_ASSIGNED,
    run_pb2.TASK_STATE_RUNNING,
    run_pb2.TASK_STATE_BACKOFF,
    run_pb2.TASK_STATE_AWAITING_APPROVAL,
    run_pb2.TASK_STATE_SUCCEEDED,
    run_pb2.TASK_STATE_FAILED,
    run_pb2.TASK_STATE_UPSTREAM_FAILED,
    run_pb2.TASK_STATE_CANCELLED,
)


def run_word(run: run_pb2.Run) -> str:
    """The state of a run as one word."""
    return text.state_word(run_pb2.RunState.Name(run.state), "RUN_STATE_")


def task_word(state: run_pb2.TaskState.ValueType) -> str:
    """The state of a task instance as one word."""
    return text.state_word(run_pb2.TaskState.Name(state), "TASK_STATE_")


def short_name(run: run_pb2.Run) -> str:
    """`dag/uuid`, as every command takes it."""
    parts = run.name.split("/")
    return f"{parts[1]}/{parts[3]}" if len(parts) == 4 else run.name


def counts(run: run_pb2.Run) -> str:
    """`5 running, 2 failed, …`; states without task instances are left out."""
    number = {each.state: each.count for each in run.task_counts}
    told = [f"{number[state]} {task_word(state)}" for state in _ORDER if number.get(state)]
    return ", ".join(told) or text.NOTHING


def duration(run: run_pb2.Run) -> str:
    """From creation to the end, or until now."""
    if not run.HasField("end_time"):
        going = run.HasField("create_time") and run.state not in FINAL_RUN_STATES
        return text.elapsed(run.create_time) if going else text.NOTHING
    return text.span(text.seconds_between(run.create_time, run.end_time))


def runs(listed: Iterable[run_pb2.Run]) -> Table:
    """One line for each run."""
    table = Table(("RUN", "STATE", "CAUSE", "LOGICAL TIME", "CREATED", "TOOK"))
    for run in listed:
        table.add(
            short_name(run),
            run_word(run),
            _cause(run),
            text.moment(run.logical_time, known=run.HasField("logical_time")),
            text.moment(run.create_time, known=run.HasField("create_time")),
            duration(run),
        )
    return table


def one_run(run: run_pb2.Run) -> list[Table]:
    """The facts about one run, and why work does not go on."""
    facts = Table()
    facts.add("run", short_name(run))
    facts.add("state", run_word(run))
    if run.reason:
        facts.add("reason", run.reason)
    facts.add("tasks", counts(run))
    facts.add("cause", _cause(run))
    facts.add("logical time", text.moment(run.logical_time, known=run.HasField("logical_time")))
    facts.add("created", text.moment(run.create_time, known=run.HasField("create_time")))
    facts.add("started", text.moment(run.start_time, known=run.HasField("start_time")))
    facts.add("ended", text.moment(run.end_time, known=run.HasField("end_time")))
    facts.add("took", duration(run))
    facts.add("shard", run.shard)
    for notice in run.notices:
        facts.add("why", notice)
    return [facts]


def task_instances(listed: Iterable[run_pb2.TaskInstance]) -> Table:
    """One line for each task instance."""
    table = Table(("TASK", "STATE", "ATTEMPT", "AGENT", "EXIT", "STARTED", "TOOK", "REASON"))
    for task in listed:
        table.add(
            last_segment(task.name),
            task_word(task.state),
            task.attempt_number or text.NOTHING,
            last_segment(task.agent) or text.NOTHING,
            task.exit_code if task.HasField("exit_code") else text.NOTHING,
            text.moment(task.start_time, known=task.HasField("start_time")),
            _took(task, running=task.state == run_pb2.TASK_STATE_RUNNING),
            task.reason,
        )
    return table


def attempts(listed: Iterable[run_pb2.Attempt]) -> Table:
    """One line for each attempt."""
    table = Table(("TASK", "ATTEMPT", "STATE", "AGENT", "EXIT", "STARTED", "TOOK", "REASON"))
    for attempt in listed:
        state = run_pb2.AttemptState.Name(attempt.state)
        table.add(
            _task_of(attempt),
            attempt.number,
            text.state_word(state, "ATTEMPT_STATE_"),
            last_segment(attempt.agent) or text.NOTHING,
            _exit_word(attempt),
            text.moment(attempt.start_time, known=attempt.HasField("start_time")),
            _took(attempt, running=attempt.state == run_pb2.ATTEMPT_STATE_RUNNING),
            _why(attempt),
        )
    return table


def _why(attempt: run_pb2.Attempt) -> str:
    """Why it ended, and what was heard of it after that."""
    if not attempt.HasField("late_result"):
        return attempt.reason
    late = attempt.late_result
    word = text.state_word(run_pb2.AttemptState.Name(late.state), "ATTEMPT_STATE_")
    told = f"reported late: {word}, which {'counts' if late.adopted else 'changes nothing'}"
    told += f" ({late.reason})" if late.reason else ""
    return f"{attempt.reason}; {told}" if attempt.reason else told


def _cause(run: run_pb2.Run) -> str:
    word = text.state_word(run_pb2.RunCause.Name(run.cause), "RUN_CAUSE_")
    return f"{word} {run.schedule}" if run.schedule else word


def _took(timed: run_pb2.TaskInstance | run_pb2.Attempt, *, running: bool) -> str:
    if not timed.HasField("start_time"):
        return text.NOTHING
    if not timed.HasField("end_time"):
        return text.elapsed(timed.start_time) if running else text.NOTHING
    return text.span(text.seconds_between(timed.start_time, timed.end_time))


def _task_of(attempt: run_pb2.Attempt) -> str:
    parts = attempt.name.split("/")
    return parts[5] if len(parts) > 5 else attempt.name


def _exit_word(attempt: run_pb2.Attempt) -> str:
    if attempt.signal:
        return text.signal_word(attempt.signal)
    return str(attempt.exit_code) if attempt.HasField("exit_code") else text.NOTHING
