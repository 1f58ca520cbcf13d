"""Decides the rows that the store gives and takes, beyond those of the core.

Times are microseconds since the epoch (UTC). Ids of runs and attempts are 16 bytes. Specs and
bodies are bytes that the store does not look into.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.core.events import (
    DagRecord,
    EndRecord,
    LiveRecord,
    RestoredRecord,
    RunRecord,
    ScheduleRecord,
    WaitRecord,
)


class Fence(NamedTuple):
    """The right to write one batch: batches of an epoch are numbered from 1 without gaps."""

    shard: int
    epoch: int
    batch: int


class ShardState(NamedTuple):
    """Who leads a shard. Epoch 0: nobody has led it yet. `hold`: see RestoredRecord."""

    shard: int
    epoch: int
    batch: int
    holder: bytes
    node: str
    address: str
    taken_over_us: int
    hold: int = 0
    hold_until_us: int = 0


class ShardWord(NamedTuple):
    """What a leader of a shard said, to whoever remembers it: what it had committed by then.
    `holder` empty: not known.
    """

    shard: int
    epoch: int
    holder: bytes
    batch: int


class CommandRow(NamedTuple):
    """A command of the inbox that is not applied."""

    command: int
    tenant: str
    body: bytes


class VersionRow(NamedTuple):
    """The stored definition of a DAG version."""

    tenant: str
    dag: str
    digest: bytes
    spec: bytes


class RecoveredRows(NamedTuple):
    """`Recovered` of the core, with versions as they are stored: the leader compiles them."""

    versions: tuple[VersionRow, ...]
    dags: tuple[DagRecord, ...]
    schedules: tuple[ScheduleRecord, ...]
    runs: tuple[RunRecord, ...]
    live: tuple[LiveRecord, ...]
    ended: tuple[EndRecord, ...]
    waits: tuple[WaitRecord, ...]
    restored: RestoredRecord = RestoredRecord()
    unsaid: tuple[bytes, ...] = ()


class RequestKey(NamedTuple):
    """Makes a request repeatable: `key_hash` and `body_hash` are SHA-256, kept for `window_ms`."""

    key_hash: bytes
    body_hash: bytes
    window_ms: int = 86_400_000


class Appended(NamedTuple):
    """A command that is durable. `repeated`: it was there; `run_id` is the one given then."""

    command: int
    shard: int
    run_id: bytes | None
    repeated: bool


class CommandState(NamedTuple):
    """What became of a command; `outcome` None: not applied yet."""

    command: int
    shard: int
    outcome: int | None
    detail: str
    applied_us: int | None


class DagItem(NamedTuple):
    """A DAG. `next_us`: the next instant over all schedules, paused or not."""

    tenant: str
    dag: str
    bucket: int
    shard: int
    digest: bytes
    task_count: int
    paused: bool
    pause_reason: str
    revision: int
    created_us: int
    updated_us: int
    next_us: int | None


class VersionItem(NamedTuple):
    """A version of a DAG, since it was first current."""

    digest: bytes
    task_count: int
    created_us: int


class ScheduleItem(NamedTuple):
    """A schedule of a DAG."""

    schedule: str
    definition: str
    next_us: int | None


class RunItem(NamedTuple):
    """A run."""

    day: int
    run: int
    run_id: bytes
    shard: int
    tenant: str
    dag: str
    digest: bytes
    state: int
    reason: str
    cause: int
    schedule: str
    logical_us: int
    created_us: int
    started_us: int | None
    finished_us: int | None
    semantics_version: int


class PendingRun(NamedTuple):
    """A run that is a command still; with an outcome it was refused and never became a run."""

    command: int
    shard: int
    body: bytes
    created_us: int
    outcome: int | None
    detail: str


class LateItem(NamedTuple):
    """What its agent said of an attempt after it had been given up. `adopted`: it succeeded, and
    that decided its task instance. `reported_us`: when it was said, on the clock of the leader.
    """

    state: int
    started_us: int | None
    finished_us: int
    exit_code: int | None
    signal: int
    stdout_bytes: int
    stderr_bytes: int
    message: str
    adopted: bool
    reported_us: int


class AttemptItem(NamedTuple):
    """An attempt, live or ended; (epoch, batch) recorded its assignment, ended_* its result.

    It stays as it ended, LOST or UNKNOWN, whatever was said `late`; `decided` says what counts.
    """

    task: int
    expansion: int
    attempt_id: bytes
    number: int
    state: int
    agent: str
    assigned_us: int
    started_us: int | None
    finished_us: int | None
    exit_code: int | None
    signal: int
    stdout_bytes: int
    stderr_bytes: int
    message: str
    epoch: int
    batch: int
    ended_epoch: int | None
    ended_batch: int | None
    incarnation: bytes = b""
    late: LateItem | None = None

    def decided(self) -> AttemptItem:
        """The attempt as it counts for its task instance: an adopted late success is its end."""
        late = self.late
        if late is None or not late.adopted:
            return self
        return self._replace(
            state=late.state,
            started_us=late.started_us or self.started_us,
            finished_us=late.finished_us,
            exit_code=late.exit_code,
            signal=late.signal,
            stdout_bytes=late.stdout_bytes,
            stderr_bytes=late.stderr_bytes,
            message=late.message,
        )


class AttemptKey(NamedTuple):
    """Where a page of attempts goes on: strictly after this one."""

    task: int = -1
    expansion: int = -1
    number: int = -1
    assigned_us: int = -1
    attempt_id: bytes = b""


class RunTaskRows(NamedTuple):
    """All that says something about the tasks of one run, in one snapshot.

    `ended`: the last ended attempt of each task instance, as it counts: with an adopted late
    success it reads as SUCCEEDED (`late` still says so). `waits`: those of a final run are marks.
    `states`: those of a final run.
    """

    run: RunItem
    live: tuple[AttemptItem, ...]
    ended: tuple[AttemptItem, ...]
    waits: tuple[WaitRecord, ...]
    states: bytes | None


class ApprovalItem(NamedTuple):
    """A task instance that waits for a person since `since_us`; `task` is its number in the version
    `digest`, `number` that of the attempt that an approval would start.
    """

    run_id: bytes
    dag: str
    digest: bytes
    day: int
    run: int
    task: int
    expansion: int
    number: int
    since_us: int
    reason: str


class ApprovalKey(NamedTuple):
    """Where a page of approvals goes on: strictly after this one."""

    since_us: int = -1
    run: int = -1
    task: int = -1
    expansion: int = -1


class ShardItem(NamedTuple):
    """A shard with what is live in it. `hold`: see RestoredRecord; `hold_until_us` 0: its leader
    has not said until when.
    """

    shard: int
    epoch: int
    batch: int
    node: str
    address: str
    taken_over_us: int
    live_runs: int
    live_attempts: int
    quarantined: int
    hold: int = 0
    hold_until_us: int = 0
    restored_reason: str = ""


class AgentRow(NamedTuple):
    """What an agent said of itself when its last session began. `containment`: "namespace",
    "process", or empty where it was never said.
    """

    agent: str
    incarnation: bytes
    boot_id: str
    version: str
    cpu_millis: int
    memory_bytes: int
    connected_us: int
    containment: str = ""


class AgentItem(NamedTuple):
    """An agent with the number of its live attempts over all shards."""

    agent: str
    incarnation: bytes
    boot_id: str
    version: str
    cpu_millis: int
    memory_bytes: int
    connected_us: int
    live_attempts: int
    containment: str = ""


class TokenItem(NamedTuple):
    """A credential; its secret is not stored."""

    tenant: str
    role: str
    name: str
    created_us: int
