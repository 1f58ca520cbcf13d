"""Decides what a step may ask of the shell: rows to write, then messages to send.

Rows are tuples in the order of the store's columns. The shell writes all rows of a step in one
fenced transaction and sends the messages only when it is known to have committed. The numbers of
epoch and batch are not here: the fence adds them. Does not know SQL or protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from operator import attrgetter
from typing import NamedTuple

from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import RunCause


class DagRow(NamedTuple):
    """The head of a DAG: inserted or replaced."""

    tenant: str
    dag: str
    bucket: int
    digest: bytes
    task_count: int
    paused: bool
    pause_reason: str
    revision: int
    created_us: int
    updated_us: int


class VersionUseRow(NamedTuple):
    """A version became current; its spec is there already, content-addressed by its digest."""

    tenant: str
    dag: str
    digest: bytes
    task_count: int
    created_us: int


class ScheduleRow(NamedTuple):
    """A schedule of a DAG: inserted or replaced. `next_us` None: never due again."""

    tenant: str
    dag: str
    schedule: str
    bucket: int
    definition: str
    next_us: int | None


class ScheduleGoneRow(NamedTuple):
    """A schedule that its DAG no longer has."""

    tenant: str
    dag: str
    schedule: str


class InstantOutcome(IntEnum):
    """How a due instant ended."""

    RUN = 1
    SKIPPED = 2
    COALESCED = 3


class InstantRow(NamedTuple):
    """The ledger's row of a due instant. `run_id` for RUN and COALESCED."""

    tenant: str
    dag: str
    schedule: str
    instant_us: int
    outcome: InstantOutcome
    run_id: bytes | None
    reason: str


class RunRow(NamedTuple):
    """A new run."""

    day: int
    run: int
    run_id: bytes
    tenant: str
    dag: str
    bucket: int
    digest: bytes
    state: RunState
    cause: RunCause
    schedule: str
    logical_us: int
    created_us: int
    started_us: int | None
    semantics_version: int


class RunChangeRow(NamedTuple):
    """A run changed; a final one also has a SealedRow."""

    day: int
    run: int
    state: RunState
    reason: str
    started_us: int | None
    finished_us: int | None


class SealedRow(NamedTuple):
    """A final run in one row: `states` holds one byte per task, in the order of the version."""

    day: int
    run: int
    states: bytes


class LiveRow(NamedTuple):
    """A new live attempt of a task instance."""

    day: int
    run: int
    task: int
    expansion: int
    attempt_id: bytes
    number: int
    agent: str
    incarnation: bytes
    assigned_us: int


class StartedRow(NamedTuple):
    """A live attempt is known to run."""

    run: int
    task: int
    expansion: int
    started_us: int


class DoneRow(NamedTuple):
    """A live attempt ended: its live row goes, its history is appended."""

    day: int
    run: int
    task: int
    expansion: int
    attempt_id: bytes
    state: AttemptState
    started_us: int | None
    finished_us: int
    exit_code: int | None
    signal: int
    stdout_bytes: int
    stderr_bytes: int
    message: str


class LateRow(NamedTuple):
    """An attempt that had ended as LOST or UNKNOWN ended, as its agent says now. `adopted`: it
    decided the task instance.
    """

    day: int
    run: int
    task: int
    expansion: int
    attempt_id: bytes
    state: AttemptState
    started_us: int | None
    finished_us: int
    exit_code: int | None
    signal: int
    stdout_bytes: int
    stderr_bytes: int
    message: str
    adopted: bool
    reported_us: int


class WaitKind(IntEnum):
    """What a task instance waits for. A MARK waits for nothing: a person decided that it failed."""

    BACKOFF = 1
    APPROVAL = 2
    MARK = 4


class WaitRow(NamedTuple):
    """A task instance waits; `number` is the attempt that it waits for. `due_us`: of an APPROVAL
    and a MARK since when.
    """

    day: int
    run: int
    task: int
    expansion: int
    kind: WaitKind
    due_us: int
    number: int
    reason: str


class WaitGoneRow(NamedTuple):
    """A task instance no longer waits."""

    run: int
    task: int
    expansion: int
    kind: WaitKind


class CommandOutcome(IntEnum):
    """What became of a command."""

    APPLIED = 1
    NOT_FOUND = 2
    CONFLICT = 3
    REFUSED = 4
    QUARANTINED = 5


class AppliedRow(NamedTuple):
    """A command of the inbox is done with."""

    command: int
    outcome: CommandOutcome
    detail: str
    applied_us: int


class HoldRow(NamedTuple):
    """What the shard holds back from now on, as in RestoredRecord, and until when about."""

    hold: int
    until_us: int


@dataclass(slots=True)
class Writes:
    """All rows of one batch, by table and kind."""

    dags: list[DagRow] = field(default_factory=list)
    versions: list[VersionUseRow] = field(default_factory=list)
    schedules: list[ScheduleRow] = field(default_factory=list)
    schedules_gone: list[ScheduleGoneRow] = field(default_factory=list)
    instants: list[InstantRow] = field(default_factory=list)
    runs: list[RunRow] = field(default_factory=list)
    run_changes: list[RunChangeRow] = field(default_factory=list)
    sealed: list[SealedRow] = field(default_factory=list)
    done: list[DoneRow] = field(default_factory=list)
    late: list[LateRow] = field(default_factory=list)
    live: list[LiveRow] = field(default_factory=list)
    started: list[StartedRow] = field(default_factory=list)
    waits_gone: list[WaitGoneRow] = field(default_factory=list)
    waits: list[WaitRow] = field(default_factory=list)
    applied: list[AppliedRow] = field(default_factory=list)
    holds: list[HoldRow] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(_rows_of(self))


WRITE_KINDS = tuple(item.name for item in fields(Writes))
_rows_of = attrgetter(*WRITE_KINDS)


class AssignMessage(NamedTuple):
    """Give an attempt to an agent."""

    agent: str
    incarnation: bytes
    attempt_id: bytes
    number: int
    tenant: str
    dag: str
    run_id: bytes
    task: str
    logical_us: int
    exec_spec: bytes


class CancelMessage(NamedTuple):
    """Ask an agent to stop an attempt."""

    agent: str
    attempt_id: bytes


class ResultAckMessage(NamedTuple):
    """Tell an agent that a result is recorded."""

    agent: str
    attempt_id: bytes


class LeaseMessage(NamedTuple):
    """Let the attempts of this shard run on at an agent."""

    agent: str


Message = AssignMessage | CancelMessage | ResultAckMessage | LeaseMessage


class StrayNote(NamedTuple):
    """To be logged: an agent holds, or has ended, an attempt that a restored store has forgotten.
    `taken`: it goes on as a live attempt.
    """

    agent: str
    attempt_id: bytes
    ended: bool
    taken: bool


@dataclass(slots=True)
class Effects:
    """What one step asks of the shell: first the writes, then, once committed, the messages; and
    what to log.
    """

    writes: Writes = field(default_factory=Writes)
    messages: list[Message] = field(default_factory=list)
    strays: list[StrayNote] = field(default_factory=list)
