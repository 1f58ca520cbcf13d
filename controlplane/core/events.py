"""Decides what can be told to a shard.

Every event has a source that repeats it until it has had its effect: commands are rows of the
inbox, what agents say is said again in the next inventory, and timers are recomputed at recovery.
Does not know how an event arrived.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.core.states import AttemptState
from controlplane.core.types import DagKey, DagVersion


class ApplyDag(NamedTuple):
    """Command: make a version the current one. `etag` empty: whatever is current."""

    command: int
    version: DagVersion
    etag: str


class TriggerRun(NamedTuple):
    """Command: make a run of the current version. `run_id` was chosen by the caller."""

    command: int
    key: DagKey
    run_id: bytes
    logical_us: int


class CancelRun(NamedTuple):
    """Command: cancel a run."""

    command: int
    key: DagKey
    run_id: bytes
    reason: str


class PauseDag(NamedTuple):
    """Command: pause the schedules of a DAG, or resume them."""

    command: int
    key: DagKey
    paused: bool
    reason: str


class DecideApproval(NamedTuple):
    """Command: start another attempt of a task instance that waits for it, or have it fail."""

    command: int
    key: DagKey
    run_id: bytes
    task: str
    approved: bool
    reason: str


class Finished(NamedTuple):
    """An agent reports the end of an attempt. Times on the agent's clock; `started_us` 0: it surely
    never started.
    """

    agent: str
    attempt_id: bytes
    state: AttemptState
    started_us: int
    finished_us: int
    exit_code: int | None
    signal: int
    stdout_bytes: int
    stderr_bytes: int
    message: str


class Started(NamedTuple):
    """An agent reports that the process of an attempt was spawned."""

    agent: str
    attempt_id: bytes
    started_us: int


class Rejected(NamedTuple):
    """An agent refuses an attempt; nothing was started."""

    agent: str
    attempt_id: bytes
    message: str


class Subject(NamedTuple):
    """What an attempt is of, as its agent was told."""

    attempt_id: bytes
    run_id: bytes
    task: str
    number: int


class Inventory(NamedTuple):
    """All that an agent holds for this shard: after it, the shard may assign to the agent.

    `live`: (attempt id, start in microseconds or 0) of each attempt that it holds. `subjects`: of
    these and of those that finished; an agent may leave them out.
    """

    agent: str
    incarnation: bytes
    live: tuple[tuple[bytes, int], ...]
    finished: tuple[Finished, ...]
    subjects: tuple[Subject, ...] = ()


class Beat(NamedTuple):
    """An agent that has this shard's attempts is alive: its heartbeat asks for their leases."""

    agent: str
    incarnation: bytes


class AgentGone(NamedTuple):
    """The session of an agent ended; its attempts stay live."""

    agent: str


Event = (
    ApplyDag
    | TriggerRun
    | CancelRun
    | PauseDag
    | DecideApproval
    | Finished
    | Started
    | Rejected
    | Inventory
    | Beat
    | AgentGone
)


class RunRecord(NamedTuple):
    """Recovery: a live run as the store has it."""

    day: int
    run: int
    run_id: bytes
    key: DagKey
    digest: bytes
    state: int
    reason: str
    cause: int
    schedule: str
    logical_us: int
    created_us: int
    started_us: int | None


class LiveRecord(NamedTuple):
    """Recovery: a live attempt as the store has it. `epoch`: of its assignment."""

    run: int
    task: int
    expansion: int
    attempt_id: bytes
    number: int
    agent: str
    incarnation: bytes
    assigned_us: int
    started_us: int | None
    epoch: int = 0


class EndRecord(NamedTuple):
    """Recovery: the last ended attempt of a task instance of a live run. `state` is SUCCEEDED
    where a late success of it was adopted. `epoch`: of its assignment.
    """

    run: int
    task: int
    expansion: int
    number: int
    state: int
    finished_us: int
    attempt_id: bytes
    epoch: int = 0


class WaitRecord(NamedTuple):
    """Recovery: a task instance that waits."""

    run: int
    task: int
    expansion: int
    kind: int
    due_us: int
    number: int
    reason: str


class DagRecord(NamedTuple):
    """Recovery: the head of a DAG."""

    key: DagKey
    digest: bytes
    task_count: int
    paused: bool
    pause_reason: str
    revision: int
    created_us: int


class ScheduleRecord(NamedTuple):
    """Recovery: a schedule with its next instant."""

    key: DagKey
    schedule: str
    definition: str
    next_us: int | None


class RestoredRecord(NamedTuple):
    """Recovery: that the store went back in time, so that commits of before were lost.

    `epoch` is the first one afterwards, `us` when it was found out; both 0: it never happened.
    `hold`: 0 nothing is held back, 1 what may run longer than a lease, 2 everything.
    """

    epoch: int = 0
    us: int = 0
    hold: int = 0
    reason: str = ""


class Unreadable(NamedTuple):
    """Recovery: a stored version that this node cannot read, and why."""

    key: DagKey
    digest: bytes
    reason: str


class Recovered(NamedTuple):
    """All that a shard needs from the store to go on.

    `versions` holds the compiled versions of all live runs, and of all DAGs with schedules or
    queued runs, but those that are `unreadable`; other versions are asked for when a command names
    them. `unsaid`, only while something is held back: ids of the attempts of live runs that were
    refused, lost or are unknown.
    """

    versions: tuple[DagVersion, ...]
    dags: tuple[DagRecord, ...]
    schedules: tuple[ScheduleRecord, ...]
    runs: tuple[RunRecord, ...]
    live: tuple[LiveRecord, ...]
    ended: tuple[EndRecord, ...]
    waits: tuple[WaitRecord, ...]
    restored: RestoredRecord = RestoredRecord()
    unsaid: tuple[bytes, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
